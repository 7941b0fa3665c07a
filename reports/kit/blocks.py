"""A section of the page and its parts: blocks of words, panels with figures, and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from reports.evidence import Evidence
from reports.kit.choices import Choice
from reports.kit.display import Numbers, Table
from reports.kit.drawing import Drawing, true_minus
from reports.kit.palette import Style, Styles

Key = tuple[tuple[str, Style], ...]
"""Methods with their styles, as the key below a figure's caption lists them."""


@dataclass(frozen=True)
class Panel:
    """A figure with its caption, its description (`alt`), its numbers and its key of methods."""

    caption: str
    alt: str
    figure: Drawing
    numbers: Numbers
    key: Key = ()
    choice: Choice | None = None
    """The states that the reader chooses from; None for a figure of one state."""
    method: str = ""
    """The method of a figure of one method, which the picker of methods can leave out."""


def panel(
    caption: str,
    alt: str,
    figure: Drawing,
    frame: pd.DataFrame,
    key: Key = (),
    choice: Choice | None = None,
    method: str = "",
) -> Panel:
    """A panel whose description is the caption and `alt`, a sentence without its period."""
    text = true_minus(f"{caption}. {alt}.")
    return Panel(caption, text, figure, Numbers(frame), key, choice, method)


def method_key(styles: Styles, methods: Iterable[str]) -> Key:
    """The styles of some methods, in the order of `styles`."""
    names = set(methods)
    return tuple((name, style) for name, style in styles.items() if name in names)


@dataclass(frozen=True)
class Block:
    """A part of a section under its title, often for one task. The page leaves out empty blocks."""

    title: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the block has nothing to show."""
        return not (self.notes or self.warnings or self.panels or self.tables)


BlocksMaker = Callable[[Evidence, Styles], Iterable[Block]]
TaskMaker = Callable[[Evidence, str, Styles], Block]


def by_task(maker: TaskMaker) -> BlocksMaker:
    """The maker of a block for each task."""
    return lambda evidence, styles: (maker(evidence, task, styles) for task in evidence.tasks)


Part = Literal["evidence", "appendix"]
"""The parts of the page below the result. The appendix is closed."""


@dataclass(frozen=True)
class Section:
    """A part of the page: its words, and the maker of its blocks.

    `anchor` is the section's id in the page. `reading` says in a line how to read the section;
    `details` has further help. The page leaves out a section without blocks.
    """

    anchor: str
    title: str
    reading: str
    maker: BlocksMaker
    details: str = ""
    part: Part = "appendix"
    settings_only: bool = False
    """Whether the section is about the runs of one best setting. Pages on tuned scores leave it out."""
    reads_verdicts: bool = True
    """Whether the section reads comparisons. Other sections are made first, while the verdicts still
    wait for their intervals over new examples."""
    joins_tasks: bool = False
    """Whether the section joins the scores of all tasks. Pages with cells leave it out."""

    def blocks(self, evidence: Evidence, styles: Styles) -> tuple[Block, ...]:
        """The section's blocks without the empty ones."""
        return tuple(block for block in self.maker(evidence, styles) if not block.is_empty)
