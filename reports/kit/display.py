"""From frames of numbers to the texts that stand in a table's cells."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from reports.kit.palette import Style, Styles

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
LONG = 48
DIGITS = 6
"""Significant digits of a number that a table's text stands for, in sorting and in exports."""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, whether it is a number, the method's look, and emphasis.

    `values` is what the text stands for, by which it is sorted and exported: empty for a text that
    stands for itself. A heading's `parts` name them where a column has several.
    """

    text: str
    numeric: bool = False
    style: Style | None = None
    strong: bool = False
    values: tuple[Any, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def long(self) -> bool:
        """The text is to be wrapped."""
        return len(self.text) > LONG

    @property
    def data(self) -> tuple[str, ...]:
        """The values as a program reads them; missing ones are empty."""
        return tuple(map(_data_text, self.values)) or (self.text,)


@dataclass(frozen=True)
class Table:
    """A table ready to print; `label` names it to screen readers. `searchable`: with a search field."""

    label: str
    headings: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    searchable: bool = False


@dataclass(frozen=True)
class Numbers:
    """What a figure is drawn from, a row for each mark."""

    frame: pd.DataFrame

    @property
    def csv(self) -> str:
        """All columns under their own names, with a line of headings; what is missing is empty."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([str(name).replace("_", " ") for name in self.frame.columns])
        columns = (self.frame[name] for name in self.frame.columns)
        writer.writerows(zip(*map(_column_texts, columns), strict=True))
        return stream.getvalue()


Format = Callable[[Any], str]


@dataclass(frozen=True)
class Joint:
    """A numeric column whose cells print several of the frame's: it and `others`, in words of `text`.

    `parts` name them, in the same order.
    """

    others: tuple[str, ...]
    parts: tuple[str, ...]
    text: Callable[..., str]


Columns = Mapping[str, tuple[str, Format | Joint | None]]


def number(digits: int) -> Format:
    """A format with that many decimals; NaN and infinity print as a dash."""
    return lambda value: _signless(f"{value:.{digits}f}") if _is_finite(value) else NOTHING


def table(
    label: str,
    frame: pd.DataFrame,
    columns: Columns,
    styles: Styles | None = None,
) -> Table:
    """Print the frame's columns under headings; a format makes a column numeric, None means text.

    Given `styles`, cells of the column `method` carry the method's symbol in its colour.
    """
    headings = tuple(
        Cell(heading, how is not None, parts=how.parts if isinstance(how, Joint) else ())
        for heading, how in columns.values()
    )
    rows = []
    for record in frame.to_dict("records"):
        cells = []
        for name, (_, how) in columns.items():
            style = (styles or {}).get(str(record[name])) if name == "method" else None
            cells.append(_cell(record, name, how, style))
        rows.append(tuple(cells))
    return Table(label, headings, tuple(rows))


def _cell(
    record: Mapping[Any, Any], name: str, how: Format | Joint | None, style: Style | None
) -> Cell:
    if how is None:
        return Cell(str(record[name]), style=style)
    if isinstance(how, Joint):
        values = tuple(record[part] for part in (name, *how.others))
        return Cell(how.text(*values), True, values=values)
    cell = number_cell(record[name], how)
    return cell if style is None else replace(cell, style=style)


def metrics_columns(frame: pd.DataFrame, first: str) -> dict[str, tuple[str, Format | None]]:
    """Columns for a frame of one name column and otherwise scores in points."""
    scores: dict[str, tuple[str, Format | None]] = {
        str(name): (f"{name}, points", number(2)) for name in frame.columns if name != first
    }
    return {first: (first, None), **scores}


def interval_text(low: float, high: float) -> str:
    """`low to high` with signs, in points; in words when unbounded."""
    if math.isnan(low):
        return NOTHING
    if math.isinf(low) or math.isinf(high):
        return "unbounded"
    return f"{_signed(low)} to {_signed(high)}"


def signed(value: float) -> str:
    """Two decimals with the sign; a dash where there is no number."""
    return _signed(value) if _is_finite(value) else NOTHING


def p_text(value: float) -> str:
    """A p value to three digits; a dash where there is none."""
    return f"{value:.3g}" if _is_finite(value) else NOTHING


def number_cell(value: Any, how: Format) -> Cell:
    """A number printed by a format."""
    return Cell(how(value), True, values=(value,))


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", MINUS)


def _signless(text: str) -> str:
    """Minus signs as such, none before a zero."""
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", MINUS)


def _is_finite(value: Any) -> bool:
    return bool(np.isfinite(value))


def _column_texts(column: pd.Series[Any]) -> list[str]:
    numeric = pd.api.types.is_numeric_dtype(column) and column.dtype != bool
    return [_data_text(value) if numeric else str(value) for value in column.tolist()]


def _data_text(value: Any) -> str:
    """A value in full: numbers to `DIGITS` digits, without trailing zeros; a missing one is empty."""
    if not isinstance(value, float | np.floating):
        return "" if value is None else str(value)
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(float(f"{value:.{DIGITS}g}") + 0.0).removesuffix(".0")
