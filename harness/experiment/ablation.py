"""An ablation: every method on every task, searched, trained over report seeds and recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.analysis.interim import interim_plan
from harness.config import ROUND, StudyConfig
from harness.data.sources import TaskData, load_task_data
from harness.data.tasks import load_task
from harness.errors import DataError, MethodError, NothingLeftError, TeacherError, UserError
from harness.experiment.executor import Executor
from harness.experiment.manifest import ablation_manifest, ablation_name, identity_of
from harness.experiment.pool_runs import PoolRuns
from harness.experiment.report_runs import ReportRuns
from harness.experiment.search_runs import SearchRuns
from harness.experiment.studies import label_of, studies_of
from harness.method import Method
from harness.registry.discovery import chosen_methods
from harness.registry.instantiate import usable_methods
from harness.registry.space import check_names, space_of
from harness.runtime.device import Arithmetic
from harness.runtime.progress import say
from harness.storage.claims import Claims
from harness.storage.fingerprint import fingerprint
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest, StudyManifest
from harness.training.task_setup import Materials, prepare

REFUSALS = (TeacherError, MethodError, DataError)
"""Errors that leave a task or a method out. The others go on."""


@dataclass(frozen=True)
class PreparedAblation:
    """An ablation whose manifest is written, and the executors of its tasks until they are trained."""

    name: str
    manifest: Manifest
    executors: dict[str, Executor]


@dataclass
class Ablation:
    """The studies of one command, or of one of its repeats."""

    config: StudyConfig
    arithmetic: Arithmetic
    ledger: Ledger
    claims: Claims
    command: str
    repeat: int | None = None
    """The number of the repeat, which has search and report seeds of its own; None without repeats."""

    def prepare(self, tasks: Mapping[str, TaskData], refusals: dict[str, str]) -> PreparedAblation:
        """Make data and teachers ready and write the ablation's manifest, before any run.

        The reason why a task, or a method on a task, is refused enters `refusals`. The others go on.

        Raises:
            NothingLeftError: every task is refused.
        """
        studies: dict[str, dict[str, str]] = {}
        task_materials: dict[str, Materials] = {}
        executors: dict[str, Executor] = {}
        for task, data in tasks.items():
            try:
                self._check_spaces(data)
                materials = prepare(self.config, data, self.arithmetic, Path(self.config.out))
                executor = Executor(self.config, materials, self.ledger, self.claims)
                studies[task] = self._write_studies(executor, refusals)
            except REFUSALS as error:
                refuse(refusals, task, error)
            else:
                task_materials[task], executors[task] = materials, executor
        if not task_materials:
            raise NothingLeftError("; ".join(refusals.values()))
        name = ablation_name(self.config, studies, self.repeat)
        manifest = ablation_manifest(
            self.config,
            self.ledger,
            name,
            studies,
            task_materials,
            refusals,
            command=self.command,
            repeat=self.repeat,
        )
        for materials in task_materials.values():
            split = next(iter(materials.data.evaluation.values()))
            self.ledger.write_texts(split.sha256, split.ids, split.texts)
        self.ledger.write_ablation(manifest)
        return PreparedAblation(name, manifest, executors)

    def train(self, preparation: PreparedAblation) -> None:
        """Train every run that has no record yet, task by task."""
        for task, names in preparation.manifest.studies.items():
            # Nothing keeps an executor after its task, for it holds a part of a GPU's memory.
            self._train_task(preparation.executors.pop(task), names, preparation.manifest)

    def _train_task(self, executor: Executor, names: Mapping[str, str], manifest: Manifest) -> None:
        """Train the trials of a task's pools; or the search runs, then the report runs of the settings
        they select."""
        task = executor.materials.data.task
        studies = studies_of(self.config, names, task.regression)
        if self.config.protocol.unit == "methods":
            PoolRuns(self.config, executor, studies, self.repeat or 0).train(manifest)
            return
        search = SearchRuns(self.config, executor, studies, self.repeat or 0)
        search.train()
        report = ReportRuns(self.config, executor, search.selections(), self.repeat or 0)
        report.train(interim_plan(manifest, task.metrics[0]), label_of(task.name, studies))

    def _check_spaces(self, data: TaskData) -> None:
        for method in chosen_methods(self.config):
            space_of(method, self.config.search, data.task.regression)

    def _write_studies(self, executor: Executor, refusals: dict[str, str]) -> dict[str, str]:
        """Write the studies on a task; returns their names by method.

        Methods that cannot be used are left out, with the reason in `refusals`.

        Raises:
            MethodError: nothing is left to compare.
        """
        task = executor.materials.data.task

        def check(method: type[Method]) -> None:
            space = space_of(method, self.config.search, task.regression)
            executor.trainer.check(method, space.constants)

        kinds, errors = usable_methods(chosen_methods(self.config), self.config.baseline, check)
        for name, error in errors.items():
            refuse(refusals, f"{name} on {task.name}", error)
        return {kind.name: self._write_study(kind, executor) for kind in kinds}

    def _write_study(self, method: type[Method], executor: Executor) -> str:
        """Write the study of a method on a task; returns its name."""
        materials = executor.materials
        task = materials.data.task
        space = space_of(method, self.config.search, task.regression)
        shapes = materials.shapes(self.config)
        identity = {
            **identity_of(self.config, self.repeat),
            "round": ROUND,
            "task": task.name,
            "method": method.name,
            "space": {name: repr(d) for name, d in sorted(space.distributions.items())},
            "fixed": space.constants,
            "teacher_fingerprint": materials.teacher.fingerprint,
            "train": materials.data.train.sha256,
            "selection": materials.data.selection.sha256,
            "evaluation": [[k, split.sha256] for k, split in materials.data.evaluation.items()],
            "precision_used": self.arithmetic.name,
            "run": executor.trainer.run(method, "", {}, 0, 0, "search").fingerprint,
        }
        kind = self.config.source.kind
        name = f"{kind}-{task.name}-{method.name}-{fingerprint(identity)[:8]}"
        self.ledger.write_study(
            name, StudyManifest(identity=identity, space=identity["space"], shapes=asdict(shapes))
        )
        return name


def load_tasks(config: StudyConfig) -> tuple[dict[str, TaskData], dict[str, str]]:
    """The data of every task that can be read, and why the others cannot.

    Raises:
        UserError: no task can be read.
    """
    tasks: dict[str, TaskData] = {}
    refusals: dict[str, str] = {}
    check_names(chosen_methods(config), config.search)
    for name in config.tasks:
        try:
            tasks[name] = load_task_data(
                load_task(name, config.task_files), config.source, config.protocol
            )
        except DataError as error:
            refuse(refusals, name, error)
    if not tasks:
        raise DataError("; ".join(refusals.values()))
    return tasks, refusals


def refuse(refusals: dict[str, str], name: str, error: UserError) -> None:
    """Note why a task, or a method on a task, is left out, and say so."""
    refusals[name] = str(error)
    say(f"{name} is left out: {error}")
