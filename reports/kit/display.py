"""Tables of the page: frames of numbers turned into the texts of cells."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from reports.kit.palette import Style, Styles

DASH = "\N{EN DASH}"
"""The text of a cell without a value."""
MINUS_SIGN = "\N{MINUS SIGN}"
WRAP_LENGTH = 48
"""The most characters of a cell's text that stays on one line."""
DIGITS = 6
"""Significant digits of a cell's number for sorting and for exports."""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, whether the text is a number, the method's style, and emphasis.

    The page sorts and exports a cell by its `values`, or by its text without `values`. A heading's
    `parts` name the values of a column with several in each cell.
    """

    text: str
    numeric: bool = False
    style: Style | None = None
    emphasis: bool = False
    values: tuple[Any, ...] = ()
    parts: tuple[str, ...] = ()
    drawing: Markup | None = None
    """A small picture of the values above the text, which says the same."""
    hint: str = ""
    """A heading in full, where its text is short."""
    reference: bool = False
    """Whether the cell heads the row of a reference, such as the teacher."""

    @property
    def wraps(self) -> bool:
        """Whether the text takes several lines."""
        return len(self.text) > WRAP_LENGTH

    @property
    def data(self) -> tuple[str, ...]:
        """The values as texts for programs; a missing value is empty."""
        return tuple(map(_data_text, self.values)) or (self.text,)


@dataclass(frozen=True)
class Table:
    """A table ready to print. Screen readers read `label`; `searchable` adds a search field."""

    label: str
    headings: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    searchable: bool = False
    compact: bool = False
    """Whether a narrow screen shows the last column on a line of its own."""


@dataclass(frozen=True)
class Numbers:
    """The numbers that a figure is drawn from, a row for each mark."""

    frame: pd.DataFrame

    @property
    def csv(self) -> str:
        """All columns as CSV with a line of headings; a missing value is an empty cell."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([str(name).replace("_", " ") for name in self.frame.columns])
        columns = (self.frame[name] for name in self.frame.columns)
        writer.writerows(zip(*map(_column_texts, columns), strict=True))
        return stream.getvalue()


Format = Callable[[Any], str]


@dataclass(frozen=True)
class JointColumn:
    """A numeric column whose cells print several columns of the frame: the column itself and `others`.

    `text` makes a cell's text of the values; `parts` name the values, in the same order.
    """

    others: tuple[str, ...]
    parts: tuple[str, ...]
    text: Callable[..., str]


Columns = Mapping[str, tuple[str, Format | JointColumn | None]]


def number(digits: int) -> Format:
    """A format with `digits` decimals; NaN and infinity print as a dash."""
    return lambda value: _decimal_text(f"{value:.{digits}f}") if _is_finite(value) else DASH


def table(
    label: str,
    frame: pd.DataFrame,
    columns: Columns,
    styles: Styles | None = None,
) -> Table:
    """Print the frame's columns under headings; a column without a format is text, others are numeric.

    With `styles`, cells of the column `method` carry the method's symbol in its colour.
    """
    headings = tuple(
        Cell(
            heading,
            cell_format is not None,
            parts=cell_format.parts if isinstance(cell_format, JointColumn) else (),
        )
        for heading, cell_format in columns.values()
    )
    rows = []
    for record in frame.to_dict("records"):
        cells = []
        for name, (_, cell_format) in columns.items():
            style = (styles or {}).get(str(record[name])) if name == "method" else None
            cells.append(_cell(record, name, cell_format, style))
        rows.append(tuple(cells))
    return Table(label, headings, tuple(rows))


def _cell(
    record: Mapping[Any, Any],
    name: str,
    cell_format: Format | JointColumn | None,
    style: Style | None,
) -> Cell:
    if cell_format is None:
        return Cell(str(record[name]), style=style)
    if isinstance(cell_format, JointColumn):
        values = tuple(record[part] for part in (name, *cell_format.others))
        return Cell(cell_format.text(*values), True, values=values)
    cell = number_cell(record[name], cell_format)
    return cell if style is None else replace(cell, style=style)


def metrics_columns(frame: pd.DataFrame, first: str) -> dict[str, tuple[str, Format | None]]:
    """Columns for a frame whose column `first` holds names and whose other columns hold points."""
    scores: dict[str, tuple[str, Format | None]] = {
        str(name): (f"{name}, points", number(2)) for name in frame.columns if name != first
    }
    return {first: (first, None), **scores}


def interval_text(low: float, high: float) -> str:
    """`low to high` with signs, in points; `unbounded` for an infinite end, once for two."""
    if math.isnan(low):
        return DASH
    if math.isinf(low) and math.isinf(high):
        return "unbounded"
    ends = ("unbounded" if math.isinf(end) else _two_decimals(end) for end in (low, high))
    return " to ".join(ends)


def signed_text(value: float) -> str:
    """A number with its sign and two decimals; a dash for NaN and infinity."""
    return _two_decimals(value) if _is_finite(value) else DASH


def p_text(value: float) -> str:
    """A p value to three digits, `< 0.001` for a smaller one; a dash for NaN."""
    if not _is_finite(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3g}"


def number_cell(value: Any, text_format: Format) -> Cell:
    """A cell of a number, printed by a format."""
    return Cell(text_format(value), True, values=(value,))


def _two_decimals(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", MINUS_SIGN)


def _decimal_text(text: str) -> str:
    """A printed number with a minus sign for the hyphen; a zero has no sign."""
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", MINUS_SIGN)


def _is_finite(value: Any) -> bool:
    return bool(np.isfinite(value))


def _column_texts(column: pd.Series[Any]) -> list[str]:
    numeric = pd.api.types.is_numeric_dtype(column) and column.dtype != bool
    return [_data_text(value) if numeric else str(value) for value in column.tolist()]


def _data_text(value: Any) -> str:
    """A value in full: a number to `DIGITS` digits without trailing zeros; a missing value is empty."""
    if not isinstance(value, float | np.floating):
        return "" if value is None else str(value)
    text = f"{value:.{DIGITS}g}"
    if "e" not in text and "n" not in text:  # no exponent, no "nan" and no "inf"
        return "0" if text == "-0" else text
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(float(text)).removesuffix(".0")
