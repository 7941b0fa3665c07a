"""An ablation: every method on every task, searched, trained over report seeds and recorded."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from optuna.storages import BaseStorage

from harness.analysis.interim import InterimPlan, interim_plan
from harness.config import ROUND, StudyConfig
from harness.data.sources import TaskData, load_task_data
from harness.data.tasks import load_task
from harness.errors import DataError, MethodError, NothingLeftError, TeacherError, UserError
from harness.experiment.flows import Flow, PreparationRequest, TaskContext
from harness.experiment.manifest import ablation_manifest, ablation_name, identity_of
from harness.experiment.pool_runs import PoolRuns
from harness.experiment.report_runs import ReportRuns
from harness.experiment.scheduler import Scheduler
from harness.experiment.search_runs import SearchRuns
from harness.experiment.studies import Study, label_of, studies_of
from harness.method import Method
from harness.registry.discovery import chosen_methods
from harness.registry.instantiate import usable_methods
from harness.registry.space import check_names, space_of
from harness.runtime.progress import say
from harness.storage.claims import Claims
from harness.storage.fingerprint import fingerprint
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest, StudyManifest
from harness.workers.prepared_task import PreparedTask, TaskOutcome

REFUSALS = (TeacherError, MethodError, DataError)
"""Errors that leave a task or a method out. The others go on."""


@dataclass
class Ablation:
    """The studies of one command, or of one of its repeats."""

    config: StudyConfig
    ledger: Ledger
    claims: Claims
    optuna: BaseStorage
    command: str
    repeat: int | None = None
    """The number of the repeat, which has search and report seeds of its own; None without repeats."""
    name: str = ""
    """The ablation's name, once its manifest is written."""

    def flow(
        self, tasks: Mapping[str, TaskData], refusals: dict[str, str], scheduler: Scheduler
    ) -> Generator[PreparationRequest, Mapping[str, TaskOutcome | UserError], None]:
        """Have data and teachers made ready, write the manifest, and begin the flows of all runs.

        The reason why a task, or a method on a task, is refused enters `refusals`. The others go on.

        Raises:
            NothingLeftError: every task is refused.
        """
        usable_tasks = [task for task, data in tasks.items() if self._spaces_fit(data, refusals)]
        outcomes = yield PreparationRequest(self.config, usable_tasks, (self.repeat or 0,))
        studies: dict[str, dict[str, str]] = {}
        prepared_tasks: dict[str, PreparedTask] = {}
        for task in usable_tasks:
            outcome = outcomes[task]
            try:
                if isinstance(outcome, UserError):
                    raise outcome
                prepared = PreparedTask(self.config, tasks[task], outcome)
                studies[task] = self._write_studies(prepared, refusals)
            except REFUSALS as error:
                refuse(refusals, task, error)
            else:
                prepared_tasks[task] = prepared
        if not prepared_tasks:
            raise NothingLeftError("; ".join(refusals.values()))
        manifest = self._write_manifest(studies, prepared_tasks, refusals)
        for number, (task, names) in enumerate(studies.items()):
            context = TaskContext(
                prepared_tasks[task],
                self.ledger,
                self.claims,
                self.optuna,
                (self.repeat or 0, number),
            )
            for flow in self._task_flows(context, names, manifest, scheduler.workers.count):
                scheduler.start(flow)

    def _write_manifest(
        self,
        studies: Mapping[str, Mapping[str, str]],
        tasks: Mapping[str, PreparedTask],
        refusals: Mapping[str, str],
    ) -> Manifest:
        """Write the manifest and the texts of the reported splits, before any run."""
        self.name = ablation_name(self.config, studies, self.repeat)
        manifest = ablation_manifest(
            self.config,
            self.ledger,
            self.name,
            studies,
            tasks,
            refusals,
            command=self.command,
            repeat=self.repeat,
        )
        for prepared in tasks.values():
            split = next(iter(prepared.data.evaluation.values()))
            self.ledger.write_texts(split.sha256, split.ids, split.texts)
        self.ledger.write_ablation(manifest)
        return manifest

    def _task_flows(
        self, context: TaskContext, names: Mapping[str, str], manifest: Manifest, workers: int
    ) -> Iterator[Flow]:
        """The flows of a task's runs.

        With several workers no search waits for another, unless looks at the scores join the methods.
        One worker trains the rounds of all methods together, in larger populations.
        """
        task, repeat = context.prepared.task, self.repeat or 0
        studies = studies_of(self.config, names, task.regression)
        if self.config.protocol.unit == "methods":
            yield PoolRuns(context, studies, repeat).flow(manifest)
            return
        plan = interim_plan(manifest, task.metrics[0])
        joined = workers == 1 or plan is not None
        for group in [studies] if joined else [[study] for study in studies]:
            yield _search_and_report(context, group, repeat, plan)

    def _spaces_fit(self, data: TaskData, refusals: dict[str, str]) -> bool:
        """Whether the methods' spaces can be searched on a task. The reason enters `refusals`."""
        try:
            for method in chosen_methods(self.config):
                space_of(method, self.config.search, data.task.regression)
        except MethodError as error:
            refuse(refusals, data.task.name, error)
            return False
        return True

    def _write_studies(self, prepared: PreparedTask, refusals: dict[str, str]) -> dict[str, str]:
        """Write the studies on a task; returns their names by method.

        Methods that cannot be used are left out, with the reason in `refusals`.

        Raises:
            MethodError: nothing is left to compare.
        """
        task = prepared.task

        def check(method: type[Method]) -> None:
            space = space_of(method, self.config.search, task.regression)
            prepared.check(method, space.constants)

        kinds, errors = usable_methods(chosen_methods(self.config), self.config.baseline, check)
        for name, error in errors.items():
            refuse(refusals, f"{name} on {task.name}", error)
        return {kind.name: self._write_study(kind, prepared) for kind in kinds}

    def _write_study(self, method: type[Method], prepared: PreparedTask) -> str:
        """Write the study of a method on a task; returns its name."""
        task, data, outcome = prepared.task, prepared.data, prepared.outcome
        space = space_of(method, self.config.search, task.regression)
        identity = {
            **identity_of(self.config, self.repeat),
            "round": ROUND,
            "task": task.name,
            "method": method.name,
            "space": {name: repr(d) for name, d in sorted(space.distributions.items())},
            "fixed": space.constants,
            "teacher_fingerprint": outcome.teacher.fingerprint,
            "train": data.train.sha256,
            "selection": data.selection.sha256,
            "evaluation": [[k, split.sha256] for k, split in data.evaluation.items()],
            "precision_used": outcome.precision,
            "run": prepared.run(method, "", {}, 0, 0, "search").fingerprint,
        }
        kind = self.config.source.kind
        name = f"{kind}-{task.name}-{method.name}-{fingerprint(identity)[:8]}"
        self.ledger.write_study(
            name,
            StudyManifest(
                identity=identity, space=identity["space"], shapes=asdict(outcome.shapes)
            ),
        )
        return name


def _search_and_report(
    context: TaskContext, studies: Sequence[Study], repeat: int, plan: InterimPlan | None
) -> Flow:
    """Search settings for studies, and train the selected settings over report seeds."""
    search = SearchRuns(context, studies, repeat)
    yield from search.flow()
    report = ReportRuns(context, search.selections(), repeat)
    yield from report.flow(plan, label_of(context.prepared.task.name, studies))


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
