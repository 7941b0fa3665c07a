"""Where two methods disagree: the examples that one method has right and the other method wrong.

Runs of settings are paired by seed. The trials of tuned methods have no such pairs: any two trials may
be those that two tuners keep. So each pair of trials counts by the product of their weights in the
tuned scores, and counts are shares. Counts, shares and means over several seeds describe these runs;
they are no test. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.analysis.answers import Answers, StoredAnswers
from harness.analysis.compare import AblationResult
from harness.analysis.comparison import Comparison
from harness.analysis.examples import answers_on
from harness.analysis.results import MethodResult
from harness.stats.arrays import Floats

Counts = npt.NDArray[np.int64]
DIGITS = 12
"""Weighted sums are rounded to these digits, so that equal sums are equally great."""
LEAST_SHARE = 0.05
"""Tuned methods disagree on an example if one side alone is right in this share of pairs of trials."""
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Side:
    """One method's answers on the examples that two methods disagree on; all arrays are (examples,).

    `answers` are the classes that most seeds give, the lowest class of a tie, or mean scores. `votes`
    count the seeds that give the class, and are None for scores. `errors` are means over seeds of the
    distance to the label; for classes, the share of seeds that are wrong, from 0 to 1. `wins` count
    the seeds whose error is less than the other side's; for classes, the seeds that alone are right.
    For a tuned method means are weighted, `votes` are shares of trials, and `wins` are shares of pairs
    of trials, from 0 to 1.
    """

    answers: Floats
    votes: Counts | Floats | None
    errors: Floats
    wins: Counts | Floats


@dataclass(frozen=True)
class Disagreements:
    """One comparison on the examples where some seed's two models are not equally right.

    The arrays are (examples,), sorted by `advantage`, the baseline's error less the method's, from the
    method's greatest; then by id. `examples` is the number of all examples. The two models of a pair
    have the same seed, except for tuned methods.
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
    is_tuned: bool = False
    """Whether the methods are tuned, and each side's votes and wins are shares. Then `seeds` are those
    of all complete trials of both methods."""

    @property
    def pairs(self) -> int:
        """The total of wins and votes: the number of pairs of models, or 1 for shares."""
        return 1 if self.is_tuned else len(self.seeds)

    @property
    def clear_for_method(self) -> Rows:
        """Rows where the method is closer in most seeds and in the mean, from its greatest advantage."""
        wins_most = 2 * self.method_side.wins > self.pairs
        return np.flatnonzero(wins_most & (self.advantage > 0))

    @property
    def clear_for_baseline(self) -> Rows:
        """The baseline's rows of that kind, from its greatest advantage, then by id."""
        wins_most = 2 * self.baseline_side.wins > self.pairs
        rows = np.flatnonzero(wins_most & (self.advantage < 0))
        return rows[np.lexsort((self.ids[rows], self.advantage[rows]))]


def disagreements(
    stored_answers: StoredAnswers, result: AblationResult
) -> tuple[Disagreements, ...]:
    """The disagreements of each comparison whose report runs have predictions on the same examples."""
    tables = []
    for task in result.manifest.studies:
        answers, _ = answers_on(stored_answers, result, task)
        results = {r.method: r for r in result.results if r.task == task}
        for comparison in result.comparisons:
            methods = comparison.method, comparison.baseline
            if comparison.task != task or not set(methods) <= set(answers):
                continue
            if results[comparison.method].is_pool:
                trials = [
                    _Trials(answers[method], _weights(results[method], comparison))
                    for method in methods
                ]
                tables.append(_tuned_disagreements(comparison, *trials))
            else:
                tables.append(_disagreements(comparison, *(answers[method] for method in methods)))
    return tuple(tables)


def _weights(result: MethodResult, comparison: Comparison) -> dict[int, float]:
    """The weights of a method's trials, by seed, in the tuned score of the comparison."""
    assert result.tuned is not None
    if comparison.stopping is None:
        return result.trial_weights
    return result.weights_in(result.tuned.first(comparison.stopping.pairs))


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


class _Trials:
    """The answers of a tuned method's complete trials, and their weights, whose sum is 1."""

    def __init__(self, answers: Answers, weights: Mapping[int, float]) -> None:
        """`weights` are those of all trials by seed; a failed trial has no answers."""
        self.answers = answers
        self.seeds = tuple(seed for seed in sorted(answers.by_seed) if weights[seed] > 0)
        shares = np.array([weights[seed] for seed in self.seeds])
        self.weights: Floats = shares / shares.sum()
        self.errors = _errors(answers, self.seeds)

    def mean_errors(self) -> Floats:
        """Weighted mean errors (examples,)."""
        return np.asarray(self.weights @ self.errors)

    def wins(self, other: _Trials) -> Floats:
        """The share of pairs of trials in which this method's error is less (examples,)."""
        if not self.answers.is_regression:
            return (1 - self.mean_errors()) * other.mean_errors()
        shares = np.empty(self.errors.shape[1])
        for example, (errors, other_errors) in enumerate(
            zip(self.errors.T, other.errors.T, strict=True)
        ):
            order = np.argsort(other_errors)
            # The weight of the other's trials from a place of their order to the last.
            weights = np.append(np.cumsum(other.weights[order][::-1])[::-1], 0.0)
            greater = np.searchsorted(other_errors[order], errors, side="right")
            shares[example] = self.weights @ weights[greater]
        return shares

    def side(self, wins: Floats, rows: Rows) -> Side:
        """The side on some examples."""
        all_values, errors = self.answers.stack(self.seeds), self.mean_errors()[rows]
        values = all_values[:, rows]
        if self.answers.is_regression:
            return Side(self.weights @ values, None, errors, wins[rows])
        classes = np.unique(all_values)
        votes = np.stack([self.weights @ (values == label) for label in classes])
        # Sums of weights that are equal up to rounding are a tie.
        best = np.round(votes, DIGITS).argmax(axis=0)
        return Side(classes[best], votes[best, np.arange(len(rows))], errors, wins[rows])


def _tuned_disagreements(
    comparison: Comparison, method: _Trials, baseline: _Trials
) -> Disagreements:
    answers = method.answers
    advantage = np.round(baseline.mean_errors() - method.mean_errors(), DIGITS)
    wins, losses = method.wins(baseline), baseline.wins(method)
    ids = answers.ids[method.seeds[0]]
    rows = np.lexsort((ids, -advantage))
    rows = rows[np.round(np.maximum(wins, losses), DIGITS)[rows] >= LEAST_SHARE]
    return Disagreements(
        task=comparison.task,
        method=comparison.method,
        baseline=comparison.baseline,
        seeds=tuple(sorted({*method.answers.by_seed, *baseline.answers.by_seed})),
        examples=len(ids),
        is_regression=answers.is_regression,
        ids=ids[rows],
        labels=answers.labels[rows],
        advantage=advantage[rows],
        method_side=method.side(wins, rows),
        baseline_side=baseline.side(losses, rows),
        is_tuned=True,
    )
