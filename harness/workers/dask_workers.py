"""Workers of a Dask cluster. Dask starts jobs on them, and starts a lost worker's job again."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any, Generic, TypeVar

from distributed import get_worker
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker

from harness.errors import DeviceError, StorageError, UserError
from harness.runtime.progress import redirected, say
from harness.workers.clusters import Cluster
from harness.workers.courier import Courier, SharedMark
from harness.workers.jobs import Advance, Job
from harness.workers.local import WorkerDiedError, Workers
from harness.workers.remote_files import FilesRequest, RemoteFiles, remove_files
from harness.workers.versions import check_versions, versions
from harness.workers.workshop import Workshop, settle_process

T = TypeVar("T")
BEAT_SECONDS = 2.0
"""Seconds between two messages of a worker on its steps."""
ONE_THREAD = "start workers with --nthreads 1, since each trains one population at a time"
PATIENCE_SECONDS = 20.0
"""Seconds between two looks whether any worker is there."""
COURIERS = 256
"""Threads that send files or fetch them, at most one for each worker."""
MOST_LOSSES = 3
"""The times that a job is done because its worker was lost before the driver had what it made."""
GO_ON = "the same command goes on where this one stopped"
LAST_WORDS_SECONDS = 1.0
"""Seconds that a worker waits before it ends, so that its last line arrives."""


@cache
def _workshop() -> Workshop:
    """The workshop of this worker's process."""
    return Workshop()


@dataclass(frozen=True)
class Answer(Generic[T]):
    """A job's result. `out` is the worker's own `--out`, or None where it shares the driver's."""

    result: T
    worker: str
    out: str | None


