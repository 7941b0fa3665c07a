"""`disagreements.csv`: every example that two compared methods disagree on, with whole texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

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


def disagreements_csv(evidence: Evidence) -> bytes:
    """The CSV of all examples that any comparison disagrees on, with whole texts.

    Words and texts stand in quotes; a value that is missing has none, and is empty. Half a pair of
    surrogates becomes a question mark.
    """
    stream = pa.BufferOutputStream()
    stream.write(",".join(f'"{name}"' for name in COLUMNS).encode() + b"\n")
    for comparison in evidence.disagreements:
        table = disagreement_table(evidence, comparison, np.arange(len(comparison.ids)))
        pa.csv.write_csv(table, stream, pa.csv.WriteOptions(include_header=False))
    content: bytes = stream.getvalue().to_pybytes()
    return content


def disagreement_table(evidence: Evidence, comparison: Disagreements, rows: Rows) -> pa.Table:
    """Some rows of a comparison, with `COLUMNS`.

    Labels and answers are the words of classes, or scores. Counts of tuned methods are shares. Votes
    of a regression are null, and so is the second text of an example with one text.
    """
    words = None if comparison.is_regression else evidence.manifest.tasks[comparison.task].labels
    constant = {
        "ablation": evidence.manifest.name,
        "source": evidence.manifest.source.kind,
        "task": comparison.task,
        "method": comparison.method,
        "baseline": comparison.baseline,
        "seeds": len(comparison.seeds),
    }
    columns = {
        **{name: pa.repeat(value, len(rows)) for name, value in constant.items()},
        "example": comparison.ids[rows],
        "label": _answer_values(comparison.labels[rows], words),
        **_side("method", comparison.method_side, rows, words),
        **_side("baseline", comparison.baseline_side, rows, words),
        **_texts(evidence, comparison, rows),
    }
    return pa.table({name: columns[name] for name in COLUMNS})


def _side(
    name: str, side: Side, rows: Rows, words: Sequence[str] | None
) -> dict[str, pa.Array | npt.NDArray[np.generic]]:
    return {
        f"{name}_closer": np.round(side.wins[rows], DIGITS),
        f"{name}_error": side.errors[rows],
        f"{name}_answer": _answer_values(side.answers[rows], words),
        f"{name}_votes": pa.nulls(len(rows))
        if side.votes is None
        else np.round(side.votes[rows], DIGITS),
    }


def _answer_values(values: Floats, words: Sequence[str] | None) -> pa.Array:
    """The words of classes, or scores."""
    if words is None:
        return pa.array(values)
    return _text_array(words).take(pa.array(values.astype(np.int64)))


def _texts(evidence: Evidence, comparison: Disagreements, rows: Rows) -> dict[str, pa.Array]:
    texts = evidence.texts[comparison.task]
    example_texts = [texts[id] for id in comparison.ids[rows].tolist()]
    return {
        name: _text_array([parts[place] if place < len(parts) else None for parts in example_texts])
        for place, name in enumerate(TEXTS)
    }


def _text_array(texts: Sequence[str | None]) -> pa.Array:
    encoded = [None if text is None else text.encode("utf-8", "replace") for text in texts]
    return pa.array(encoded, pa.string())
