"""An ablation: every method on every task, searched, trained over report seeds and recorded."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field

from optuna.storages import BaseStorage

from harness.analysis.interim import interim_plan
from harness.axis_names import task_in_cell
from harness.config import ROUND, StudyConfig
from harness.data.checks import check_data
from harness.data.sources import load_task_data
from harness.data.splits import TaskData
from harness.data.tasks import load_task
from harness.errors import DataError, MethodError, NothingLeftError, TeacherError, UserError
from harness.experiment.flows import Flow, PreparationRequest, TaskContext, WaitRequest
from harness.experiment.manifest import (
    ablation_manifest,
    ablation_name,
    identity_of,
    request_of,
)
from harness.experiment.pool_runs import PoolRuns
from harness.experiment.report_runs import ReportRuns
from harness.experiment.scheduler import Scheduler
from harness.experiment.search_runs import SearchRuns
from harness.experiment.speeds import with_earlier_timings
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
from harness.workers.prepared_task import PreparedTask

REFUSALS = (TeacherError, MethodError, DataError)
"""Errors that leave a task or a method out. The others go on."""
ON = " on "
"""Between a method and a task in the name of a refusal."""


class Design:
    """The tasks and studies of an ablation, which are known when the last task has been prepared."""

    def __init__(self, tasks: Sequence[str], refusals: dict[str, str], cell: str = "") -> None:
        """The reason why a task, or a method on a task, is refused enters `refusals`.

        Names of tasks in refusals have the name of the `cell`, if it has one.
        """
        self.refusals = refusals
        self.cell = cell
        self._places: dict[str, PreparedTask | None] = dict.fromkeys(tasks)
        self._studies: dict[str, Mapping[str, str]] = {}
        self._open = set(tasks)

    def add(self, prepared: PreparedTask, studies: Mapping[str, str]) -> None:
        """Add a task with the names of its studies by method."""
        self._places[prepared.task.name] = prepared
        self._studies[prepared.task.name] = studies
        self._open.remove(prepared.task.name)

    def leave_out(self, task: str, error: UserError) -> None:
        """Leave a task out."""
        refuse(self.refusals, task_in_cell(task, self.cell), error)
        self._open.remove(task)

    @property
    def is_complete(self) -> bool:
        """Whether every task has been added or left out."""
        return not self._open

    def sorted_refusals(self, tasks: Sequence[str]) -> dict[str, str]:
        """The refusals in the order of these tasks, whichever was prepared first."""

        names = [task_in_cell(task, self.cell) for task in tasks]

        def place(entry: tuple[str, str]) -> int:
            return next(
                number
                for number, name in enumerate(names)
                if entry[0] == name or entry[0].endswith(ON + name)
            )

        return dict(sorted(self.refusals.items(), key=place))

    @property
    def tasks(self) -> dict[str, PreparedTask]:
        """The tasks that are not left out, in the order of the command."""
        return {task: prepared for task, prepared in self._places.items() if prepared is not None}

    @property
    def studies(self) -> dict[str, Mapping[str, str]]:
        """The names of the studies by task and method, in the order of the command."""
        return {task: self._studies[task] for task in self.tasks}


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
    cell: str = ""
    """The name of the cell; empty without axes."""
    place: int = 0
    """The number of the cell."""
    name: str = ""
    """The ablation's name, once its manifest is written."""
    unused_studies: set[str] = field(default_factory=set)
    """The studies that had no report runs before this command."""
    design: Future[Design] = field(default_factory=Future)
    """The tasks and studies, once the last task has been prepared or refused."""
    manifest: Future[Manifest] = field(default_factory=Future)
    """The manifest, once it is written."""

    def flow(
        self, tasks: Mapping[str, TaskData], refusals: dict[str, str], scheduler: Scheduler
    ) -> Generator[WaitRequest, Future[Design], None]:
        """Begin the flows of all tasks, and write the manifest when the last task is prepared.

        Raises:
            NothingLeftError: every task is refused.
        """
        self.begin(tasks, refusals, scheduler)
        yield from self.manifest_flow()

    def manifest_flow(self) -> Generator[WaitRequest, Future[Design], None]:
        """Write the manifest when the last task is prepared.

        Raises:
            NothingLeftError: every task is refused.
        """
        self._write_manifest((yield WaitRequest(self.design)).result())

    def begin(
        self, tasks: Mapping[str, TaskData], refusals: dict[str, str], scheduler: Scheduler
    ) -> None:
        """Begin the flows of all tasks. The last task that is prepared completes the design.

        The reason why a task, or a method on a task, is refused enters `refusals`. The others go on.
        """
        for flow in self.task_flows(tasks, refusals, scheduler).values():
            scheduler.start(flow)

    def task_flows(
        self, tasks: Mapping[str, TaskData], refusals: dict[str, str], scheduler: Scheduler
    ) -> dict[str, Flow]:
        """The flows of all tasks that can be searched, by task, for `begin`."""
        usable_tasks = [task for task, data in tasks.items() if self._spaces_fit(data, refusals)]
        design = Design(usable_tasks, refusals, self.cell)
        if design.is_complete:
            self.design.set_result(design)
        return {
            task: self._task_flow(tasks[task], number, design, scheduler)
            for number, task in enumerate(usable_tasks)
        }

    def _task_flow(self, data: TaskData, number: int, design: Design, scheduler: Scheduler) -> Flow:
        """Have a task's data and teacher made ready, and begin the flows of its runs."""
        outcome = yield PreparationRequest(self.config, data.task, (self.repeat or 0,))
        try:
            if isinstance(outcome, UserError):
                raise outcome
            prepared = PreparedTask(self.config, data, outcome)
            names = self._write_studies(prepared, design.refusals)
        except REFUSALS as error:
            design.leave_out(data.task.name, error)
        else:
            design.add(prepared, names)
            self.unused_studies |= {
                name for name in names.values() if not self.ledger.has_report_runs([name])
            }
            order = (self.repeat or 0, number, self.place)
            name = task_in_cell(prepared.task.name, self.cell)
            context = TaskContext(prepared, self.ledger, self.claims, self.optuna, order, name)
            for flow in self._run_flows(context, names, scheduler.workers.count):
                scheduler.start(flow)
        if design.is_complete:
            self.design.set_result(design)

    def _write_manifest(self, design: Design) -> None:
        """Write the manifest and the texts of the reported splits.

        Runs may have ended by now. No part of the manifest depends on them: it follows from the
        configuration, the data and the teachers.
        """
        refusals = design.sorted_refusals(self.config.tasks)
        if not design.tasks:
            raise NothingLeftError("; ".join(dict.fromkeys(refusals.values())))
        self.name = ablation_name(self.config, design.studies, self.repeat)
        manifest = ablation_manifest(
            self.config,
            self.ledger,
            self.name,
            design.studies,
            design.tasks,
            refusals,
            self.unused_studies,
            command=self.command,
            repeat=self.repeat,
        )
        manifest = with_earlier_timings(self.ledger, manifest)
        self.write_texts(design)
        self.ledger.write_ablation(manifest)
        self.manifest.set_result(manifest)

    @property
    def prepared(self) -> dict[str, PreparedTask]:
        """The tasks that are not left out, by their names in the manifest."""
        tasks = self.design.result().tasks
        return {task_in_cell(task, self.cell): prepared for task, prepared in tasks.items()}

    def write_texts(self, design: Design) -> None:
        """Write the texts of the reported splits."""
        for prepared in design.tasks.values():
            split = next(iter(prepared.data.evaluation.values()))
            self.ledger.write_texts(split.sha256, split.ids, split.texts)

    def _run_flows(
        self, context: TaskContext, names: Mapping[str, str], workers: int
    ) -> Iterator[Flow]:
        """The flows of a task's runs.

        With several workers no search waits for another, unless looks at the scores join the methods.
        One worker trains the rounds of all methods together, in larger populations.
        """
        task, repeat = context.prepared.task, self.repeat or 0
        studies = studies_of(self.config, names, task.regression)
        if self.config.protocol.unit == "methods":
            yield PoolRuns(context, studies, repeat).flow(self.manifest)
            return
        joined = workers == 1 or self.config.protocol.stopping == "sequential"
        for group in [studies] if joined else [[study] for study in studies]:
            yield _search_and_report(context, group, repeat, self.manifest)

    def _spaces_fit(self, data: TaskData, refusals: dict[str, str]) -> bool:
        """Whether the methods' spaces can be searched on a task. The reason enters `refusals`.

        Methods that cannot be searched are left out later, unless nothing would be left to compare.
        """

        def check(method: type[Method]) -> None:
            space_of(method, self.config.search, data.task.regression)

        try:
            usable_methods(chosen_methods(self.config), self.config.baseline, check)
        except MethodError as error:
            refuse(refusals, task_in_cell(data.task.name, self.cell), error)
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
            refuse(refusals, f"{name}{ON}{task_in_cell(task.name, self.cell)}", error)
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
        manifest = StudyManifest(
            identity=identity,
            space=identity["space"],
            shapes=asdict(outcome.shapes),
            request=request_of(self.config),
            budget=self.config.protocol.budget,
        )
        if self.ledger.write_study(name, manifest):
            say(f"warning: the manifest of the study '{name}' was damaged, and is written again")
        return name


def _search_and_report(
    context: TaskContext, studies: Sequence[Study], repeat: int, manifest: Future[Manifest]
) -> Flow:
    """Search settings for studies, and train the selected settings over report seeds."""
    search = SearchRuns(context, studies, repeat)
    yield from search.flow()
    report = ReportRuns(context, search.selections(), repeat)
    plan, task = None, context.prepared.task
    if context.prepared.config.protocol.stopping == "sequential":
        plan = interim_plan((yield WaitRequest(manifest)).result(), task.metrics[0])
    yield from report.flow(plan, label_of(context.name, studies))


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
            data = load_task_data(
                load_task(name, config.task_files), config.source, config.protocol, config.transfer
            )
            check_data(data, config.checks)
            tasks[name] = data
        except DataError as error:
            refuse(refusals, name, error)
    if not tasks:
        raise DataError("; ".join(dict.fromkeys(refusals.values())))
    return tasks, refusals


def refuse(refusals: dict[str, str], name: str, error: UserError) -> None:
    """Note why a task, or a method on a task, is left out, and say so."""
    refusals[name] = str(error)
    say(f"{name} is left out: {error}")
