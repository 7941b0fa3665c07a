"""Workers of a Dask cluster. Dask starts jobs on them, and starts a lost worker's job again."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client, get_worker
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker

from harness.errors import DeviceError, StorageError, UserError
from harness.runtime.progress import redirected, say
from harness.workers.jobs import Advance, Job
from harness.workers.local import WorkerDiedError, Workers
from harness.workers.versions import check_versions, versions
from harness.workers.workshop import Workshop, settle_process

T = TypeVar("T")
BEAT_SECONDS = 2.0
"""Seconds between two messages of a worker on its steps."""
ONE_THREAD = "start workers with --nthreads 1, since each trains one population at a time"
PATIENCE_SECONDS = 20.0
"""Seconds between two looks whether any worker is there."""
GO_ON = "the same command goes on where this one stopped"
LAST_WORDS_SECONDS = 1.0
"""Seconds that a worker waits before it ends, so that its last line arrives."""


@cache
def _workshop() -> Workshop:
    """The workshop of this worker's process."""
    return Workshop()


def perform(job: Job[T], number: int, topic: str, driver_versions: Mapping[str, str]) -> T:
    """Perform a job in a worker's process. Lines and steps go to the driver as events of a topic.

    After a failure of the device the process ends, since the device can do nothing more for it. Dask
    then starts another process and the job again.

    Raises:
        UserError: the versions differ, or the job has failed for all its runs.
    """
    worker = get_worker()
    if worker.state.nthreads != 1:
        raise UserError(
            f"worker {worker.address} has {worker.state.nthreads} threads; {ONE_THREAD}"
        )
    check_versions(driver_versions, str(worker.address))
    if not Path(job.config.out).is_dir():
        raise UserError(
            f"worker {worker.address} does not see {job.config.out}: --out is a folder that driver and "
            "workers share, under one path"
        )
    settle_process(job.config.threads)
    steps = _Steps(lambda steps: worker.log_event(topic, ("steps", number, steps)))
    with redirected(lambda line: worker.log_event(topic, ("line", number, line))):
        try:
            return job.perform(_workshop(), steps.advance)
        except DeviceError as error:
            say(f"warning: worker {worker.address}: {error}; the worker begins again")
            time.sleep(LAST_WORDS_SECONDS)
            os._exit(1)
        finally:
            steps.send()


class _Steps:
    """Steps that are sent together, at most once in `BEAT_SECONDS`."""

    def __init__(self, send: Callable[[int], object]) -> None:
        self._send = send
        self._steps = 0
        self._last = time.monotonic()

    def advance(self, steps: int) -> None:
        self._steps += steps
        if time.monotonic() - self._last >= BEAT_SECONDS:
            self.send()

    def send(self) -> None:
        self._last = time.monotonic()
        if self._steps:
            self._send(self._steps)
        self._steps = 0


class DaskWorkers(Workers):
    """The workers that a Dask client sees. Each performs one job at a time."""

    def __init__(self, client: Client, expected: int, close: Callable[[], object]) -> None:
        """`expected` is the number of workers that were asked for. `close` ends what was started."""
        self.client = client
        self.expected = expected
        self._close = close
        self._executor = client.get_executor(pure=False)
        self._topic = f"harness-{uuid.uuid4()}"
        self._numbers = count()
        self._advances: dict[int, Advance] = {}
        self._address = getattr(client.scheduler, "address", "")
        self._is_waiting = False
        client.subscribe_topic(self._topic, self._hear)

    @property
    def count(self) -> int:
        """The number of workers, also of those that are still expected. Raises `StorageError`."""
        return max(self.expected, self._present(), 1)

    @property
    def capacity(self) -> int:
        """Two jobs for each worker: one that it performs, one that it begins at once afterwards."""
        return 2 * self.count

    def submit(self, job: Job[T], advance: Advance) -> Future[T]:
        """Give a job to a worker."""
        number = next(self._numbers)
        self._advances[number] = advance
        future: Future[T] = Future()
        dask_future = self._executor.submit(perform, job, number, self._topic, versions())
        dask_future.add_done_callback(partial(self._end, number, future))
        return future

    def wait(self, futures: Collection[Future[Any]], timeout: float | None) -> set[Future[Any]]:
        """Wait until a job ends; says so once where no worker is there."""
        limit = None if timeout is None else time.monotonic() + timeout
        while True:
            left = PATIENCE_SECONDS if limit is None else limit - time.monotonic()
            done = super().wait(futures, min(left, PATIENCE_SECONDS))
            if done or (limit is not None and time.monotonic() >= limit):
                return done
            if not self._present() and not self._is_waiting:
                self._is_waiting = True
                say("waiting for workers: none has come yet, or all have left")

    def close(self) -> None:
        """End the jobs, and the workers that were started for this driver."""
        with suppress(ClosedClientError):  # the scheduler is lost
            self._executor.shutdown(wait=False)
        self._close()

    def _present(self) -> int:
        """The number of workers that are there now. Raises `StorageError` if the scheduler is lost."""
        try:
            return len(self.client.nthreads())
        except (OSError, AttributeError, ClosedClientError) as error:
            raise StorageError(self._loss()) from error

    def _loss(self) -> str:
        return f"the Dask scheduler {self._address} is lost: {GO_ON}"

    def _end(self, number: int, future: Future[Any], dask_future: Future[Any]) -> None:
        """Hand on a job's result."""
        self._advances.pop(number, None)
        if not future.set_running_or_notify_cancel():
            return
        if dask_future.cancelled():
            future.set_exception(StorageError(self._loss()))
        elif (error := dask_future.exception()) is None:
            future.set_result(dask_future.result())
        elif isinstance(error, KilledWorker):
            future.set_exception(WorkerDiedError(f"last worker: {error.last_worker.address}"))
        else:
            future.set_exception(error)

    def _hear(self, event: tuple[float, tuple[str, int, Any]]) -> None:
        """Take a worker's line or steps, in the client's thread."""
        kind, number, value = event[1]
        if kind == "line":
            say(value)
        elif number in self._advances:
            self._advances[number](value)
