"""The scheduler: flows ask for preparations and runs, and workers perform the jobs.

Several flows wait at the same time, so the runs of no task, method or search wait for those of another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from harness.errors import TeacherError, UserError
from harness.experiment.flows import Flow, PreparationRequest, RunRequest, WaitRequest
from harness.experiment.population_queue import PopulationQueue, Work
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from harness.tracking.trackers import Track
from harness.workers.jobs import Preparation
from harness.workers.local import WorkerDiedError, Workers
from harness.workers.prepared_task import TaskOutcome
from harness.workers.workshop import portable

POLL_SECONDS = 1.0
"""Seconds between two looks at the ledger while other drivers train runs that this one needs."""


class PreparationWork(Work):
    """The preparation of one task. `answer` gets the outcome, or the reason of a refusal."""

    def __init__(
        self, request: PreparationRequest, answer: Callable[[TaskOutcome | UserError], None]
    ) -> None:
        super().__init__(request.order)
        self.job = Preparation(portable(request.config, request.task), request.task.name)
        self.answer = answer

    def begin(self, claims: ExitStack) -> Preparation:
        """The job. Workers in one runs folder agree on who makes a teacher by a lock."""
        return self.job

    def end(self, future: Future[TaskOutcome]) -> None:
        """Take the outcome. Errors that are no refusal are raised."""
        error = future.exception()
        if isinstance(error, WorkerDiedError):
            error = TeacherError(f"{self.job.task}: workers died while it was prepared ({error})")
        if error is not None and not isinstance(error, UserError):
            raise error
        self.answer(self._named(future.result()) if error is None else error)

    def _named(self, outcome: TaskOutcome) -> TaskOutcome:
        """The outcome with the teacher's name here. A worker may have it in a folder of its own."""
        teacher = self.job.config.teacher
        name = teacher.checkpoint or teacher.pretrained
        return replace(outcome, teacher=replace(outcome.teacher, name=name))


class Scheduler:
    """The flows of one driver, and the jobs that workers perform for them."""

    def __init__(
        self,
        ledger: Ledger,
        claims: Claims,
        workers: Workers,
        after_results: Callable[[], None] = lambda: None,
        track: Track = lambda runs: None,
        trained: Callable[[float], object] = lambda runs: None,
    ) -> None:
        """`after_results` is called after the results of jobs have been taken up.

        `track` is called with the runs that have been trained and recorded, and `trained`, in any
        thread, with each part of a run that has been trained.
        """
        self.after_results = after_results
        self.workers = workers
        self.populations = PopulationQueue(ledger, claims, workers, track, trained)
        self._ready: list[tuple[Flow, Any]] = []
        self._waiting: list[tuple[Flow, WaitRequest]] = []
        self._queue: list[Work] = []
        self._performing: dict[Future[Any], tuple[Work, ExitStack]] = {}

    def start(self, flow: Flow) -> None:
        """Begin a flow. A flow may begin others."""
        self._ready.append((flow, None))

    def finish(self) -> None:
        """Serve all flows until they end. An error of a flow or of a job ends them all."""
        try:
            while self._ready or self._queue or self._performing or self.populations.is_open:
                self._resume_flows()
                self._submit()
                self._collect()
        except BaseException:
            self.populations.stop()
            with ExitStack() as all_claims:
                for future, (_, claims) in self._performing.items():
                    future.cancel()
                    all_claims.push(claims)
                raise

    def _resume_flows(self) -> None:
        """Give flows their answers, and take up their next requests."""
        while self._ready:
            flow, answer = self._ready.pop(0)
            try:
                request = flow.send(answer)
            except StopIteration:
                pass
            else:
                self._take_up(flow, request)
            self._take_answers()  # also after a flow's end, which may be what others wait for

    def _take_up(self, flow: Flow, request: RunRequest | PreparationRequest | WaitRequest) -> None:
        """Take up a flow's request."""
        if isinstance(request, PreparationRequest):
            self._queue.append(PreparationWork(request, partial(self._answer, flow)))
        elif isinstance(request, WaitRequest):
            self._waiting.append((flow, request))
        else:
            self.populations.open(flow, request)

    def _answer(self, flow: Flow, answer: object) -> None:
        """Note the answer to a flow's request."""
        self._ready.append((flow, answer))

    def _take_answers(self) -> None:
        """Note the flows whose runs have records, or whose wait is over."""
        self._ready += self.populations.answers()
        for entry in list(self._waiting):
            flow, request = entry
            if request.future.done():
                self._waiting.remove(entry)
                self._answer(flow, request.future)

    def _submit(self) -> None:
        """Submit as many jobs as keep all workers busy, those of lower order first."""
        self._queue += self.populations.work()
        self._queue.sort(key=lambda work: work.order)
        capacity = self.workers.capacity
        for work in list(self._queue):
            if work.is_over():
                self._queue.remove(work)
                continue
            if len(self._performing) >= capacity:
                continue
            with ExitStack() as claims:
                job = work.begin(claims)
                if job is None:
                    continue
                self._queue.remove(work)
                future = self.workers.submit(job, work.advance)
                self._performing[future] = (work, claims.pop_all())

    def _collect(self) -> None:
        """Wait until a job ends, or for other drivers, and take up the results."""
        is_blocked = bool(self._queue) and len(self._performing) < self.workers.capacity
        if self._performing:
            done = self.workers.wait(list(self._performing), POLL_SECONDS if is_blocked else None)
            # Results are written before the error of another job ends the driver.
            for future in sorted(done, key=lambda future: future.exception() is not None):
                work, claims = self._performing.pop(future)
                with claims:
                    work.end(future)
                self._queue += work.further()
            self.after_results()
        elif is_blocked and not self._ready:
            time.sleep(POLL_SECONDS)
        if is_blocked:
            self.populations.read_records()
        self._take_answers()
