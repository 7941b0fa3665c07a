"""A worker's workshop: the tasks that a process has made ready, kept from one job to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import transformers

from harness.config import ClusterConfig, StudyConfig, json_values
from harness.data.sources import load_task_data
from harness.data.splits import TaskData
from harness.data.tasks import Task, load_task
from harness.data.transfer import transfer_file
from harness.runtime.cpu import hold_memory, set_threads
from harness.runtime.device import choose_arithmetic
from harness.runtime.progress import redirected
from harness.storage.fingerprint import canonical
from harness.training.task_setup import prepare
from harness.workers.trainer import Trainer

MOST_TASKS = 2
"""The tasks that stay in memory, and on a GPU. Another task is prepared again from its files."""


def settle_process(threads: int) -> None:
    """Silence the libraries' progress bars and advice, and set up threads and memory."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    set_threads(threads)
    hold_memory()


class Workshop:
    """The trainers of the tasks that were used last, by configuration and task."""

    def __init__(self, data: Mapping[str, TaskData] | None = None) -> None:
        """`data` are tasks that this process has read already, by name."""
        self.data = dict(data or {})
        self._trainers: dict[str, Trainer] = {}

    def trainer(self, config: StudyConfig, task: str) -> Trainer:
        """The trainer of a task; prepares the task where it is not in memory.

        Raises:
            UserError: the data, the teacher or the methods cannot be used.
        """
        key = canonical([json_values(config), task])
        trainer = self._trainers.pop(key, None)
        if trainer is None:
            trainer = self._shared(config, task)
            while len(self._trainers) >= MOST_TASKS:
                del self._trainers[next(iter(self._trainers))]
            trainer = trainer or self._prepare(config, task)
        self._trainers[key] = trainer
        return trainer

    def prepared_trainer(self, config: StudyConfig, task: str) -> Trainer:
        """The trainer of a task that has been prepared, here or elsewhere; says nothing again."""
        with redirected(lambda line: None):
            return self.trainer(config, task)

    def _shared(self, config: StudyConfig, task: str) -> Trainer | None:
        """A trainer of materials that another configuration in memory has made ready."""
        key = materials_key(config, task)
        for trainer in self._trainers.values():
            if materials_key(trainer.config, trainer.prepared.task.name) == key:
                return Trainer(config, trainer.materials)
        return None

    def _prepare(self, config: StudyConfig, task: str) -> Trainer:
        arithmetic = choose_arithmetic(config.device, config.training.precision)
        data = self.data.get(task) or load_task_data(
            load_task(task, config.task_files), config.source, config.protocol, config.transfer
        )
        return Trainer(config, prepare(config, data, arithmetic, Path(config.out)))


STUDENTS_OWN = ("epochs", "batch_size", "embeddings", "stages")
"""Keys of the configuration's training that teachers do not read."""


def teacher_key(config: StudyConfig, task: str) -> str:
    """The key of a task's tokens, teacher and teacher outputs: the configuration without other keys."""
    values = json_values(config)
    training = {k: v for k, v in values["training"].items() if k not in STUDENTS_OWN}
    others = dict.fromkeys(("student", "search", "pooling"))
    return canonical([{**values, **others, "training": training}, task])


def materials_key(config: StudyConfig, task: str) -> str:
    """The key of all materials of a task: of its teacher, and of what students start from."""
    student = config.student
    copied = None if student.init == "random" else student.origin
    start = copied if student.checkpoint is None else ["checkpoint", student.checkpoint]
    return canonical([teacher_key(config, task), start, config.pooling])


def portable(config: StudyConfig, task: Task) -> StudyConfig:
    """The configuration for workers on a task: absolute paths, no storage and no cluster of the driver.

    It names the unlabelled texts too that the task's description names.
    """
    config = replace(with_absolute_folders(config), storage=None, cluster=ClusterConfig())
    file = transfer_file(task, config.source, config.transfer)
    return replace(
        config, transfer=replace(config.transfer, file=None if file is None else str(file))
    )


def with_absolute_folders(config: StudyConfig) -> StudyConfig:
    """The configuration with absolute paths instead of those relative to the working directory."""
    folder, checkpoint = config.source.folder, config.teacher.checkpoint
    file, student = config.transfer.file, config.student.checkpoint
    return replace(
        config,
        out=str(Path(config.out).absolute()),
        task_files={task: str(Path(file).absolute()) for task, file in config.task_files.items()},
        source=replace(config.source, folder=folder and _absolute_path(folder)),
        transfer=replace(config.transfer, file=file and str(Path(file).absolute())),
        teacher=replace(
            config.teacher,
            checkpoint=checkpoint and _absolute_path(checkpoint, config.tasks),
            pretrained=_absolute_path(config.teacher.pretrained, config.tasks),
        ),
        student=replace(
            config.student, checkpoint=student and _absolute_path(student, config.tasks)
        ),
    )


def _absolute_path(name: str, tasks: Sequence[str] = ("",)) -> str:
    """The absolute path of a folder, where {task} may stand for a task. Other names stay the same."""
    is_folder = any(Path(name.replace("{task}", task)).is_dir() for task in tasks)
    return str(Path(name).absolute()) if is_folder else name
