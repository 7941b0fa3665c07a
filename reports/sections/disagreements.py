"""Where methods disagree: the number of examples, and the clearest examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.analysis.disagreements import Disagreements
from reports.evidence import Evidence
from reports.export.disagreements import COLUMNS, TEXTS, disagreement_table
from reports.kit import display
from reports.kit.blocks import Block, Section, by_task
from reports.kit.display import Columns, number
from reports.kit.palette import Styles

MOST_EXAMPLES = 40
"""The most examples that a comparison lists for each side."""
ROWS, CHARACTERS = 680, 100_000
"""About the examples and the characters of texts that the page lists: some 300 kB with the markup."""
LEAST_TEXT, MOST_TEXT = 150, 600
"""The least and the most characters that the texts of an example take together."""


class Words(NamedTuple):
    """The words and numbers for pairs of models: pairs of one seed, or pairs of tuned trials."""

    pairs: str
    models: str
    heading: str
    """The unit in a column's heading."""
    unit: str
    scale: int
    """Factor of counts or shares that are shown."""


SEED_WORDS = Words("seeds", "seeds", "", "", 1)
TRIAL_WORDS = Words("pairs of trials", "trials", ", %", " %", 100)


def counts_frame(comparisons: Iterable[Disagreements]) -> pd.DataFrame:
    """One row per comparison: the number of examples on which each side is closer in most seeds.

    `other` counts the remaining disagreements, on which neither side is closer in most seeds. For
    tuned methods, pairs of trials with their weights take the place of seeds.
    """
    rows = []
    for comparison in comparisons:
        method, baseline = len(comparison.clear_for_method), len(comparison.clear_for_baseline)
        rows.append(
            {
                "method": comparison.method,
                "baseline": comparison.baseline,
                "examples": comparison.examples,
                "method_clear": method,
                "baseline_clear": baseline,
                "other": len(comparison.ids) - method - baseline,
            }
        )
    return pd.DataFrame(rows)


def examples_frame(
    evidence: Evidence, comparisons: Iterable[Disagreements], limit: int
) -> pd.DataFrame:
    """The clearest examples of each comparison, at most `limit` for each side: `COLUMNS`."""
    parts = []
    for comparison in comparisons:
        rows = np.concatenate(
            [comparison.clear_for_method[:limit], comparison.clear_for_baseline[:limit]]
        )
        parts.append(disagreement_table(evidence, comparison, rows).to_pydict())
    return pd.DataFrame({name: list(chain(*(part[name] for part in parts))) for name in COLUMNS})


