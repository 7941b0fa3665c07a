"""Report seeds that are added until the comparisons are decided (`--seeds auto`). Without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from harness.stats import Stopping, first_look, stopping
from harness.storage.manifest import Manifest

Scores = Mapping[int, float | None]
"""A method's report scores by seed, of the runs that have ended; None for a failed run."""


@dataclass(frozen=True)
class InterimPlan:
    """The rule for the interim analyses of a task's comparisons, fixed in the manifest before the runs.

    `seeds` are all seeds that may be used, in their order; `alpha` is one comparison's share of the
    level; `margin` is the margin of equivalence, in the unit of the scores.
    """

    seeds: tuple[int, ...]
    alpha: float
    margin: float

    @property
    def minimum(self) -> int:
        """The number of seeds that every method gets."""
        return first_look(len(self.seeds), self.alpha)


def interim_plan(manifest: Manifest, metric: str) -> InterimPlan | None:
    """The plan of an ablation's interim analyses by a metric; None where the seeds are fixed."""
    if not manifest.sequential:
        return None
    return InterimPlan(manifest.report_seeds, manifest.share, manifest.margin(metric))


@dataclass(frozen=True)
class InterimResult:
    """The state of a comparison after its last interim analysis.

    `seeds` are the seeds of the pairs, in order, up to the last analysis; before the first analysis,
    of all pairs. `planned_seeds` is how many of the plan's first seeds the comparison rests on, or
    needs for its next analysis.
    """

    stopping: Stopping
    seeds: tuple[int, ...]
    planned_seeds: int


def interim_result(scores: Scores, baseline_scores: Scores, plan: InterimPlan) -> InterimResult:
    """Analyse a comparison from the scores of the method and of its baseline.

    Seeds count up to the first seed that has not ended on both sides. So runs for another comparison,
    or of an earlier command, change no analysis.
    """
    ended_seeds = list(
        takewhile(lambda seed: seed in scores and seed in baseline_scores, plan.seeds)
    )
    differences = {
        seed: score - baseline_score
        for seed in ended_seeds
        if (score := scores[seed]) is not None
        and (baseline_score := baseline_scores[seed]) is not None
    }
    # With a failed seed, the last analysis is at the pairs that are left.
    is_final = len(ended_seeds) == len(plan.seeds) > len(differences)
    state = stopping(
        list(differences.values()), len(plan.seeds), plan.alpha, plan.margin, is_final=is_final
    )
    seeds = tuple(differences)[: state.pairs]
    if state.decision is not None:
        return InterimResult(state, seeds, plan.seeds.index(seeds[-1]) + 1)
    if state.next_look is None:
        return InterimResult(state, seeds, len(ended_seeds))
    count = len(ended_seeds) + state.next_look - len(differences)
    return InterimResult(state, seeds, min(count, len(plan.seeds)))


def planned_seeds(
    scores: Mapping[str, Scores], family: Iterable[Sequence[str]], plan: InterimPlan
) -> dict[str, int]:
    """How many of the plan's first seeds each method of a task needs now: at least the minimum.

    A method stops at its own decision, and a baseline at the last decision of a comparison with it.

    Args:
        scores: each method's scores.
        family: the task's comparisons as (method, baseline).
        plan: the rule.
    """
    counts = dict.fromkeys(scores, plan.minimum)
    for method, baseline in family:
        if method in scores and baseline in scores:
            count = interim_result(scores[method], scores[baseline], plan).planned_seeds
            for name in (method, baseline):
                counts[name] = max(counts[name], count)
    return counts
