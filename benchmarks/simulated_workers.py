"""Workers that only let a virtual clock go on: for tests and measurements of the scheduler."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import Any

from harness.workers.jobs import Advance, Job
from harness.workers.local import Workers


@dataclass(frozen=True)
class Shift:
    """A job that a worker performed, with its beginning and its end in virtual seconds."""

    worker: int
    start: float
    end: float
    job: Job[Any]


class SimulatedWorkers(Workers):
    """`number` workers, each of which takes `seconds(job)` of a virtual clock for a job.

    `perform(job)` returns the job's result, or raises the error that the driver is to see.
    """

    def __init__(
        self,
        number: int,
        seconds: Callable[[Job[Any]], float],
        perform: Callable[[Job[Any]], Any],
    ) -> None:
        self.number = number
        self.seconds = seconds
        self.perform = perform
        self.clock = 0.0
        self.shifts: list[Shift] = []
        self.closed = False
        self._free = list(range(number))
        self._waiting: deque[tuple[Job[Any], Future[Any]]] = deque()
        self._ends: list[tuple[float, int, int, Job[Any], Future[Any]]] = []
        self._order = count()

    @property
    def count(self) -> int:
        """The number of workers."""
        return self.number

    @property
    def capacity(self) -> int:
        """Two jobs for each worker, as a Dask cluster has it."""
        return 2 * self.number

    def submit(self, job: Job[Any], advance: Advance) -> Future[Any]:
        """Put a job into the queue of the workers."""
        future: Future[Any] = Future()
        self._waiting.append((job, future))
        self._begin()
        return future

    def wait(self, futures: Collection[Future[Any]], timeout: float | None) -> set[Future[Any]]:
        """Set the clock to the end of the next job."""
        self.clock, _, worker, job, future = heapq.heappop(self._ends)
        heapq.heappush(self._free, worker)
        try:
            future.set_result(self.perform(job))
        except Exception as error:
            future.set_exception(error)
        self._begin()
        return {future}

    def close(self) -> None:
        """Note that the workers have been ended."""
        self.closed = True

    def idle_share(self) -> float:
        """The share of all workers' time until now in which they had no job."""
        busy = sum(shift.end - shift.start for shift in self.shifts)
        return 1 - busy / (self.number * self.clock)

    def _begin(self) -> None:
        while self._free and self._waiting:
            worker = heapq.heappop(self._free)
            job, future = self._waiting.popleft()
            end = self.clock + self.seconds(job)
            self.shifts.append(Shift(worker, self.clock, end, job))
            heapq.heappush(self._ends, (end, next(self._order), worker, job, future))
