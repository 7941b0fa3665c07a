"""A run as trackers get it: names, plain parameters, curves and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.storage.record import Record

Parameter = bool | int | float | str


@dataclass(frozen=True)
class TrackedRun:
    """One run that has ended.

    `project` and `group` are the task with its source, and the method. `parameters` are the run's inputs
    by dotted name. `curves` have the mean of each loss term, one mapping for each epoch. `scores` are by
    split and metric, with the run's cost.
    """

    name: str
    project: str
    group: str
    parameters: Mapping[str, Parameter]
    curves: tuple[Mapping[str, float], ...]
    scores: Mapping[str, float]
    has_failed: bool

    @classmethod
    def of(cls, record: Record, study: str, trial: int) -> TrackedRun:
        """The run of a record, as a study's trial."""
        inputs = record.inputs
        plain = inputs.plain()
        kept = {
            name: plain[name]
            for name in ("source", "method", "seed", "role", "pooling", "weights", "device")
        }
        kept |= {
            "task": inputs.task_name,
            "study": study,
            "trial": trial,
            "status": record.status,
            "reason": record.reason,
            "fingerprint": record.fingerprint,
            "teacher": inputs.teacher,
            "transfer": inputs.transfer,
            **{name: plain[name] for name in ("setting", "student", "training")},
        }
        return cls(
            name=f"{inputs.method}-{inputs.role}-{trial}-{inputs.seed}-{record.fingerprint[:8]}",
            project=f"{inputs.source}-{inputs.task_name}",
            group=inputs.method,
            parameters=dict(_flat(kept)),
            curves=tuple(
                {f"loss.{name}": value for name, value in epoch.items()} for epoch in record.curves
            ),
            scores=dict(_scores(record)),
            has_failed=record.status == "failed",
        )


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Parameter]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            plain = isinstance(value, bool | int | float | str)
            yield f"{prefix}{name}", value if plain else str(value)  # type: ignore[misc]


def _scores(record: Record) -> Iterator[tuple[str, float]]:
    for split, metrics in record.split_metrics.items():
        for metric, value in metrics.items():
            yield f"{split}.{metric}", value
    for metric, value in record.selection.items():
        yield f"selection.{metric}", value
    yield "seconds", record.seconds
    yield "examples_per_second", record.examples_per_second
    yield "peak_memory_bytes", record.peak_memory
