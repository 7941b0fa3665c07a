"""Made-up results of runs: curves, predictions and inspections in the forms that a training leaves.

Scores follow from the predictions, as in a study. The caller's generator draws all numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.scores import evaluate
from harness.data.tasks import Task
from harness.method import Method
from harness.runtime.provenance import provenance
from harness.stats.arrays import Floats
from harness.storage.record import Predictions, Record, RunInputs, RunProvenance

STUDENT_LAYERS, TEACHER_LAYERS = 4, 12
INSPECTED_EXAMPLES, POINTS = 256, 96
"""Examples of an inspection's means, and examples of its figure of states."""
POPULATION_SIZE = 24
"""Runs in a population."""
MADE_UP_POPULATION = tuple(f"{number:064x}" for number in range(POPULATION_SIZE))
"""Fingerprints of runs that do not exist."""


@dataclass(frozen=True)
class MadeUpSplit:
    """Labels (examples,) and difficulties (examples,) of a split, and the hash of its data."""

    labels: npt.NDArray[Any]
    difficulty: Floats
    sha256: str


def made_up_labels(task: Task, examples: int, generator: np.random.Generator) -> npt.NDArray[Any]:
    """Labels (examples,) of a task: scores from 0 to 5, or classes."""
    if task.regression:
        return generator.uniform(0, 5, examples)
    return generator.integers(task.outputs, size=examples)


def made_up_record(
    fingerprint: str,
    method: type[Method],
    inputs: RunInputs,
    metrics: Mapping[str, float],
    generator: np.random.Generator,
    selection: Mapping[str, float] = MappingProxyType({}),
    population: Sequence[str] = MADE_UP_POPULATION,
) -> Record:
    """The record of a complete run with these scores."""
    terms = [
        "label",
        *["kd"] * method.uses_teacher(),
        *["layer"] * method.matches_layers(),
        "total",
    ]
    starts = generator.uniform(0.5, 2.0, len(terms))
    curves = [
        {term: float(start / (epoch + 1)) for term, start in zip(terms, starts, strict=True)}
        for epoch in range(inputs.training.epochs)
    ]
    return Record(
        fingerprint=fingerprint,
        inputs=inputs,
        status="complete",
        reason=None,
        metrics=metrics,
        selection=selection,
        curves=tuple(curves),
        seconds=float(generator.uniform(0.8, 1.2)),
        examples_per_second=float(generator.uniform(2500, 3500)),
        peak_memory=float(generator.integers(2**30)),
        provenance=RunProvenance(**vars(provenance()), threads=2, population=tuple(population)),
    )


def made_up_predictions(
    task: Task, splits: Mapping[str, MadeUpSplit], skill: float, generator: np.random.Generator
) -> tuple[dict[str, Predictions], dict[str, float]]:
    """Predictions and metrics by split, named as `harness.evaluation.scoring` does."""
    predictions: dict[str, Predictions] = {}
    metrics: dict[str, float] = {}
    luck = float(generator.normal(scale=0.1))
    for position, (name, split) in enumerate(splits.items()):
        ease = skill + luck - split.difficulty + 0.3 * generator.normal(size=len(split.labels))
        if task.regression:
            logits = (split.labels + generator.normal(size=len(ease)) / np.exp(ease / 2))[:, None]
        else:
            logits = generator.normal(size=(len(ease), task.outputs))
            logits[np.arange(len(ease)), split.labels] += ease
        split_predictions = Predictions(
            logits.astype(np.float32),
            split.labels.astype(np.float64),
            np.arange(len(ease), dtype=np.int64),
        )
        scores = evaluate(task, split.labels, split_predictions.logits)
        metrics |= scores if position == 0 else {f"{k} ({name})": v for k, v in scores.items()}
        predictions[name] = split_predictions
    return predictions, metrics


def made_up_inspections(
    epochs: int, task: Task, method: type[Method], split: str, generator: np.random.Generator
) -> dict[str, Any]:
    """The inspections of a report run, by name."""
    m, n = STUDENT_LAYERS, TEACHER_LAYERS
    source = {"split": split, "examples": INSPECTED_EXAMPLES}

    def before_and_after() -> dict[str, Any]:
        return {moment: _rounded_list(generator.random((m, n))) for moment in ("before", "after")}

    inspections: dict[str, Any] = {
        "layers": source
        | {
            "pooling": "cls",
            "cka": before_and_after(),
            "cosine": before_and_after(),
            "angles": {moment: _angles(generator) for moment in ("before", "after")},
        },
        "projection": source
        | {
            "pooling": "cls",
            "joint": True,
            "labels": _rounded_list(made_up_labels(task, POINTS, generator)),
            "explained": {"student": [0.5, 0.2], "teacher": [0.5, 0.2]},
            "student": _rounded_list(generator.normal(size=(m, POINTS, 2))),
            "teacher": _rounded_list(generator.normal(size=(n, POINTS, 2))),
            "fused": _rounded_list(generator.normal(size=(m, POINTS, 2)))
            if method.inspects()
            else None,
        },
    }
    if method.inspects():
        maps = generator.dirichlet(np.ones(n), size=(epochs + 1, m))
        entropy = generator.random((epochs + 1, m))
        inspections["targets"] = source | {
            "map": _rounded_list(maps[-1]),
            "entropy": _rounded_list(entropy[-1]),
            "target_length": generator.uniform(1, 3, m).tolist(),
            "target_variance_share": generator.uniform(0.1, 0.6, m).tolist(),
        }
        inspections["epochs"] = source | {
            "epochs": list(range(epochs + 1)),
            "map": _rounded_list(maps),
            "entropy": _rounded_list(entropy),
        }
    return inspections


def _angles(generator: np.random.Generator) -> Any:
    """Degrees between two teacher layers at each student layer (m, n, n): symmetric, zero diagonal."""
    angles = np.triu(generator.uniform(20, 90, (STUDENT_LAYERS, TEACHER_LAYERS, TEACHER_LAYERS)), 1)
    return _rounded_list(angles + angles.swapaxes(1, 2))


def _rounded_list(values: npt.NDArray[Any]) -> Any:
    """The values as lists, rounded to the digits of recorded inspections."""
    return values.round(4).tolist()
