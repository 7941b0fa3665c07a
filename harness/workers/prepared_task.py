"""A prepared task: all that the driver of a study knows of a task that a worker has made ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from transformers import PretrainedConfig

from harness.config import Precision, StudyConfig
from harness.data.splits import TaskData
from harness.data.tasks import Task
from harness.method import Method, Shapes, Value
from harness.metric_table import metric_of
from harness.pooling_table import pooling_row
from harness.registry.instantiate import check_method
from harness.registry.label_readers import refuse_label_reader
from harness.registry.source import function_source, method_source
from harness.storage.manifest import SplitFacts, TeacherFacts
from harness.storage.record import CustomTask, HalvingRound, Role, RunInputs, SplitHash
from harness.training.loop import RESULTS_VERSION
from harness.training.run import Run
from harness.training.stages import stages_of


@dataclass(frozen=True)
class TaskOutcome:
    """The outcome of a task's preparation, small enough to travel between processes."""

    teacher: TeacherFacts
    from_outside: bool
    """Whether the teacher was fine-tuned elsewhere."""
    start_fingerprint: str
    shapes: Shapes
    teacher_encoder: PretrainedConfig
    student_encoder: PretrainedConfig
    engine: Literal["stacked", "reference"]
    precision: Precision
    device: str
    """The kind of device that trains: `cpu` or `cuda`."""
    steps: int
    """Optimizer steps of one run."""
    splits: Mapping[str, SplitFacts] = field(default_factory=dict)
    """Facts of the splits by name."""
    folders: tuple[str, ...] = ()
    """The task's sealed folders, relative to `--out`."""


@dataclass(frozen=True)
class PreparedTask:
    """A task with its data and the outcome of its preparation, under one configuration.

    Makes runs, with everything that their results depend on.
    """

    config: StudyConfig
    data: TaskData
    outcome: TaskOutcome

    @property
    def task(self) -> Task:
        """The task."""
        return self.data.task

    def check(self, method: type[Method], setting: Mapping[str, Value]) -> None:
        """Check that a method can be used with this teacher and depth. Raises `MethodError`.

        `setting` holds the hyper-parameters that the space fixes.
        """
        if self.data.transfer is not None:
            refuse_label_reader(method)
        encoders = (self.outcome.student_encoder, self.outcome.teacher_encoder)
        check_method(method, self.outcome.shapes, encoders, setting)

    def run(
        self,
        method: type[Method],
        study: str,
        setting: Mapping[str, Value],
        trial: int,
        seed: int,
        role: Role,
        round_settings: Sequence[Mapping[str, Value]] = (),
    ) -> Run:
        """The run of a setting and seed, with everything that its result depends on.

        With rungs that includes the settings of its round, `round_settings`.
        """
        config, data, outcome = self.config, self.data, self.outcome
        splits = {"selection": data.selection} if role == "search" else data.evaluation
        competes = config.search.rungs and role == "search"
        is_trial = role == "report" and config.protocol.unit == "methods"
        inputs = RunInputs(
            results_version=RESULTS_VERSION,
            task=_task_identity(data.task),
            source=config.source.kind,
            method=method.name,
            method_source=method_source(method),
            setting=setting,
            seed=seed,
            role=role,
            teacher=outcome.teacher.fingerprint,
            student=config.student,
            start=outcome.start_fingerprint,
            pooling=config.pooling,
            pooling_source=function_source(pooling_row(method.view(config.pooling).pooling).pool),
            metric_sources=tuple(
                function_source(metric.statistic, metric.is_undefined)
                for metric in map(metric_of, data.task.metrics)
            ),
            training=replace(
                config.training,
                precision=outcome.precision,
                engine=outcome.engine,
                stages=stages_of(method, config.training.stages).text,
            ),
            weights=config.search.weights,
            device=outcome.device,
            train=data.train.sha256,
            transfer=None if data.transfer is None else data.transfer.sha256,
            evaluation=tuple(SplitHash(name, split.sha256) for name, split in splits.items()),
            selection=data.selection.sha256 if is_trial else None,
            halving=HalvingRound(config.search.rungs, tuple(round_settings)) if competes else None,
        )
        return Run(method, study, trial, seed, role, setting, inputs)


def _task_identity(task: Task) -> str | CustomTask:
    """The identity of a task in the inputs of runs."""
    return CustomTask(task.name, task.labels, task.metrics) if task.custom else task.name
