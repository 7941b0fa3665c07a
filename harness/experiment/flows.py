"""Flows: the work of a study as a generator that yields a request and gets the answer."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from harness.config import StudyConfig
from harness.data.tasks import Task
from harness.experiment.kept_students import KeptStudents
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from harness.training.run import Run
from harness.workers.prepared_task import PreparedTask

Order = tuple[int, ...]
"""The rank of a request. Workers serve lower ranks first."""


@dataclass(frozen=True)
class RunRequest:
    """Runs of one task. The answer has their records by fingerprint. `label` heads their progress."""

    prepared: PreparedTask
    runs: Sequence[Run]
    label: str
    order: Order


@dataclass(frozen=True)
class PreparationRequest:
    """A task to prepare. The answer is a `TaskOutcome`, or the `UserError` of a refusal."""

    config: StudyConfig
    task: Task
    order: Order


@dataclass(frozen=True)
class WaitRequest:
    """A wait for what another flow brings about. The answer is this future, once it is done."""

    future: Future[Any]


Flow = Generator[RunRequest | PreparationRequest | WaitRequest, Any, None]
"""The work of an ablation, of a task or of a study."""


@dataclass(frozen=True)
class TaskContext:
    """What the flows of one task share: the task, the storage, and the rank of their requests.

    `name` is the task's name in the manifest, which has the cell's values too, if there are cells.
    """

    prepared: PreparedTask
    ledger: Ledger
    claims: Claims
    optuna: BaseStorage
    order: Order
    name: str

    def request(self, runs: Sequence[Run], label: str) -> RunRequest:
        """A request for runs of the task."""
        return RunRequest(self.prepared, runs, label, self.order)

    def students(self, study: str) -> KeptStudents:
        """The kept students of a study."""
        config = self.prepared.config
        return KeptStudents(Path(config.out), study, config.keep, self.ledger, self.claims)
