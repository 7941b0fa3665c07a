"""Where two methods disagree: the examples that one of them has right and the other wrong.

Never imports torch. What is said of several seeds counts or averages them and is no test.
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
    """What one method's models say of the examples that two methods disagree on, all (examples,).

    `answers` are the classes that most seeds give, the lowest of equally many, or mean scores; `votes`
    count the seeds that give the class, and are None for scores. `errors` are means over seeds of the
    distance to the label, for classes the share of seeds that are wrong, from 0 to 1. `closer` counts
    the seeds whose error is less than the other side's: for classes, that alone are right.
    """

    answers: Floats
    votes: Counts | None
    errors: Floats
    closer: Counts


@dataclass(frozen=True)
class Disagreements:
    """One comparison on the examples where a seed's two models are not equally right, all (examples,).

    Sorted by `advantage`, the baseline's error less the method's, from the method's greatest; then by
    id. `examples` is how many there are in all. Every seed is paired with itself.
    """

    task: str
    method: str
    baseline: str
    seeds: tuple[int, ...]
    examples: int
    scored: bool
    """Whether labels and answers are a regression's scores, not classes."""
    ids: npt.NDArray[np.int64]
    labels: Floats
    advantage: Floats
    ours: Side
    theirs: Side

    @property
    def clear_for_method(self) -> Rows:
        """Rows where the method is closer in most seeds and in the mean, from its greatest advantage."""
        return np.flatnonzero((2 * self.ours.closer > len(self.seeds)) & (self.advantage > 0))

    @property
    def clear_for_baseline(self) -> Rows:
        """Rows where the baseline is, from its greatest advantage, then by id."""
        found = np.flatnonzero((2 * self.theirs.closer > len(self.seeds)) & (self.advantage < 0))
        return found[np.lexsort((self.ids[found], self.advantage[found]))]


def disagreements(stored: StoredAnswers, result: AblationResult) -> tuple[Disagreements, ...]:
    """Every comparison whose report runs have predictions stored, on the same examples."""
    found = []
    for task in result.manifest.studies:
        answers, _ = answers_on(stored, result, task)
        found += [
            _disagreements(compared, answers[compared.method], answers[compared.baseline])
            for compared in result.comparisons
            if compared.task == task and {compared.method, compared.baseline} <= set(answers)
        ]
    return tuple(found)


def _disagreements(compared: Comparison, ours: Answers, theirs: Answers) -> Disagreements:
    seeds = compared.seeds
    errors, others = (_errors(side, seeds) for side in (ours, theirs))
    # Whole numbers are added, so that equal counts are equally great.
    advantage = (others - errors).sum(axis=0) / len(seeds)
    closer, further = (errors < others).sum(axis=0), (errors > others).sum(axis=0)
    ids = ours.ids[seeds[0]]
    rows = np.lexsort((ids, -advantage))
    rows = rows[(closer + further)[rows] > 0]
    return Disagreements(
        task=compared.task,
        method=compared.method,
        baseline=compared.baseline,
        seeds=seeds,
        examples=len(ids),
        scored=ours.scored,
        ids=ids[rows],
        labels=ours.labels[rows],
        advantage=advantage[rows],
        ours=_side(ours, seeds, errors, closer, rows),
        theirs=_side(theirs, seeds, others, further, rows),
    )


def _errors(answers: Answers, seeds: Sequence[int]) -> Floats:
    """(seeds, examples): the distance to the label, 0 or 1 for classes."""
    given = answers.of(seeds)
    errors: Floats = np.abs(given - answers.labels) if answers.scored else given != answers.labels
    return errors.astype(np.float64)


def _side(
    answers: Answers, seeds: Sequence[int], errors: Floats, closer: Counts, rows: Counts
) -> Side:
    whole = answers.of(seeds)
    given, errors = whole[:, rows], errors[:, rows].mean(axis=0)
    if answers.scored:
        return Side(given.mean(axis=0), None, errors, closer[rows])
    classes = np.unique(whole)
    votes = np.stack([(given == of).sum(axis=0) for of in classes])
    return Side(classes[votes.argmax(axis=0)], votes.max(axis=0), errors, closer[rows])
