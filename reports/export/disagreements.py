"""`disagreements.csv`: every example that two compared methods disagree on, with whole texts."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.analysis.disagreements import Disagreements, Rows, Side
from harness.stats.arrays import Floats
from reports.evidence import Evidence

COLUMNS = (
    "ablation", "source", "task", "method", "baseline", "example", "seeds", "method_closer",
    "baseline_closer", "method_error", "baseline_error", "label", "method_answer", "method_votes",
    "baseline_answer", "baseline_votes", "text_1", "text_2",
)  # fmt: skip
"""The columns of `disagreements.csv`, which docs/files.md explains."""
TEXTS = ("text_1", "text_2")
DIGITS = 4
"""Digits of the shares of tuned methods."""


def disagreement_columns(
    evidence: Evidence, comparison: Disagreements, rows: Rows
) -> dict[str, list[Any]]:
    """The values of each of `COLUMNS` for some rows of a comparison.

    Labels and answers are the words of classes, or scores. Counts of tuned methods are shares. Votes
    of a regression are None, and so is the second text of an example with one text.
    """
    words = evidence.manifest.tasks[comparison.task].labels
    constant = {
        "ablation": evidence.manifest.name,
        "source": evidence.manifest.source.kind,
        "task": comparison.task,
        "method": comparison.method,
        "baseline": comparison.baseline,
        "seeds": len(comparison.seeds),
    }
    columns = {
        **{name: [value] * len(rows) for name, value in constant.items()},
        "example": comparison.ids[rows].tolist(),
        "label": _answer_values(comparison.labels[rows], words, comparison.is_regression),
        **_side("method", comparison.method_side, rows, words),
        **_side("baseline", comparison.baseline_side, rows, words),
        **_texts(evidence, comparison, rows),
    }
    return {name: columns[name] for name in COLUMNS}


def _side(name: str, side: Side, rows: Rows, words: Sequence[str]) -> dict[str, list[Any]]:
    is_regression = side.votes is None
    return {
        f"{name}_closer": np.round(side.wins[rows], DIGITS).tolist(),
        f"{name}_error": side.errors[rows].tolist(),
        f"{name}_answer": _answer_values(side.answers[rows], words, is_regression),
        f"{name}_votes": [None] * len(rows)
        if side.votes is None
        else np.round(side.votes[rows], DIGITS).tolist(),
    }


def _answer_values(values: Floats, words: Sequence[str], is_regression: bool) -> list[Any]:
    if is_regression:
        return list(values.tolist())
    return [words[int(value)] for value in values]


def _texts(
    evidence: Evidence, comparison: Disagreements, rows: Rows
) -> dict[str, list[str | None]]:
    texts = evidence.texts[comparison.task]
    example_texts = [texts[id] for id in comparison.ids[rows].tolist()]
    return {
        name: [parts[place] if place < len(parts) else None for parts in example_texts]
        for place, name in enumerate(TEXTS)
    }


def disagreements_csv(evidence: Evidence) -> str:
    """The CSV of all examples that any comparison disagrees on, with whole texts."""
    stream = io.StringIO()
    # Texts are quoted: the module leaves a carriage return bare before Python 3.13.
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(COLUMNS)
    for comparison in evidence.disagreements:
        columns = disagreement_columns(evidence, comparison, np.arange(len(comparison.ids)))
        writer.writerows(zip(*columns.values(), strict=True))
    return stream.getvalue()
