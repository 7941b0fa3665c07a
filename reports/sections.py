"""The parts of the page in reading order, each with a line on how to read it, a block per task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reports import blocks
from reports.blocks import Block
from reports.evidence import Evidence
from reports.palette import Style, method_styles


@dataclass(frozen=True)
class Section:
    """A part of the page. `anchor` is its id; blocks that are empty are left out."""

    anchor: str
    title: str
    reading: str
    blocks: tuple[Block, ...]


BlockMaker = Callable[[Evidence, str, dict[str, Style]], Block]


def sections(evidence: Evidence) -> tuple[Section, ...]:
    """All sections after the verdicts."""
    styles = method_styles(evidence.methods)
    return tuple(
        Section(anchor, title, reading, tuple(_blocks(evidence, styles, maker)))
        for anchor, title, reading, maker in _PARTS
    )


def _blocks(evidence: Evidence, styles: dict[str, Style], maker: BlockMaker) -> Iterable[Block]:
    made = (maker(evidence, task, styles) for task in evidence.tasks)
    return (block for block in made if not block.empty)


_PARTS: tuple[tuple[str, str, str, BlockMaker], ...] = (
    (
        "seeds",
        "Runs by seed",
        "Each point is one run with the best setting; a line joins the two runs that share a seed. "
        "Lines that mostly rise towards the method speak for it.",
        blocks.seeds_block,
    ),
    (
        "differences",
        "Paired differences",
        "Right of zero the method is better. Thick bar: sign-flip interval over seeds, for one "
        "comparison. Dotted bar: crossed bootstrap over seeds and examples, adjusted for all "
        "comparisons. A bar that is not drawn is unbounded or has no stored predictions. In the table "
        "nothing but the last column decides: equivalence within the margin that was fixed beforehand. "
        "BCa intervals are too narrow for few seeds: they cover about 90 % with ten.",
        blocks.differences_block,
    ),
    (
        "search",
        "Search",
        "Each point is one trial's mean selection score, from the search seeds; the ring marks the "
        "trial whose setting the report seeds use. Hover for the setting. Trials count from 0, as "
        "in Optuna.",
        blocks.search_block,
    ),
    (
        "losses",
        "Loss terms over training",
        "Terms are unweighted, their total is weighted as trained. Line: mean over report seeds; "
        "band: least to greatest.",
        blocks.losses_block,
    ),
    (
        "targets",
        "What student layers are matched to",
        "Mixtures of teacher layers: each row is one student layer and sums to one; bright cells are "
        "the teacher layers it learns from, and entropy near 100 % means all of them alike. A learned "
        "target that hardly varies between examples has collapsed.",
        blocks.targets_block,
    ),
    (
        "teacher",
        "Teacher",
        "The scores the students are measured against, and how much of each layer's energy varies "
        "between examples: below the dashed line (1 %) there is little to learn from a layer.",
        blocks.teacher_block,
    ),
    (
        "cost",
        "Cost",
        "Means over finished runs; memory is the greatest of any run. Runs trained together share "
        "the machine, so compare seconds only within one machine and grouping.",
        blocks.cost_block,
    ),
)
