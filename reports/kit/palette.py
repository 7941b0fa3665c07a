"""Colours and marker symbols: one of each per method, the same in every figure and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#C4709F", "#B97F00", "#2F93CE")
"""Colours for colour-blind readers: those of Okabe and Ito (2008) without black and yellow, the last
three darkened. Each has a contrast of at least 3:1 to the page, light or dark."""

SYMBOLS = {
    "circle": "\N{BLACK CIRCLE}",
    "square": "\N{BLACK SQUARE}",
    "diamond": "\N{BLACK DIAMOND}",
    "triangle-up": "\N{BLACK UP-POINTING TRIANGLE}",
    "cross": "\N{HEAVY GREEK CROSS}",
    "star": "\N{BLACK STAR}",
    "hexagon": "\N{BLACK HEXAGON}",
}
"""Plotly's marker symbols, each with its character in text."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
"""Plotly's dashes, one for each colour: lines differ in grey too."""


SIGNS = {
    "better": "\N{BLACK UP-POINTING TRIANGLE}",
    "worse": "\N{BLACK DOWN-POINTING TRIANGLE}",
    "equivalent": "\N{ALMOST EQUAL TO}",
    "not decided": "\N{WHITE CIRCLE}",
}
"""The mark of each outcome, the same in every table and figure."""


@dataclass(frozen=True)
class Style:
    """The look of one method in figures. `symbol` and `dash` are Plotly's names."""

    colour: str
    symbol: str
    dash: str

    @property
    def glyph(self) -> str:
        """The symbol as a character."""
        return SYMBOLS[self.symbol]


Styles = Mapping[str, Style]
"""The style of each method, in the order of the page."""


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """A style for each method, by position; no two of the first 42 share symbol and dash."""
    symbols = list(SYMBOLS)
    return {
        method: Style(
            COLOURS[index % len(COLOURS)],
            symbols[index % len(symbols)],
            DASHES[index % len(DASHES)],
        )
        for index, method in enumerate(methods)
    }