def list_limits(comparisons: int) -> tuple[int, int]:
    """The most examples for each side of each comparison, and the most characters of their texts."""
    limit = int(np.clip(ROWS // (2 * comparisons), 1, MOST_EXAMPLES))
    characters = CHARACTERS // (2 * comparisons * limit)
    return limit, int(np.clip(characters, LEAST_TEXT, MOST_TEXT))


def disagreements_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """A table of how often the task's methods disagree, and a list of the clearest examples."""
    gaps = tuple(f"{text}." for text in evidence.example_tests.problems.get(task, ()))
    comparisons = [comparison for comparison in evidence.disagreements if comparison.task == task]
    if not comparisons:
        # Each repeat has a report with its own examples.
        is_told = gaps and not evidence.manifest.is_joint
        return Block(evidence.task_label(task), gaps if is_told else ())
    regression = comparisons[0].is_regression
    words = TRIAL_WORDS if comparisons[0].is_tuned else SEED_WORDS
    tables = [
        display.table(
            "How often the methods disagree",
            counts_frame(comparisons),
            _count_columns(regression, words),
            styles,
        )
    ]
    limit, characters = list_limits(len(evidence.disagreements))
    examples = examples_frame(evidence, comparisons, limit)
    text_columns = [name for name in TEXTS if examples[name].notna().any()]
    if len(examples):
        examples = _in_words(_cut_texts(examples, text_columns, characters), words, regression)
        columns = _columns(regression, text_columns, words)
        table = display.table("Clearest examples", examples, columns, styles)
        tables.append(replace(table, searchable=True))
    note = f"The list has at most {limit} examples for each side of each comparison."
    return Block(evidence.task_label(task), (note, *gaps), tables=tuple(tables))


def _cut_texts(frame: pd.DataFrame, texts: list[str], characters: int) -> pd.DataFrame:
    """The frame with cut texts."""
    cut = [shorten(tuple(row), characters) for row in frame[texts].itertuples(index=False)]
    return frame.assign(**{name: [row[place] for row in cut] for place, name in enumerate(texts)})


def _in_words(frame: pd.DataFrame, words: Words, regression: bool) -> pd.DataFrame:
    """The frame with shares in percent, and after each class the number of seeds that give it."""
    names = ["method_closer", "baseline_closer"]
    names += [] if regression else ["method_votes", "baseline_votes"]
    frame = frame.assign(**{name: words.scale * frame[name] for name in names})
    for side in () if regression else ("method", "baseline"):
        answers = zip(frame[f"{side}_answer"], frame[f"{side}_votes"], strict=True)
        text = [f"{answer} ({votes:.0f}{words.unit})" for answer, votes in answers]
        frame = frame.assign(**{f"{side}_answer": text})
    return frame


def shorten(texts: tuple[str, ...], characters: int) -> tuple[str, ...]:
    """Cut one or two texts to `characters` together; a short text leaves its room to the other text."""
    share = characters // max(len(texts), 1)
    room = share + sum(max(share - len(text), 0) for text in texts)
    return tuple(text if len(text) <= room else f"{text[: room - 1]}…" for text in texts)


def _count_columns(regression: bool, words: Words) -> Columns:
    advantage = "closer" if regression else "alone right"
    return {
        "method": ("method", None),
        "baseline": ("against", None),
        "examples": ("examples", number(0)),
        "method_clear": (f"method {advantage} in most {words.pairs}", number(0)),
        "baseline_clear": (f"other method {advantage} in most {words.pairs}", number(0)),
        "other": (f"neither in most {words.pairs}", number(0)),
    }


def _columns(regression: bool, texts: list[str], words: Words) -> Columns:
    advantage, answer_format = ("closer", number(2)) if regression else ("alone right", None)
    errors: Columns = {
        "method_error": ("method's error", number(2)),
        "baseline_error": ("other method's error", number(2)),
    }
    return {
        "method": ("method", None),
        "baseline": ("against", None),
        **{name: (name.replace("_", " "), None) for name in texts},
        "label": ("label", answer_format),
        "method_answer": ("method's answer", answer_format),
        "baseline_answer": ("other method's answer", answer_format),
        **(errors if regression else {}),
        "method_closer": (f"{words.pairs} with method {advantage}{words.heading}", number(0)),
        "baseline_closer": (
            f"{words.pairs} with other method {advantage}{words.heading}",
            number(0),
        ),
        "seeds": (words.models, number(0)),
        "example": ("example", number(0)),
    }


SECTION = Section(
    anchor="disagreements",
    title="Where methods disagree",
    reading=(
        "Each comparison pairs the two methods' models of the same seed, or all trials of two tuned "
        "methods. An example counts if one model has it right and the other has it wrong; where labels "
        "are scores, if one model is closer."
    ),
    details=(
        "The list has the examples on which most seeds agree, the clearest first. An answer is the one "
        "that most seeds give; the number of these seeds is in brackets. A trial of a tuned method "
        "counts by its weight in the tuned score: the share of searches that keep the trial. So shares "
        "take the place of numbers of seeds, and an example counts if one side alone is right in 5 % of "
        "the pairs. Long texts are cut. All "
        "examples that count, with whole texts, are in disagreements.csv beside this page "
        "(NAME-disagreements.csv beside NAME.html). Methods that are equally good disagree too, and so "
        "do two seeds of one method. Nothing in this section is a test."
    ),
    maker=by_task(disagreements_block),
    part="evidence",
    reads_verdicts=False,
)
