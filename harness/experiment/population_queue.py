"""The population queue: requested runs are divided into populations, and their records are written.

The queue alone writes runs into the ledger. The ledger's claims keep two drivers from training the same
run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from harness.config import StudentConfig, TrainingConfig
from harness.experiment.flows import Flow, Order, RunRequest
from harness.experiment.kept_students import write_card
from harness.experiment.model_card import model_card
from harness.method import View
from harness.runtime.failures import OUT_OF_MEMORY, is_out_of_memory
from harness.runtime.progress import progress, say
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from harness.storage.record import Record, Result, Use
from harness.tracking.tracked_run import TrackedRun
from harness.tracking.trackers import Track
from harness.training.run import Run
from harness.workers.jobs import Advance, Job, Sizing, Training, spec_of
from harness.workers.local import WorkerDiedError, Workers
from harness.workers.outcomes import failed_result
from harness.workers.populations import PopulationResults, halves_of, inseparable_groups
from harness.workers.workshop import portable


class Work(ABC):
    """A job that waits for a worker."""

    def __init__(self, order: Order, advance: Advance = lambda steps: None) -> None:
        self.order = order
        self.advance = advance

    @abstractmethod
    def begin(self, claims: ExitStack) -> Job[Any] | None:
        """Claim what the job needs, and return the job; None where others have a claim."""

    @abstractmethod
    def end(self, future: Future[Any]) -> None:
        """Take the result of the job."""

    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return False

    def further(self) -> Sequence[Work]:
        """The work that follows from the result."""
        return ()


class SizeKey(NamedTuple):
    """What the number of runs that are trained together depends on."""

    task: str
    teacher: str
    view: View
    student: StudentConfig
    training: TrainingConfig


class OpenRequest:
    """A request whose flow waits, with the records that exist."""

    def __init__(self, flow: Flow, request: RunRequest) -> None:
        self.flow = flow
        self.request = request
        self.records: dict[str, Record] = {}
        self.uses: dict[str, list[Run]] = {}
        """The requested runs by fingerprint: trials with one setting and seed are one run."""
        for run in request.runs:
            self.uses.setdefault(run.fingerprint, []).append(run)
        self._missing = {key: runs[-1] for key, runs in self.uses.items()}
        self.whole_views: dict[View, list[Run]] = {}
        """The runs by view that are not divided into populations yet."""
        self.advance: Advance = lambda steps: None
        self.progress = ExitStack()

    @property
    def steps(self) -> int:
        """The optimizer steps of one run."""
        return self.request.prepared.outcome.steps

    @property
    def runs(self) -> list[Run]:
        """The runs, each once."""
        return [runs[-1] for runs in self.uses.values()]

    @property
    def missing(self) -> Collection[Run]:
        """The runs without a record."""
        return self._missing.values()

    def add(self, record: Record) -> None:
        """Note the record of a run."""
        self.records[record.fingerprint] = record
        self._missing.pop(record.fingerprint, None)

    def view(self, run: Run) -> View:
        """The outputs of the models that a run's method needs."""
        return run.method.view(self.request.prepared.config.pooling)

    def size_key(self, view: View) -> SizeKey:
        """The key of the size of populations: the task, its teacher, the view and the students."""
        prepared = self.request.prepared
        config = prepared.config
        return SizeKey(
            prepared.task.name,
            prepared.outcome.teacher.fingerprint,
            view,
            config.student,
            config.training,
        )


