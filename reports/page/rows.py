"""The rows of tables as HTML. A large page has twenty thousand cells, which macros print slowly."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from reports.kit.display import Cell
from reports.kit.palette import Style

WORDS_LENGTH = 20
"""The most characters of a heading whose column may be as narrow as its numbers."""


def glyph(style: Style) -> Markup:
    """A method's symbol in its colour."""
    return Markup('<span class="glyph" style="color:{}" aria-hidden="true">{}</span>').format(
        style.colour, style.glyph
    )


def heading_row(cells: Sequence[Cell]) -> Markup:
    """The row of a table's headings."""
    texts = (
        f'<th scope="col"{_classes(c, is_heading=True)}{_heading(c)}>{_content(c)}</th>'
        for c in cells
    )
    return Markup(f"<tr>{''.join(texts)}</tr>")  # noqa: S704 - its parts are escaped


def body_row(cells: Sequence[Cell]) -> Markup:
    """A row of values; its first cell heads the row."""
    first, *others = cells
    reference = ' class="reference"' if first.reference else ""
    texts = [f'<th scope="row"{_classes(first)}{_data(first)}>{_content(first)}</th>']
    texts += (f"<td{_classes(cell)}{_data(cell)}>{_content(cell)}</td>" for cell in others)
    return Markup(f"<tr{reference}>{''.join(texts)}</tr>")  # noqa: S704 - its parts are escaped


def _classes(cell: Cell, *, is_heading: bool = False) -> str:
    flags = {"n": cell.numeric, "b": cell.emphasis, "long": cell.wraps}
    flags["wide"] = is_heading and len(cell.text) > WORDS_LENGTH
    names = " ".join(name for name, is_set in flags.items() if is_set)
    return f' class="{names}"' if names else ""


def _heading(cell: Cell) -> str:
    """The attributes that headings alone have."""
    hint = f' title="{escape(cell.hint)}"' if cell.hint else ""
    return hint + (f' data-parts="{escape("|".join(cell.parts))}"' if cell.parts else "")


def _data(cell: Cell) -> str:
    has_values = cell.values and cell.data != (cell.text,)
    return f' data-v="{escape("|".join(cell.data))}"' if has_values else ""


def _content(cell: Cell) -> str:
    symbol = f"{glyph(cell.style)} " if cell.style else ""
    text = escape(cell.text)
    if cell.drawing:
        return f'{symbol}{cell.drawing}<span class="ends">{text}</span>'
    return f"{symbol}{text}"
