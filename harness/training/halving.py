"""Successive halving: of a round's settings the worse half stops at fixed epochs, the rungs.

After Jamieson & Talwalkar (2016), arXiv 1502.07943. The rungs are the same for every method, and
settings are compared with those of the same method and round only, by their selection scores so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.storage.fingerprint import canonical
from harness.training.population import Population
from harness.training.run import Run

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Pruned:
    """Why a run stopped early: the epoch (from 1), and what it had reached on the selection split."""

    epoch: int
    metrics: Scores

    @property
    def reason(self) -> str:
        """In words."""
        return f"in the worse half of its round after epoch {self.epoch}"


def round_of(run: Run) -> str:
    """What runs that are compared with each other have in common."""
    return canonical([run.method.name, run.inputs["halving"]])


def _number(run: Run) -> int:
    """The place of a run's setting in its round."""
    settings = [canonical(setting) for setting in run.inputs["halving"]["round"]]
    return settings.index(canonical(dict(run.setting)))


class Halving:
    """Decides at each rung which of a population's runs go on; `pruned` says of the others, by place.

    `score` gives the selection scores of the members that are left, in the population's order.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        metric: str,
        runs: Sequence[Run],
        score: Callable[[Population], Sequence[Scores]],
    ) -> None:
        self.rungs = rungs
        self.metric = metric
        self.runs = runs
        self.score = score
        self.pruned: dict[int, Pruned] = {}

    def stay(self, epoch: int, population: Population) -> list[int]:
        """Places in the population of the members that go on after an epoch (from 1)."""
        if epoch not in self.rungs:
            return list(range(len(population.members)))
        scores = self.score(population)
        rounds: dict[str, dict[int, list[int]]] = {}
        for place, member in enumerate(population.order):
            run = self.runs[member]
            rounds.setdefault(round_of(run), {}).setdefault(_number(run), []).append(place)
        staying: list[int] = []
        for settings in rounds.values():
            means = {
                number: float(np.mean([scores[place][self.metric] for place in places]))
                for number, places in settings.items()
            }
            # A score that is no number is the worst; the lower number wins a tie.
            ranked = sorted(means, key=lambda n: (-np.nan_to_num(means[n], nan=-np.inf), n))
            for number in ranked[: (len(ranked) + 1) // 2]:
                staying += settings[number]
        for place in set(range(len(population.members))) - set(staying):
            self.pruned[population.order[place]] = Pruned(epoch, scores[place])
        return sorted(staying)