class PopulationQueue:
    """The run requests of one driver that are open, and the populations made of them."""

    def __init__(
        self,
        ledger: Ledger,
        claims: Claims,
        workers: Workers,
        track: Track,
        trained: Callable[[float], object],
    ) -> None:
        """`track` gets the runs that this driver has trained, once their records are written.

        `trained` hears, in any thread, of each part of a run that has been trained.
        """
        self.track = track
        self.trained = trained
        self.ledger = ledger
        self.claims = claims
        self.workers = workers
        self.training: set[str] = set()
        self.sizes: dict[SizeKey, int] = {}
        self._open: list[OpenRequest] = []
        self._measured: set[SizeKey] = set()
        self._attempts: set[str] = set()

    @property
    def is_open(self) -> bool:
        """Whether a flow waits for runs."""
        return bool(self._open)

    def open(self, flow: Flow, request: RunRequest) -> None:
        """Take up a request. Its runs without a record wait for `work`."""
        entry = OpenRequest(flow, request)
        self._open.append(entry)
        self._read(entry, request.runs)
        missing = entry.missing
        if not missing:
            return
        steps = entry.steps * len(missing)
        entry.advance = entry.progress.enter_context(progress(request.label, steps))
        missing_views = {entry.view(run) for run in missing}
        # One worker's populations are made of all runs, not of the missing ones: so a study that goes
        # on after a kill has the populations of an undisturbed one.
        for run in entry.runs:
            if (view := entry.view(run)) in missing_views:
                entry.whole_views.setdefault(view, []).append(run)

    def work(self) -> Iterator[Work]:
        """The populations of the open requests, or first the measurements of how large they may be."""
        count = self.workers.count
        steps = sum(entry.steps * len(entry.missing) for entry in self._open)
        for entry in self._open:
            share = -(-steps // (count * entry.steps))
            for view, runs in list(entry.whole_views.items()):
                key = entry.size_key(view)
                if key in self.sizes:
                    del entry.whole_views[view]
                    size = self.sizes[key]
                    if count > 1:
                        runs = [run for run in runs if run.fingerprint not in entry.records]
                        size = min(size, share)
                    yield from self._populations(entry, runs, size)
                elif key not in self._measured:
                    self._measured.add(key)
                    yield SizingWork(self, entry, runs)

    def _populations(self, entry: OpenRequest, runs: Sequence[Run], size: int) -> Iterator[Work]:
        """Divide runs of a view into populations of at most `size` runs or one inseparable group."""
        population: list[Run] = []
        for group in inseparable_groups(runs):
            if population and len(population) + len(group) > size:
                yield PopulationWork(self, entry, population)
                population = []
            population = population + group
        yield PopulationWork(self, entry, population)

    def answers(self) -> list[tuple[Flow, Mapping[str, Record]]]:
        """The flows whose runs all have records, with the records. Their requests are closed."""
        entries = [entry for entry in self._open if not entry.missing]
        for entry in entries:
            entry.progress.close()
            self._open.remove(entry)
        return [(entry.flow, entry.records) for entry in entries]

    def read_records(self) -> None:
        """Look for records that other drivers have written."""
        for entry in self._open:
            self._read(entry, entry.missing)

    def stop(self) -> None:
        """Stop the lines of progress of open requests, which do not say that their runs have ended."""
        for entry in self._open:
            entry.progress.__exit__(GeneratorExit, GeneratorExit(), None)

    def _read(self, entry: OpenRequest, runs: Collection[Run]) -> None:
        """Read the records of runs. The ledger notes that the runs' studies use them.

        Earlier commands' lacks of memory are tried again, and count as missing.
        """
        keys = list(dict.fromkeys(run.fingerprint for run in runs))
        records = self.ledger.records(keys)
        keys = [
            key
            for key in keys
            if key in records
            and (key in self._attempts or not is_out_of_memory(records[key].reason))
        ]
        self.ledger.use_runs(
            Use(run.study, run.role, run.trial, run.seed, key)
            for key in keys
            for run in entry.uses[key]
        )
        for key in keys:
            entry.add(records[key])

    def unclaimed(self, entry: OpenRequest, runs: Sequence[Run], claims: ExitStack) -> list[Run]:
        """The missing runs among `runs`, now claimed; none where others have a claim."""
        runs = [run for run in runs if run.fingerprint not in entry.records]
        keys = [run.fingerprint for run in runs]
        if self.training.intersection(keys):
            return []
        if not all(claims.enter_context(self.claims.claim(key)) for key in keys):
            return []
        # Another driver may have finished some of these runs before this one's claims.
        self._read(entry, runs)
        return [run for run in runs if run.fingerprint not in entry.records]

    def write(self, entry: OpenRequest, runs: Sequence[Run], results: Sequence[Result]) -> None:
        """Write a population's results in one transaction: all of them, or none after a kill."""
        by_fingerprint = {run.fingerprint: run for run in runs}
        prepared = entry.request.prepared
        for record in (result.record for result in results):
            run = by_fingerprint[record.fingerprint]
            if record.status == "failed":
                say(f"warning: {run.method.name}, seed {run.seed}: failed: {record.reason}")
            elif prepared.config.keep != "none" and run.role == "report":
                card = model_card(run, record, prepared)
                write_card(Path(prepared.config.out), run, card)
            self._attempts.add(run.fingerprint)
        self.ledger.write_runs(results)
        self._read(entry, runs)
        by_record = (
            (result.record, by_fingerprint[result.record.fingerprint]) for result in results
        )
        self.track([TrackedRun.of(record, run.study, run.trial) for record, run in by_record])


class SizingWork(Work):
    """The measurement of how many runs of a view are trained together."""

    def __init__(self, queue: PopulationQueue, entry: OpenRequest, runs: Sequence[Run]) -> None:
        super().__init__(entry.request.order)
        self.queue = queue
        self.entry = entry
        self.runs = runs

    def begin(self, claims: ExitStack) -> Sizing:
        """The job, with a run that matches layers where there is one."""
        example = next((run for run in self.runs if run.method.matches_layers()), self.runs[0])
        prepared = self.entry.request.prepared
        task = prepared.task.name
        return Sizing(portable(prepared.config, prepared.task), task, spec_of(example))

    def end(self, future: Future[int]) -> None:
        """Note the size: one run where workers have died of the measurement."""
        key = self.entry.size_key(self.entry.view(self.runs[0]))
        try:
            self.queue.sizes[key] = future.result()
        except WorkerDiedError as error:
            say(
                f"warning: workers died while memory was measured ({error}); runs are trained singly"
            )
            self.queue.sizes[key] = 1


class PopulationWork(Work):
    """The training of one population."""

    def __init__(self, queue: PopulationQueue, entry: OpenRequest, runs: Sequence[Run]) -> None:
        def advance(steps: int) -> None:
            entry.advance(steps)
            queue.trained(steps / entry.steps)

        super().__init__(entry.request.order, advance)
        self.queue = queue
        self.entry = entry
        self.runs = runs
        self._claimed: list[Run] = []
        self._further: list[Work] = []

    def is_over(self) -> bool:
        """Whether all runs have records."""
        return all(run.fingerprint in self.entry.records for run in self.runs)

    def begin(self, claims: ExitStack) -> Training | None:
        """Claim the runs that are missing."""
        self._claimed = self.queue.unclaimed(self.entry, self.runs, claims)
        if not self._claimed:
            return None
        self.queue.training |= {run.fingerprint for run in self._claimed}
        prepared = self.entry.request.prepared
        task, specs = prepared.task.name, tuple(map(spec_of, self._claimed))
        return Training(portable(prepared.config, prepared.task), task, specs)

    def end(self, future: Future[PopulationResults]) -> None:
        """Write the results. A population with which several workers died is divided."""
        runs = self._claimed
        self.queue.training -= {run.fingerprint for run in runs}
        try:
            outcome = future.result()
        except WorkerDiedError as error:
            self._divide(runs, error)
            return
        if outcome.size is not None:
            key = self.entry.size_key(self.entry.view(runs[0]))
            self.queue.sizes[key] = min(outcome.size, self.queue.sizes[key])
        self.queue.write(self.entry, runs, outcome.results)

    def further(self) -> Sequence[Work]:
        """The parts that are trained again."""
        return self._further

    def _divide(self, runs: Sequence[Run], error: WorkerDiedError) -> None:
        """Train the halves of a population whose workers died, or note the failure of its last run."""
        if halves := halves_of(runs):
            say(
                f"warning: workers died with {len(runs)} runs ({error}); going on with {len(halves[0])}"
            )
            self._further = [PopulationWork(self.queue, self.entry, half) for half in halves]
        else:
            results = [failed_result(run, f"{OUT_OF_MEMORY}, or killed: {error}") for run in runs]
            self.queue.write(self.entry, runs, results)
