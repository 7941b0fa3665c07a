"""Successive halving: the worse half of a round's settings stops at fixed epochs, the rungs.

After Jamieson & Talwalkar (2016), arXiv 1502.07943. The rungs are the same for every method. Settings
are compared within one method and round only, by the selection scores that they have reached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from harness.analysis.selection import mean_score, selection_score
from harness.config import Criterion
from harness.storage.fingerprint import canonical
from harness.training.population import Population
from harness.training.run import Run

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Pruning:
    """The end of a run at a rung: the epoch (from 1) and the run's scores on the selection split."""

    epoch: int
    scores: Scores

    @property
    def reason(self) -> str:
        """The reason in words."""
        return f"in the worse half of its round after epoch {self.epoch}"


def round_of(run: Run) -> str:
    """A key of the runs that are compared with each other: one method's runs of one round."""
    assert run.inputs.halving is not None
    return canonical([run.method.name, asdict(run.inputs.halving)])


def _setting_number(run: Run) -> int:
    """The number of a run's setting in its round, from 0."""
    assert run.inputs.halving is not None
    return run.inputs.halving.round.index(run.inputs.setting)


class Halving:
    """The decision at each rung which runs of a population go on.

    `runs` are in the order in which the population's members were given. `score` returns the scores of
    a population's rows on the selection split. `criterion` and the task's first `metric` rank them.
    `prunings` are by the run's index in `runs`.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        metric: str,
        criterion: Criterion,
        runs: Sequence[Run],
        score: Callable[[Population], Sequence[Scores]],
    ) -> None:
        self.rungs = rungs
        self.metric = metric
        self.criterion = criterion
        self.runs = runs
        self.score = score
        self.prunings: dict[int, Pruning] = {}

    def stay(self, epoch: int, population: Population) -> list[int]:
        """The rows of the members that go on after an epoch (from 1), in rising order."""
        if epoch not in self.rungs:
            return list(range(len(population.members)))
        scores = self.score(population)
        rounds: dict[str, dict[int, list[int]]] = {}
        for row, index in enumerate(population.indices):
            run = self.runs[index]
            rounds.setdefault(round_of(run), {}).setdefault(_setting_number(run), []).append(row)
        survivors: list[int] = []
        for setting_rows in rounds.values():
            means = {
                number: mean_score(
                    [selection_score(scores[row], self.metric, self.criterion) for row in rows]
                )
                for number, rows in setting_rows.items()
            }
            # A score that is not a number is the worst. The lower number wins a tie.
            losses = {n: tuple(-np.nan_to_num(means[n], nan=-np.inf)) for n in means}
            ranking = sorted(means, key=lambda n: (losses[n], n))
            for number in ranking[: (len(ranking) + 1) // 2]:
                survivors += setting_rows[number]
        for row in set(range(len(population.members))) - set(survivors):
            self.prunings[population.indices[row]] = Pruning(epoch, scores[row])
        return sorted(survivors)
