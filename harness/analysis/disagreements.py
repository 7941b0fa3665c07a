"""Where two methods disagree: the examples that one method has right and the other method wrong.

Counts and means over several seeds describe these runs; they are no test. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.analysis.answers import Answers, StoredAnswers
from harness.analysis.compare import AblationResult, Comparison
from harness.analysis.examples import answers_on
from harness.stats.arrays import Floats

Counts = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Side:
    """One method's answers on the examples that two methods disagree on; all arrays are (examples,).

    `answers` are the classes that most seeds give, the lowest class of a tie, or mean scores. `votes`
    count the seeds that give the class, and are None for scores. `errors` are means over seeds of the
    distance to the label; for classes, the share of seeds that are wrong, from 0 to 1. `wins` count
    the seeds whose error is less than the other side's; for classes, the seeds that alone are right.
    """

    answers: Floats
    votes: Counts | None
    errors: Floats
    wins: Counts


@dataclass(frozen=True)
class Disagreements:
    """One comparison on the examples where some seed's two models are not equally right.

    The arrays are (examples,), sorted by `advantage`, the baseline's error less the method's, from the
    method's greatest; then by id. `examples` is the number of all examples. The two models of a pair
    have the same seed.
    """

    task: str
    method: str
    baseline: str
    seeds: tuple[int, ...]
    examples: int
    is_regression: bool
    """Whether labels and answers are a regression's scores, not classes."""
    ids: npt.NDArray[np.int64]
    labels: Floats
    advantage: Floats
    method_side: Side
    baseline_side: Side

    @property
    def clear_for_method(self) -> Rows:
        """Rows where the method is closer in most seeds and in the mean, from its greatest advantage."""
        wins_most = 2 * self.method_side.wins > len(self.seeds)
        return np.flatnonzero(wins_most & (self.advantage > 0))

    @property
    def clear_for_baseline(self) -> Rows:
        """The baseline's rows of that kind, from its greatest advantage, then by id."""
        wins_most = 2 * self.baseline_side.wins > len(self.seeds)
        rows = np.flatnonzero(wins_most & (self.advantage < 0))
        return rows[np.lexsort((self.ids[rows], self.advantage[rows]))]


def disagreements(
    stored_answers: StoredAnswers, result: AblationResult
) -> tuple[Disagreements, ...]:
    """The disagreements of each comparison whose report runs have predictions on the same examples."""
    tables = []
    for task in result.manifest.studies:
        answers, _ = answers_on(stored_answers, result, task)
        tables += [
            _disagreements(comparison, answers[comparison.method], answers[comparison.baseline])
            for comparison in result.comparisons
            if comparison.task == task and {comparison.method, comparison.baseline} <= set(answers)
        ]
    return tuple(tables)


def _disagreements(
    comparison: Comparison, answers: Answers, baseline_answers: Answers
) -> Disagreements:
    seeds = comparison.seeds
    errors, baseline_errors = _errors(answers, seeds), _errors(baseline_answers, seeds)
    # Whole numbers are added, so that equal counts are equally great.
    advantage = (baseline_errors - errors).sum(axis=0) / len(seeds)
    wins, losses = (errors < baseline_errors).sum(axis=0), (errors > baseline_errors).sum(axis=0)
    ids = answers.ids[seeds[0]]
    rows = np.lexsort((ids, -advantage))
    rows = rows[(wins + losses)[rows] > 0]
    return Disagreements(
        task=comparison.task,
        method=comparison.method,
        baseline=comparison.baseline,
        seeds=seeds,
        examples=len(ids),
        is_regression=answers.is_regression,
        ids=ids[rows],
        labels=answers.labels[rows],
        advantage=advantage[rows],
        method_side=_side(answers, seeds, errors, wins, rows),
        baseline_side=_side(baseline_answers, seeds, baseline_errors, losses, rows),
    )


def _errors(answers: Answers, seeds: Sequence[int]) -> Floats:
    """(seeds, examples): the distance to the label, 0 or 1 for classes."""
    values = answers.stack(seeds)
    errors: Floats = (
        np.abs(values - answers.labels) if answers.is_regression else values != answers.labels
    )
    return errors.astype(np.float64)


def _side(answers: Answers, seeds: Sequence[int], errors: Floats, wins: Counts, rows: Rows) -> Side:
    all_values = answers.stack(seeds)
    values, mean_errors = all_values[:, rows], errors[:, rows].mean(axis=0)
    if answers.is_regression:
        return Side(values.mean(axis=0), None, mean_errors, wins[rows])
    classes = np.unique(all_values)
    votes = np.stack([(values == label).sum(axis=0) for label in classes])
    return Side(classes[votes.argmax(axis=0)], votes.max(axis=0), mean_errors, wins[rows])
