"""The record of a run: the inputs and the result. The module never imports torch."""

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
from harness.loss_stages import CONSTANT
from harness.runtime.provenance import Provenance
from harness.storage.fingerprint import fingerprint

Role = Literal["search", "report"]
Status = Literal["complete", "pruned", "failed"]

_EXACT_KEYS = ConfigDict(extra="forbid")


class SplitHash(NamedTuple):
    """A split's name, and the hash of its data."""

    name: str
    sha256: str


@dataclass(frozen=True, config=_EXACT_KEYS)
class CustomTask:
    """The identity of a user's own task. The identity of a GLUE task is its name."""

    name: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True, config=_EXACT_KEYS)
class HalvingRound:
    """The rungs of successive halving, and the settings that compete at them."""

    rungs: tuple[int, ...]
    round: tuple[Mapping[str, Choice], ...]


@dataclass(frozen=True, config=_EXACT_KEYS)
class RunInputs:
    """The inputs that a run's result depends on, without the numbers of trials and seeds."""

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
    pooling_source: str
    """Hash of the source of the pooling that the method reads."""
    metric_sources: tuple[str, ...]
    """Hashes of the source of the task's metrics, in the task's order."""
    training: TrainingConfig
    """The training's configuration, with the actual precision and engine in place of `auto`."""
    weights: str
    device: str
    train: str
    """Hash of the training split."""
    evaluation: tuple[SplitHash, ...] = Field(min_length=1)
    """The splits that the run is scored on; the first decides."""
    selection: str | None = None
    """Hash of the selection split that a pool's trial is scored on too; None for other runs."""
    transfer: str | None = None
    """Hash of the unlabelled texts that the student is distilled from too; None without such texts."""
    halving: HalvingRound | None = None
    """The round of a search run with rungs; None for other runs."""

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The values that fingerprints hash: without what is None, and without stages by default."""
        values: dict[str, Any] = handler(self)
        if values["training"]["stages"] == CONSTANT:
            del values["training"]["stages"]
        return {
            name: value
            for name, value in values.items()
            if value is not None or name not in ("selection", "transfer", "halving")
        }

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
        """The split that decides: `selection` for search runs, the first evaluation split for others."""
        return self.evaluation[0]


@dataclasses.dataclass(frozen=True)
class RunProvenance(Provenance):
    """The provenance of a run, with the number of threads, the population, and the worker."""

    threads: int
    population: tuple[str, ...]
    """Fingerprints of all runs that were trained together, this one among them."""
    worker: str = ""
    """The process that trained the run: machine, process number, and its GPU where it sees one alone."""


@dataclass(frozen=True, config=_EXACT_KEYS)
class Record:
    """One run in the ledger."""

    fingerprint: str
    inputs: RunInputs
    status: Status
    reason: str | None
    """The reason why a run was pruned or failed; None for a complete run."""
    metrics: Mapping[str, float]
    """Scores by metric on the first split, by `METRIC (SPLIT)` on further ones."""
    selection: Mapping[str, float]
    """Scores of a search run, or of a pool's trial, on the selection split: by metric, and the mean loss
    on the labels by `LABEL_LOSS`. Empty for other report runs and for failed runs."""
    curves: tuple[Mapping[str, float], ...]
    """Each loss term's mean, by epoch."""
    seconds: float
    examples_per_second: float
    peak_memory: float
    """Peak memory in bytes."""
    provenance: RunProvenance
    created: float | None = dataclasses.field(default=None, compare=False)
    """The time when the ledger wrote the record, in seconds since 1970; None before."""

    @property
    def split_metrics(self) -> dict[str, dict[str, float]]:
        """The scores by split, in the order of evaluation, and by metric; empty for a failed run."""
        first, *other_splits = (split for split, _ in self.inputs.evaluation)
        scores: dict[str, dict[str, float]] = {split: {} for split in (first, *other_splits)}
        for name, value in self.metrics.items():
            split = next((split for split in other_splits if name.endswith(f" ({split})")), first)
            scores[split][name.removesuffix(f" ({split})")] = value
        return scores


LABEL_LOSS = "label_loss"
"""The key of the mean loss on the labels among the scores on the selection split."""
RUN_INPUTS, RECORD = TypeAdapter(RunInputs), TypeAdapter(Record)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One report run on one split: `logits` (examples, outputs), `labels` and `ids` (examples,)."""

    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float64]
    ids: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Result:
    """A run's record, its predictions by split, and its inspections by name."""

    record: Record
    predictions: Mapping[str, Predictions]
    inspections: Mapping[str, object]


class Use(NamedTuple):
    """The run that a study uses for a trial and a seed."""

    study: str
    role: Role
    trial: int
    seed: int
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A record as one study uses it. The trial of a report run is the study's best trial."""

    role: Role
    trial: int
    seed: int
    record: Record
    has_checksum: bool = dataclasses.field(default=True, compare=False)
    """Whether a checksum proves the record; runs of earlier versions have none."""
