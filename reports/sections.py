"""The parts of the page in reading order, each with a line on how to read it.

Most have a block per task; what is said of all tasks at once has blocks of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reports import blocks
from reports.across_blocks import across_blocks
from reports.blocks import Block
from reports.by_example import examples_block
from reports.evidence import Evidence
from reports.palette import Style, method_styles
from reports.repeats import repeats_block
from reports.tuning import tuning_block


@dataclass(frozen=True)
class Section:
    """A part of the page. `anchor` is its id; blocks that are empty are left out."""

    anchor: str
    title: str
    reading: str
    blocks: tuple[Block, ...]


REPEATS = "repeats"
"""The section that is there only where the whole was repeated."""
TaskMaker = Callable[[Evidence, str, dict[str, Style]], Block]
BlocksMaker = Callable[[Evidence, dict[str, Style]], Iterable[Block]]


def sections(evidence: Evidence) -> tuple[Section, ...]:
    """All sections after the verdicts."""
    styles = method_styles(evidence.methods)
    return tuple(
        Section(
            anchor,
            title,
            reading,
            tuple(block for block in maker(evidence, styles) if not block.empty),
        )
        for anchor, title, reading, maker in _PARTS
        if evidence.repeats or anchor != REPEATS
    )


def _by_task(maker: TaskMaker) -> BlocksMaker:
    """A block for each task."""
    return lambda evidence, styles: (maker(evidence, task, styles) for task in evidence.tasks)


_PARTS: tuple[tuple[str, str, str, BlocksMaker], ...] = (
    (
        REPEATS,
        "Repeats",
        "Each repeat has a teacher, searches and report seeds of its own, and a report by the name "
        "in the table, beside this one; here a repeat is one pair of means. Settings that change from "
        "repeat to repeat are part of what the verdict's interval covers.",
        _by_task(repeats_block),
    ),
    (
        "seeds",
        "Runs by seed",
        "Each point is one run with the best setting; a line joins the two runs that share a seed. "
        "Lines that mostly rise towards the method speak for it.",
        _by_task(blocks.seeds_block),
    ),
    (
        "differences",
        "Paired differences",
        "Right of zero the method is better. Thick bar: sign-flip interval over seeds, for one "
        "comparison. Dotted bar: crossed bootstrap over seeds and examples, adjusted for all "
        "comparisons. A bar that is not drawn is unbounded or has no stored predictions. In the table "
        "only two columns decide: p after Holm, and the last one, equivalence within the margin that "
        "was fixed beforehand. Benjamini and Hochberg's p bounds the share of false findings, not the "
        "chance of any. BCa intervals are too narrow for few seeds: they cover about 90 % with ten. "
        "Where seeds were added until they decided, the thick bar is the repeated interval, the dotted "
        "one is not corrected for the looks, and what holds for a fixed number only is left out.",
        _by_task(blocks.differences_block),
    ),
    (
        "examples",
        "Example by example",
        "Each point is one seed's two models on all examples, its bar the bootstrap over examples: how "
        "far the difference of these very models may move on other ones. McNemar's test compares the "
        "examples that only one of the two has right. Seeds answer the same examples, so they are not "
        "pooled: medians and counts of seeds describe them and are no test. None of this decides.",
        _by_task(examples_block),
    ),
    (
        "across",
        "Across methods and tasks",
        "None of this decides: a rank depends on which other methods are there, and every p value and "
        "interval stands for itself. Diagram: average ranks, with bars over methods that are closer "
        "than the critical difference. Profiles: the share of runs above each score, with pointwise "
        "bands over seeds. Forest: thick bar, the random effect, which speaks of tasks like these; "
        "small marks, the tasks. A fixed effect speaks of these very tasks.",
        across_blocks,
    ),
    (
        "search",
        "Search",
        "Each point is one trial's mean selection score, from the search seeds; the ring marks the "
        "trial whose setting the report seeds use. Hover for the setting. Trials count from 0, as "
        "in Optuna.",
        _by_task(blocks.search_block),
    ),
    (
        "tuning",
        "Tuning curves",
        "How the best selection score rises with the number of settings tried, all of them drawn at "
        "random. Line: median; the mean is among the numbers. Band: holds for all numbers of trials at "
        "once, for each method on its own and whatever the distribution of its scores; it runs to the "
        "edge where there is no bound. It assumes independent trials, so only those drawn at random are "
        "used, and speaks of these search seeds, this teacher and these ranges. A failed trial ranks "
        "below all others. The table counts what each method's search has used, the same for all.",
        _by_task(tuning_block),
    ),
    (
        "losses",
        "Loss terms over training",
        "Terms are unweighted, their total is weighted as trained. Line: mean over report seeds; "
        "band: least to greatest.",
        _by_task(blocks.losses_block),
    ),
    (
        "targets",
        "What student layers are matched to",
        "Mixtures of teacher layers: each row is one student layer and sums to one; bright cells are "
        "the teacher layers it learns from, and entropy near 100 % means all of them alike. A learned "
        "target that hardly varies between examples has collapsed.",
        _by_task(blocks.targets_block),
    ),
    (
        "teacher",
        "Teacher",
        "The scores the students are measured against, and how much of each layer's energy varies "
        "between examples: below the dashed line (1 %) there is little to learn from a layer.",
        _by_task(blocks.teacher_block),
    ),
    (
        "cost",
        "Cost",
        "Means over finished runs; memory is the greatest of any run. Runs trained together share "
        "the machine, so compare seconds only within one machine and grouping.",
        _by_task(blocks.cost_block),
    ),
)
