"""The parts of the page in reading order, each with a line on how to read it.

Most have a block per task; what is said of all tasks at once has blocks of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reports.evidence import Evidence
from reports.kit import blocks
from reports.kit.blocks import Block
from reports.kit.palette import Style, method_styles
from reports.sections.across.blocks import across_blocks
from reports.sections.cost import cost_blocks
from reports.sections.disagreements import disagreements_block
from reports.sections.examples import examples_block
from reports.sections.inside import blocks as inside_blocks
from reports.sections.power import power_blocks
from reports.sections.repeats import repeats_block
from reports.sections.space.blocks import space_block
from reports.sections.tuning import tuning_block


@dataclass(frozen=True)
class Section:
    """A part of the page. `anchor` is its id; blocks that are empty are left out.

    `reading` says in a line how to read it; `more` is what else there is to know.
    """

    anchor: str
    title: str
    reading: str
    more: str
    blocks: tuple[Block, ...]


REPEATS = "repeats"
"""The section that is there only where the whole was repeated."""
TaskMaker = Callable[[Evidence, str, dict[str, Style]], Block]
BlocksMaker = Callable[[Evidence, dict[str, Style]], Iterable[Block]]


def sections(evidence: Evidence) -> tuple[Section, ...]:
    """All sections after the verdicts."""
    styles = method_styles(evidence.methods)
    found = (
        Section(
            anchor,
            title,
            reading,
            more,
            tuple(block for block in maker(evidence, styles) if not block.empty),
        )
        for anchor, title, reading, more, maker in _PARTS
        if evidence.repeats or anchor != REPEATS
    )
    # What a joint report has not, the reports of its repeats have.
    return tuple(section for section in found if section.blocks or not evidence.repeats)


def _by_task(maker: TaskMaker) -> BlocksMaker:
    """A block for each task."""
    return lambda evidence, styles: (maker(evidence, task, styles) for task in evidence.tasks)


_PARTS: tuple[tuple[str, str, str, str, BlocksMaker], ...] = (
    (
        REPEATS,
        "Repeats",
        "Each repeat has a teacher, searches and report seeds of its own; here it is one pair "
        "of means.",
        "Each has a report by the name in the table, beside this one. Settings that change from"
        " repeat to repeat are part of what the verdict's interval covers.",
        _by_task(repeats_block),
    ),
    (
        "differences",
        "Paired differences",
        "Right of zero the method is better. Thick bar: sign-flip interval over seeds, for one "
        "comparison. Dotted bar: crossed bootstrap over seeds and examples, adjusted for all "
        "comparisons.",
        "A bar that is not drawn is unbounded or has no stored predictions. In the table only "
        "two columns decide: p after Holm, and the last one, equivalence within the margin that"
        " was fixed beforehand. Benjamini and Hochberg's p bounds the share of false findings, "
        "not the chance of any. BCa intervals are too narrow for few seeds: they cover about 90"
        " % with ten. Where seeds were added until they decided, the thick bar is the repeated "
        "interval, the dotted one is not corrected for the looks, and what holds for a fixed "
        "number only is left out.",
        _by_task(blocks.differences_block),
    ),
    (
        "seeds",
        "Runs by seed",
        "Each point is one run with the best setting; a line joins the two runs that share a "
        "seed. Lines that mostly rise towards the method speak for it.",
        "",
        _by_task(blocks.seeds_block),
    ),
    (
        "examples",
        "Example by example",
        "Each point is one seed's two models on all examples, its bar the bootstrap over "
        "examples: how far the difference of these very models may move on other ones.",
        "McNemar's test compares the examples that only one of the two has right. Seeds answer "
        "the same examples, so they are not pooled: medians and counts of seeds describe them "
        "and are no test. None of this decides.",
        _by_task(examples_block),
    ),
    (
        "disagreements",
        "Where methods disagree",
        "Examples that one method's model has right and the other's, of the same seed, has "
        "wrong; of scores, those to which one is closer.",
        "The list has those on which most seeds agree, from the clearest. In brackets: how many"
        " seeds give that answer, which is what most of them give. Long texts are cut; all such"
        " examples with whole texts are in disagreements.csv beside this page "
        "(NAME-disagreements.csv beside NAME.html). Methods that are equally good disagree too,"
        " as two seeds of one method do. None of this is a test.",
        _by_task(disagreements_block),
    ),
    (
        "across",
        "Across methods and tasks",
        "Diagram: average ranks, with bars over methods that are closer than the critical "
        "difference. Profiles: the share of runs above each score. Forest: thick bar, the "
        "random effect; small marks, the tasks.",
        "None of this decides: a rank depends on which other methods are there, and every p "
        "value and interval stands for itself. Bands of profiles are pointwise, over seeds. A "
        "random effect speaks of tasks like these, a fixed effect of these very tasks.",
        across_blocks,
    ),
    (
        "search",
        "Search",
        "Each point is one trial's mean selection score, from the search seeds; the ring marks "
        "the trial whose setting the report seeds use.",
        "Hover for the setting. Trials count from 0, as in Optuna.",
        _by_task(blocks.search_block),
    ),
    (
        "tuning",
        "Tuning curves",
        "How the best selection score rises with the number of settings tried, all of them "
        "drawn at random. Line: median. Band: holds for all numbers of trials at once.",
        "The mean is among the numbers. The band holds for each method on its own and whatever "
        "the distribution of its scores; it runs to the edge where there is no bound. It "
        "assumes independent trials, so only those drawn at random are used, and speaks of "
        "these search seeds, this teacher and these ranges. A failed trial ranks below all "
        "others. The table counts what each method's search has used, the same for all.",
        _by_task(tuning_block),
    ),
    (
        "space",
        "Search space",
        "Each line is one trial, coloured by its rank in its method, from the worst fifth "
        "(grey, thin) to the best (orange, thick). None of this decides: a sampler chose the "
        "trials.",
        "A line breaks where a method lacks a hyper-parameter. Importances are Optuna's "
        "PED-ANOVA: how differently a hyper-parameter is spread in the best quarter of trials "
        "and in all of them, each for itself, so that what matters only together with another "
        "one is not seen. Shares sum to 100 % even where nothing matters: only a star says that"
        " chance is no explanation (p < 0.05, not adjusted). Contours run straight from trial "
        "to trial: what else was searched varies too, and noise is not smoothed.",
        _by_task(space_block),
    ),
    (
        "losses",
        "Loss terms over training",
        "Terms are unweighted, their total is weighted as trained. Line: mean over report "
        "seeds; band: least to greatest.",
        "The scale is logarithmic, and says so, where methods lie far apart.",
        _by_task(blocks.losses_block),
    ),
    (
        "targets",
        "Looking inside: what layers are matched to",
        "Mixtures of teacher layers: each row is one student layer and sums to one; bright "
        "cells are the teacher layers it learns from. The slider goes through the epochs, 0 "
        "being before training.",
        "Entropy: 100 % means all teacher layers alike; band: least to greatest seed. A learned"
        " target that hardly varies between examples has collapsed.",
        _by_task(inside_blocks.targets_block),
    ),
    (
        "similarity",
        "Looking inside: layers that are alike",
        "How like each teacher layer (columns) each student layer (rows) is, before training "
        "and after it, and the change: orange rose, blue fell.",
        "Linear CKA, debiased: 1 is the same up to rotation and scale, 0 nothing in common. "
        "Cosine: 1 is the same direction, mean over examples. All are means over report seeds. "
        "A likeness is no merit by itself: compare it with the scores.",
        _by_task(inside_blocks.likeness_block),
    ),
    (
        "states",
        "Looking inside: states and labels",
        "Each point is one example's state in one layer of one student or of the teacher, on "
        "the first two principal components; colours are the labels.",
        "“Target of” a student layer is the mixture that it is matched to. Panels share their "
        "axes, where widths differ those of a row: a layer whose states hardly vary is a dot. "
        "Colours that lie apart are told apart in that layer; that they overlap says less, "
        "since two components are not all.",
        _by_task(inside_blocks.states_block),
    ),
    (
        "angles",
        "Looking inside: angles between teacher layers",
        "At a student layer's state, the angle between the ways to two teacher layers' states. "
        "Below 90° (dashed) a step towards one is a step towards the other.",
        "Means over examples and seeds. Mark and bar: median, least and greatest over the pairs"
        " of teacher layers; hollow: before training. Where angles are small it matters little "
        "which layer is matched: the explanation that arXiv 2502.04499 offers.",
        _by_task(inside_blocks.angles_block),
    ),
    (
        "teacher",
        "Teacher",
        "The scores the students are measured against, and how much of each layer's energy "
        "varies between examples: below the dashed line (1 %) there is little to learn from a "
        "layer.",
        "",
        _by_task(blocks.teacher_block),
    ),
    (
        "power",
        "What could be found",
        "Each line is a number of pairs: the chance that the sign-flip test decides for the "
        "right side, if the true difference is so large, at the spread that was seen (dashed "
        "line: four in five; dotted: the margin of equivalence).",
        "Points are the comparisons, each at its own spread and number of pairs. For planning: "
        "a spread from few pairs is itself uncertain (in brackets: 95 % interval, for normal "
        "differences). Never look up the observed difference here: its power is the p value in "
        "other words.",
        power_blocks,
    ),
    (
        "cost",
        "Timeline and cost",
        "Timeline: pale bars are search runs, full ones report runs. Cost: means over finished "
        "runs; ringed methods are surpassed by no other that costs no more, going by means.",
        "Runs that were trained together share a bar by their equal shares, and times without "
        "runs are cut out. A worker is a process: the ledger does not name them, bars that "
        "overlap are given to different ones. Memory is the greatest of any run, on a CPU of "
        "the whole process. Runs trained together share the machine, so compare seconds only "
        "within one machine and grouping. Open marks share their cost with other methods.",
        cost_blocks,
    ),
)
