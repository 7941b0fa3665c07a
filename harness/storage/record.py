"""The record of a run: what its result depends on, and what came of it. Never imports torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
)
from pydantic.dataclasses import dataclass

from harness.config import Choice, StudentConfig, TrainingConfig
from harness.runtime.provenance import Provenance
from harness.storage.fingerprint import fingerprint

Role = Literal["search", "report"]
Status = Literal["complete", "pruned", "failed"]

_STRICT = ConfigDict(extra="forbid")


class SplitHash(NamedTuple):
    """A split's name, and the hash of its data."""

    name: str
    sha256: str


@dataclass(frozen=True, config=_STRICT)
class CustomTask:
    """What identifies a user's own task; GLUE's tasks are known by name."""

    name: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True, config=_STRICT)
class HalvingRound:
    """The rungs of successive halving, and the settings that compete at them."""

    rungs: tuple[int, ...]
    round: tuple[Mapping[str, Choice], ...]


@dataclass(frozen=True, config=_STRICT)
class RunInputs:
    """Everything that a run's result depends on. Counts of trials and seeds are no part of it."""

    results_version: int
    task: str | CustomTask
    source: str
    method: str
    method_source: str
    """Hash of the method's source code."""
    setting: Mapping[str, Choice]
    seed: int
    role: Role
    teacher: str
    """The teacher's fingerprint."""
    student: StudentConfig
    start: str
    """Fingerprint of the model that the student's layers are copied from."""
    pooling: str
    training: TrainingConfig
    """With the precision and the engine that were used, not `auto`."""
    weights: str
    device: str
    train: str
    """Hash of the training split."""
    evaluation: tuple[SplitHash, ...] = Field(min_length=1)
    """The splits that the run is scored on; the first decides."""
    halving: HalvingRound | None = None
    """Of search runs with rungs."""

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The values without `halving` where there is none: fingerprints are of these values."""
        values: dict[str, Any] = handler(self)
        if self.halving is None:
            del values["halving"]
        return values

    def plain(self) -> dict[str, Any]:
        """The inputs as plain JSON values."""
        values: dict[str, Any] = RUN_INPUTS.dump_python(self, mode="json")
        return values

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the inputs, which identifies the run."""
        return fingerprint(self.plain())

    @property
    def task_name(self) -> str:
        """The task's name."""
        return self.task if isinstance(self.task, str) else self.task.name

    @property
    def split(self) -> SplitHash:
        """The split that decides: `selection` for search runs, the first evaluation split else."""
        return self.evaluation[0]


@dataclasses.dataclass(frozen=True)
class RunProvenance(Provenance):
    """Where a run was trained, on how many threads, and together with which runs."""

    threads: int
    population: tuple[str, ...]
    """Fingerprints of all runs that were trained together, this one among them."""


@dataclass(frozen=True, config=_STRICT)
class Record:
    """What the ledger keeps of one run."""

    fingerprint: str
    inputs: RunInputs
    status: Status
    reason: str | None
    """Why a run was pruned or failed."""
    metrics: Mapping[str, float]
    """Scores by metric on the first split, by `METRIC (SPLIT)` on further ones."""
    curves: tuple[Mapping[str, float], ...]
    """By epoch each loss term's mean."""
    seconds: float
    examples_per_second: float
    peak_memory: float
    """In bytes."""
    provenance: RunProvenance
    created: float | None = dataclasses.field(default=None, compare=False)
    """When the ledger wrote the record, in seconds since 1970; None before."""

    @property
    def split_metrics(self) -> dict[str, dict[str, float]]:
        """The scores by split, in the order of evaluation, and by metric; empty for a failed run."""
        first, *further = (split for split, _ in self.inputs.evaluation)
        scores: dict[str, dict[str, float]] = {split: {} for split in (first, *further)}
        for name, value in self.metrics.items():
            split = next((split for split in further if name.endswith(f" ({split})")), first)
            scores[split][name.removesuffix(f" ({split})")] = value
        return scores


RUN_INPUTS, RECORD = TypeAdapter(RunInputs), TypeAdapter(Record)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One report run on one split: `logits` (examples, outputs), `labels` and `ids` (examples,)."""

    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float64]
    ids: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Result:
    """A run's record, its predictions by split, and what was looked at inside it by name."""

    record: Record
    predictions: Mapping[str, Predictions]
    inspections: Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A record as one study uses it: the trial it belongs to (the best trial for report runs)."""

    role: Role
    trial: int
    seed: int
    record: Record
