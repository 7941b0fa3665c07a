"""The interface of workers, and the worker in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeVar

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
    """A worker's process has ended in the middle of a job."""


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
