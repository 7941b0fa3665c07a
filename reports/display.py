"""From frames of numbers to the texts that stand in a table's cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.palette import Style
from reports.tables import CONSTANT_ROW, TEACHER_ROW

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
LONG = 48


@dataclass(frozen=True)
class Cell:
    """One cell: its text, whether it is a number, the method's look, and emphasis."""

    text: str
    numeric: bool = False
    style: Style | None = None
    strong: bool = False

    @property
    def long(self) -> bool:
        """The text is to be wrapped."""
        return len(self.text) > LONG


@dataclass(frozen=True)
class Table:
    """A table ready to print; `label` names it to screen readers."""

    label: str
    headings: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]


Format = Callable[[Any], str]


def number(digits: int) -> Format:
    """A format with that many decimals; NaN and infinity print as a dash."""
    return lambda value: _signless(f"{value:.{digits}f}") if _is_finite(value) else NOTHING


def table(
    label: str,
    frame: pd.DataFrame,
    columns: Mapping[str, tuple[str, Format | None]],
    styles: Mapping[str, Style] | None = None,
) -> Table:
    """Print the frame's columns under headings; a format makes a column numeric, None means text.

    Given `styles`, cells of the column `method` carry the method's symbol in its colour.
    """
    headings = tuple(Cell(heading, how is not None) for heading, how in columns.values())
    rows = []
    for record in frame.to_dict("records"):
        cells = []
        for name, (_, how) in columns.items():
            style = (styles or {}).get(str(record[name])) if name == "method" else None
            text = how(record[name]) if how else str(record[name])
            cells.append(Cell(text, how is not None, style))
        rows.append(tuple(cells))
    return Table(label, headings, tuple(rows))


def plain_table(label: str, frame: pd.DataFrame) -> Table:
    """Print all columns under their own names, numbers to four digits."""
    columns: dict[str, tuple[str, Format | None]] = {}
    for name in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype != bool
        columns[name] = (str(name).replace("_", " "), _four_digits if numeric else None)
    return table(label, frame, columns)


def metrics_columns(frame: pd.DataFrame, first: str) -> dict[str, tuple[str, Format | None]]:
    """Columns for a frame of one name column and otherwise scores in points."""
    scores: dict[str, tuple[str, Format | None]] = {
        str(name): (f"{name}, points", number(2)) for name in frame.columns if name != first
    }
    return {first: (first, None), **scores}


def verdict_display(frame: pd.DataFrame, styles: Mapping[str, Style]) -> Table:
    """Print `tables.verdict_table`."""
    texts = ("task", "method", "metric")
    numbers = ("mean, points", "sd", "seeds", "difference, points", "interval", "adjusted p")
    headings = (*(Cell(text) for text in texts), *(Cell(text, True) for text in numbers))
    rows = tuple(_verdict_row(row, styles) for row in frame.to_dict("records"))
    return Table("Scores and differences", (*headings, Cell("outcome")), rows)


def _verdict_row(row: Mapping[Any, Any], styles: Mapping[str, Style]) -> tuple[Cell, ...]:
    reference = row["method"] in (TEACHER_ROW, CONSTANT_ROW) and row["method"] not in styles
    best = row["best"] is True
    compared = isinstance(row["baseline"], str)
    difference = f"{_signed(row['difference'])} vs {row['baseline']}" if compared else NOTHING
    mean = number(2)(row["mean"])
    return (
        Cell(row["task"]),
        Cell(row["method"], style=styles.get(row["method"]), strong=not reference),
        Cell(row["metric"]),
        Cell(f"{mean} (highest)" if best else mean, True, strong=best),
        Cell(number(2)(row["sd"]), True),
        Cell(NOTHING if reference else number(0)(row["seeds"]), True),
        Cell(difference, True),
        Cell(interval_text(row["low"], row["high"]) if compared else NOTHING, True),
        Cell(f"{row['adjusted_p']:.3g}" if compared else NOTHING, True),
        Cell(row["outcome"] if compared else NOTHING, strong=compared),
    )


def effects_display(frame: pd.DataFrame, styles: Mapping[str, Style]) -> Table:
    """Print `tables.effects_table`."""
    columns: dict[str, tuple[str, Format | None]] = {
        "method": ("method", None),
        "baseline": ("against", None),
        "pairs": ("pairs", number(0)),
        "t": ("t interval, points", None),
        "t_p": ("t test, p", number(3)),
        "normality_p": ("normality, p", number(3)),
        "bca": ("BCa interval, points", None),
        "wilcoxon_p": ("signed ranks, p", number(3)),
        "d_z": ("d_z", number(2)),
        "rank_biserial": ("rank-biserial", number(2)),
        "wins": ("wins another seed, %", None),
        "margin": ("margin, points", number(1)),
        "equivalence_p": ("equivalence, adjusted p", number(3)),
    }
    records = frame.to_dict("records")
    wins = [
        f"{row['superiority']:.0f} ({row['superiority_low']:.0f} to {row['superiority_high']:.0f})"
        for row in records
    ]
    intervals = {
        name: [interval_text(row[f"{name}_low"], row[f"{name}_high"]) for row in records]
        for name in ("t", "bca")
    }
    shown = frame.assign(wins=wins, **intervals)
    return table("More about each difference, over the seeds", shown, columns, styles)


def interval_text(low: float, high: float) -> str:
    """`low to high` with signs, in points; in words when unbounded."""
    if math.isnan(low):
        return NOTHING
    if math.isinf(low) or math.isinf(high):
        return "unbounded"
    return f"{_signed(low)} to {_signed(high)}"


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", MINUS)


def _signless(text: str) -> str:
    """Minus signs as such, none before a zero."""
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", MINUS)


def _four_digits(value: Any) -> str:
    return f"{value:.4g}".replace("-", MINUS) if _is_finite(value) else NOTHING


def _is_finite(value: Any) -> bool:
    return bool(np.isfinite(value))
