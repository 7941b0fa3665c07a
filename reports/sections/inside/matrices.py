"""Matrices of student by teacher layers, as rows of a frame and as heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.stats.arrays import Floats

DECIMALS = 3
"""Decimals of weights, similarities and their spread."""
HEAT_MAP: dict[str, Any] = {
    "type": "heatmap", "x0": 1, "y0": 1, "xgap": 1, "ygap": 1,
    "hovertemplate": "student layer %{y}, teacher layer %{x}: %{z:.3f}<extra></extra>",
}  # fmt: skip
"""The hover template holds no text from the ledger, because Plotly reads names in a template."""


def round_values(values: Floats) -> Floats:
    """Round to `DECIMALS`, without negative zeros."""
    return np.asarray(values.round(DECIMALS) + 0.0)


def matrix_rows(values: Floats, *labels: str | int) -> list[tuple[Any, ...]]:
    """A row per student layer: `labels`, the layer's number, and its values by teacher layer."""
    return [
        (*labels, layer, *row) for layer, row in enumerate(round_values(values).tolist(), start=1)
    ]


def matrix_frame(rows: Sequence[tuple[Any, ...]], label_names: Sequence[str]) -> pd.DataFrame:
    """A frame of rows of `matrix_rows`; the longest rows have all teacher layers."""
    teachers = max(map(len, rows)) - len(label_names) - 1
    columns = (*label_names, "student_layer", *(f"teacher {k}" for k in range(1, teachers + 1)))
    return pd.DataFrame(rows, columns=pd.Index(columns))


def cells(values: Floats) -> list[list[float | None]]:
    """A matrix for Plotly, rounded, with None for NaN."""
    return [
        [None if np.isnan(value) else value for value in row]
        for row in round_values(values).tolist()
    ]


def colour_bar(title: str) -> dict[str, Any]:
    """A narrow bar beside a heat map."""
    return {"title": {"text": title}, "thickness": 12, "outlinewidth": 0}
