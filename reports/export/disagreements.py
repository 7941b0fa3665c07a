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
"""Of `disagreements.csv`; docs/files.md says what each of them is."""
TEXTS = ("text_1", "text_2")


def columns_of(evidence: Evidence, found: Disagreements, rows: Rows) -> dict[str, list[Any]]:
    """`COLUMNS`, each a list with a value for each of those rows of a comparison.

    Labels and answers are the label's words, or scores. Votes of scores and texts that are not there
    are None.
    """
    words = evidence.manifest.tasks[found.task].labels
    constant = {
        "ablation": evidence.manifest.name,
        "source": evidence.manifest.source.kind,
        "task": found.task,
        "method": found.method,
        "baseline": found.baseline,
        "seeds": len(found.seeds),
    }
    columns = {
        **{name: [value] * len(rows) for name, value in constant.items()},
        "example": found.ids[rows].tolist(),
        "label": _named(found.labels[rows], words, found.scored),
        **_side("method", found.ours, rows, words),
        **_side("baseline", found.theirs, rows, words),
        **_texts(evidence, found, rows),
    }
    return {name: columns[name] for name in COLUMNS}


def _side(name: str, side: Side, rows: Rows, words: Sequence[str]) -> dict[str, list[Any]]:
    scored = side.votes is None
    return {
        f"{name}_closer": side.closer[rows].tolist(),
        f"{name}_error": side.errors[rows].tolist(),
        f"{name}_answer": _named(side.answers[rows], words, scored),
        f"{name}_votes": [None] * len(rows) if side.votes is None else side.votes[rows].tolist(),
    }


def _named(values: Floats, words: Sequence[str], scored: bool) -> list[Any]:
    if scored:
        return list(values.tolist())
    return [words[int(value)] for value in values]


def _texts(evidence: Evidence, found: Disagreements, rows: Rows) -> dict[str, list[str | None]]:
    texts = evidence.texts[found.task]
    told = [texts[id] for id in found.ids[rows].tolist()]
    return {
        name: [own[place] if place < len(own) else None for own in told]
        for place, name in enumerate(TEXTS)
    }


def disagreements_csv(evidence: Evidence) -> str:
    """All examples that some comparison disagrees on as CSV, with whole texts."""
    stream = io.StringIO()
    # Quoted: a text may hold a carriage return, which the module leaves bare before Python 3.13.
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(COLUMNS)
    for found in evidence.disagreements:
        columns = columns_of(evidence, found, np.arange(len(found.ids)))
        writer.writerows(zip(*columns.values(), strict=True))
    return stream.getvalue()