def perform(
    job: Job[T], number: int, topic: str, mark: str, driver_versions: Mapping[str, str]
) -> Answer[T]:
    """Perform a job in a worker's process. Lines and steps go to the driver as events of a topic.

    A worker that does not see the file `mark` of `--out` asks the driver for files. After a failure of
    the device the process ends, since the device can do nothing more for it. Dask then starts another
    process and the job again.

    Raises:
        UserError: the versions differ, or the job has failed for all its runs.
    """
    worker = get_worker()
    if worker.state.nthreads != 1:
        raise UserError(
            f"worker {worker.address} has {worker.state.nthreads} threads; {ONE_THREAD}"
        )
    check_versions(driver_versions, str(worker.address))
    settle_process(job.config.threads)

    def tell(kind: str, value: object) -> None:
        worker.log_event(topic, (kind, number, value))

    steps = _Steps(partial(tell, "steps"))
    out, files = None, None
    with redirected(partial(tell, "line")), ExitStack() as stack:
        try:
            if not (Path(job.config.out) / mark).exists():
                root = Path(worker.local_directory) / f"files-{mark}"
                files = RemoteFiles(root, str(worker.address), partial(tell, "files"))
                if not root.exists():
                    say(f"worker {worker.address} does not see --out: the driver sends files")
                job = replace(job, config=files.relocated(job.config))
                out = job.config.out
                stack.enter_context(files.supply(job.config))
            result = job.perform(_workshop(), steps.advance)
            return Answer(result, str(worker.address), out)
        except DeviceError as error:
            say(f"warning: worker {worker.address}: {error}; the worker begins again")
            time.sleep(LAST_WORDS_SECONDS)
            os._exit(1)
        except UserError as error:
            if files is not None:
                error.args = tuple(files.told(str(argument)) for argument in error.args)
            raise
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

    def __init__(self, cluster: Cluster) -> None:
        """The workers of a cluster, which ends with them."""
        client = cluster.client
        self.client = client
        self.expected = cluster.expected
        self._cluster = cluster
        self._executor = client.get_executor(pure=False)
        self._topic = f"harness-{uuid.uuid4()}"
        self._numbers = count()
        self._advances: dict[int, Advance] = {}
        self._jobs: dict[int, Job[Any]] = {}
        self._losses: Counter[int] = Counter()
        self._marks: dict[str, SharedMark] = {}
        self._courier = Courier(client)
        self._remote_roots: set[tuple[str, str]] = set()
        self._couriers = ThreadPoolExecutor(COURIERS, "courier")
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
        self._jobs[number] = job
        future: Future[T] = Future()
        self._send(number, future)
        return future

    def _send(self, number: int, future: Future[Any]) -> None:
        """Give a job to a worker, the first time or again."""
        job = self._jobs[number]
        if (out := job.config.out) not in self._marks:
            self._marks[out] = SharedMark(Path(out))
        arguments = (job, number, self._topic, self._marks[out].file.name, versions())
        dask_future = self._executor.submit(perform, *arguments)
        dask_future.add_done_callback(partial(self._end, number, future))

    def wait(self, futures: Collection[Future[Any]], timeout: float | None) -> set[Future[Any]]:
        """Wait until a job ends; says so once where no worker is there.

        Raises:
            UserError: no worker is there, and the jobs that should bring them are refused.
        """
        limit = None if timeout is None else time.monotonic() + timeout
        while True:
            left = PATIENCE_SECONDS if limit is None else limit - time.monotonic()
            done = super().wait(futures, min(left, PATIENCE_SECONDS))
            if done or (limit is not None and time.monotonic() >= limit):
                return done
            if self._present():
                continue
            if self._cluster.refusals:
                raise UserError(f"--cluster: the jobs are refused: {self._cluster.refusals[0]}")
            if not self._is_waiting:
                self._is_waiting = True
                say("waiting for workers: none has come yet, or all have left")

    def close(self) -> None:
        """End the jobs, and the workers that were started for this driver."""
        with suppress(ClosedClientError):  # the scheduler is lost
            self._executor.shutdown(wait=False)
        self._couriers.shutdown(wait=False, cancel_futures=True)
        self._remove_files()
        self._cluster.close()
        for mark in self._marks.values():
            mark.remove()

    def _remove_files(self) -> None:
        """Remove the files that workers have of this driver."""
        for worker, root in self._remote_roots:
            with suppress(OSError, ClosedClientError):  # the worker is lost, and its folder with it
                self.client.run(remove_files, root, workers=[worker])

    def _present(self) -> int:
        """The number of workers that are there now. Raises `StorageError` if the scheduler is lost."""
        try:
            return len(self.client.nthreads())
        except (OSError, AttributeError, ClosedClientError) as error:
            raise StorageError(self._loss()) from error

    def _loss(self) -> str:
        return f"the Dask scheduler {self._address} is lost: {GO_ON}"

    def _end(self, number: int, future: Future[Any], dask_future: Future[Any]) -> None:
        """Hand on a job's result, or why there is none."""
        if dask_future.cancelled():
            self._finish(number, future, StorageError(self._loss()))
        elif (error := dask_future.exception()) is None:
            answer: Answer[Any] = dask_future.result()
            products = () if answer.out is None else self._jobs[number].products(answer.result)
            if products:
                self._couriers.submit(self._fetch, number, future, answer, products)
            else:
                self._finish(number, future, None, answer.result)
        elif isinstance(error, KilledWorker):
            died = WorkerDiedError(f"last worker: {error.last_worker.address}")
            self._finish(number, future, died)
        else:
            self._finish(number, future, error)

    def _fetch(
        self, number: int, future: Future[Any], answer: Answer[Any], products: Sequence[str]
    ) -> None:
        """Fetch what a job has made, and hand on its result. A lost worker's job is done again."""
        out = Path(self._jobs[number].config.out)
        try:
            self._courier.fetch(answer.worker, products, str(answer.out), out)
        except WorkerDiedError as error:
            self._losses[number] += 1
            if self._losses[number] < MOST_LOSSES:
                self._send(number, future)
            else:
                self._finish(number, future, error)
        except Exception as error:
            self._finish(number, future, error)
        else:
            self._finish(number, future, None, answer.result)

    def _finish(
        self,
        number: int,
        future: Future[Any],
        error: BaseException | None,
        result: object = None,
    ) -> None:
        self._advances.pop(number, None)
        self._jobs.pop(number, None)
        self._courier.release(number)
        if not future.set_running_or_notify_cancel():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _hear(self, event: tuple[float, tuple[str, int, Any]]) -> None:
        """Take a worker's line, request or steps, in the client's thread."""
        kind, number, value = event[1]
        if kind == "line":
            say(value)
        elif kind == "files":
            if (job := self._jobs.get(number)) is not None:
                request = FilesRequest(*value)
                self._remote_roots.add((request.worker, request.root))
                self._couriers.submit(self._courier.send, request, number, job.config, job.task)
        elif number in self._advances:
            self._advances[number](value)
