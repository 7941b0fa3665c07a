"""The division of a plan's work among workers, by the rules of the driver and with a virtual clock.

The rules are those of `harness.experiment`: a task's runs begin when its teacher is there, and looks at
scores when all teachers are; the runs of all tasks are in one queue; a population is cut by workers as
well as by memory; a round of a search waits for the round before it. A test compares this module with
the driver.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise

from harness.config import ROUND, StudyConfig
from harness.stats.pool_stopping import look_trials
from harness.stats.stopping import look_seeds

Order = tuple[int, ...]


@dataclass(frozen=True)
class RunGroup:
    """The methods of one view on one task: their runs share populations, of at most `most` runs.

    `seconds` are those of one run, by method.
    """

    seconds: Mapping[str, float]
    most: int


@dataclass(frozen=True)
class TaskWork:
    """The work on one task: seconds until its teacher is ready, by repeat, and its groups of runs.

    A run has `steps` optimizer steps.
    """

    preparations: tuple[float, ...]
    groups: tuple[RunGroup, ...]
    steps: int


@dataclass(frozen=True)
class Division:
    """The work of all tasks, divided among `workers`, of which `at_once` do not slow each other.

    `seconds` are those of the whole; until `first_runs` no run begins, since no teacher is ready.
    `idle_share` is the share of the `at_once` workers' time in which they have nothing to do.
    """

    workers: int
    at_once: int
    seconds: float
    first_runs: float
    populations: int
    largest_population: int
    idle_share: float


def divide(tasks: Sequence[TaskWork], config: StudyConfig, workers: int, at_once: int) -> Division:
    """Divide the work on `tasks` among workers, of which `at_once` perform a job at a time."""
    driver = _Driver(workers, at_once)
    for repeat in range(config.protocol.repeats):
        for number, task in enumerate(tasks):
            driver.start(_task_flow(task, config, (repeat, number), driver))
    driver.finish()
    return Division(
        workers=workers,
        at_once=at_once,
        seconds=driver.clock,
        first_runs=driver.first_runs,
        populations=len(driver.populations),
        largest_population=max(driver.populations),
        idle_share=1 - driver.busy / (at_once * driver.clock) if driver.clock else 0.0,
    )


@dataclass(frozen=True)
class _Part:
    """Runs of one view, by their seconds. `together` of them in a row cannot be separated."""

    runs: Sequence[float]
    most: int
    together: int = 1


@dataclass(eq=False)
class _Request:
    """What a flow waits for. Preparations are parts of one run each."""

    order: Order
    parts: Sequence[_Part]
    steps: int
    is_preparation: bool = False
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = sum(len(part.runs) for part in self.parts)


class _WaitForTeachers:
    """What a flow waits for before it looks at scores: the teachers of all tasks."""


_Flow = Iterator[_Request | _WaitForTeachers]


@dataclass(frozen=True)
class _Job:
    flow: _Flow
    request: _Request
    runs: Sequence[float]


class _Driver:
    """The driver with a virtual clock: its queue, and the jobs that workers perform."""

    def __init__(self, workers: int, at_once: int) -> None:
        self.workers = workers
        self.clock = 0.0
        self.busy = 0.0
        self.first_runs = 0.0
        self.populations: list[int] = []
        self._free = at_once
        self._ready: deque[_Flow] = deque()
        self._waiting: list[_Flow] = []
        self._open: list[_Request] = []
        self._queue: list[_Job] = []
        self._submitted: deque[_Job] = deque()
        self._ends: list[tuple[float, int, _Job]] = []
        self._numbers = count()

    def start(self, flow: _Flow) -> None:
        """Begin a flow."""
        self._ready.append(flow)

    def finish(self) -> None:
        """Serve all flows until they end."""
        while self._ready or self._submitted or self._ends:
            self._resume_flows()
            self._begin_jobs()
            if self._ends:
                self._end_job()

    def _resume_flows(self) -> None:
        """Take up the next requests of the flows that have their answers, and divide these requests."""
        requests: list[tuple[_Flow, _Request]] = []
        while self._ready:
            flow = self._ready.popleft()
            request = next(flow, None)
            if isinstance(request, _WaitForTeachers):
                self._waiting.append(flow)
            elif request is not None:
                requests.append((flow, request))
                self._open.append(request)
            if not (self._ready or any(request.is_preparation for request in self._open)):
                self._ready.extend(self._waiting)
                self._waiting.clear()
        steps = sum(
            request.missing * request.steps for request in self._open if not request.is_preparation
        )
        for flow, request in requests:
            share = -(-steps // (self.workers * request.steps))
            for part in request.parts:
                size = min(part.most, share) if self.workers > 1 else part.most
                self._queue += [_Job(flow, request, runs) for runs in _populations(part, size)]
        self._queue.sort(key=lambda job: job.request.order)

    def _begin_jobs(self) -> None:
        """Submit two jobs a worker, as the driver does, and begin as many as workers are free."""
        while self._queue and len(self._submitted) + len(self._ends) < 2 * self.workers:
            self._submitted.append(self._queue.pop(0))
        while self._submitted and self._free:
            job = self._submitted.popleft()
            seconds = sum(job.runs)
            if not job.request.is_preparation:
                self.first_runs = self.first_runs if self.populations else self.clock
                self.populations.append(len(job.runs))
            self._free -= 1
            self.busy += seconds
            heapq.heappush(self._ends, (self.clock + seconds, next(self._numbers), job))

    def _end_job(self) -> None:
        """Set the clock to the end of the next job."""
        self.clock, _, job = heapq.heappop(self._ends)
        self._free += 1
        job.request.missing -= len(job.runs)
        if not job.request.missing:
            self._open.remove(job.request)
            self._ready.append(job.flow)


def _populations(part: _Part, size: int) -> Iterator[Sequence[float]]:
    """The populations of a part: at most `size` runs, or one group that cannot be separated."""
    step = max(size // part.together, 1) * part.together
    for start in range(0, len(part.runs), step):
        yield part.runs[start : start + step]


def _task_flow(task: TaskWork, config: StudyConfig, order: Order, driver: _Driver) -> _Flow:
    """The flow of a task in one repeat: makes the teacher ready, and begins the flows of its runs."""
    repeat = order[0]
    preparation = [_Part([task.preparations[repeat]], 1)]
    yield _Request((repeat,), preparation, task.steps, is_preparation=True)
    for flow in _run_flows(task, config, order, driver.workers > 1):
        driver.start(flow)


def _run_flows(
    task: TaskWork, config: StudyConfig, order: Order, is_divided: bool
) -> Iterator[_Flow]:
    """The flows of one task's runs: with several workers each search goes on by itself."""
    stages = list(_stages(config))
    if (
        not is_divided
        or config.protocol.unit == "methods"
        or config.protocol.stopping == "sequential"
    ):
        yield _flow(task, task.groups, stages, order)
        return
    for group in task.groups:
        for method, seconds in group.seconds.items():
            yield _flow(task, [RunGroup({method: seconds}, group.most)], stages, order)


