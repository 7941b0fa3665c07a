"""The interface of workers, and the worker in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from harness.workers.jobs import Advance, Job
from harness.workers.workshop import Workshop

T = TypeVar("T")


class Workers(ABC):
    """Processes that perform jobs. A context that ends them."""

    @property
    @abstractmethod
    def count(self) -> int:
        """The number of jobs that are performed at the same time, at least 1."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """The number of jobs that should be submitted at a time, so that no worker waits."""

    @abstractmethod
    def submit(self, job: Job[T], advance: Advance) -> Future[T]:
        """Give a job to a worker. `advance` hears of its optimizer steps, in any thread.

        The future's exception is `WorkerDiedError` where the worker has died.
        """

    def wait(self, futures: Collection[Future[Any]], timeout: float | None) -> set[Future[Any]]:
        """Wait until a job ends, at most `timeout` seconds; returns the futures that have ended."""
        return wait(futures, timeout, FIRST_COMPLETED).done

    @abstractmethod
    def close(self) -> None:
        """End the workers that this process has started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class WorkerDiedError(Exception):
    """Workers have died with a job, each time that it was tried."""


class LocalWorker(Workers):
    """One worker: this process. A job is done when `submit` returns."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop

    @property
    def count(self) -> int:
        """One."""
        return 1

    @property
    def capacity(self) -> int:
        """One: a second job would only wait in this process."""
        return 1

    def submit(self, job: Job[T], advance: Advance) -> Future[T]:
        """Perform the job now."""
        future: Future[T] = Future()
        try:
            future.set_result(job.perform(self.workshop, advance))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Nothing to end."""