def _flow(
    task: TaskWork,
    groups: Sequence[RunGroup],
    stages: Sequence[tuple[int, bool, bool]],
    order: Order,
) -> _Flow:
    for number, (runs, is_round, is_look) in enumerate(stages):
        if is_look and number:
            yield _WaitForTeachers()
        parts = [
            _Part(
                [seconds for seconds in group.seconds.values() for _ in range(runs)],
                group.most,
                runs if is_round else 1,
            )
            for group in groups
        ]
        yield _Request(order, parts, task.steps)


def _stages(config: StudyConfig) -> Iterator[tuple[int, bool, bool]]:
    """The runs of each method that follow one another.

    With each stage come two facts: whether its runs cannot be separated, and whether it depends on looks
    at scores. Where trials or seeds are added, all that may be added are.
    """
    protocol, search = config.protocol, config.search
    if protocol.unit == "methods":
        looks = look_trials(search.trials) if protocol.stopping == "sequential" else ()
        yield from ((runs, False, bool(looks)) for runs in _steps(looks or (search.trials,)))
        return
    for start in range(0, search.trials, ROUND):
        runs = min(ROUND, search.trials - start) * search.seeds
        yield runs, bool(search.rungs), False
    seeds: Sequence[int] = (protocol.seeds,)
    if protocol.stopping == "sequential":
        comparisons = len(config.tasks) * (len(config.methods) - 1)
        seeds = look_seeds(protocol.seeds, protocol.alpha / max(comparisons, 1))
    is_look = protocol.stopping == "sequential"
    yield from ((runs, False, is_look) for runs in _steps(seeds))


def _steps(totals: Sequence[int]) -> list[int]:
    """The runs that each total adds to the total before it."""
    return [after - before for before, after in pairwise((0, *totals))]
