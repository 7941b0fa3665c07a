"""Report seeds or trials that are added until the comparisons are decided. Without torch.

`--seeds auto` adds report seeds of two settings, and `--trials auto` adds trials of two pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

from harness.analysis.pools import TrialScores, pool_of
from harness.stats import Interval, Stopping, first_look, stopping
from harness.stats.pool_stopping import (
    PoolLook,
    look_patterns,
    look_trials,
    pool_equivalence,
    pool_interval,
    pool_stopping,
    read_looks,
)
from harness.stats.tuned_score import Pool
from harness.storage.manifest import Manifest

Scores = Mapping[int, float | None]
"""A method's report scores by seed, of the runs that have ended; None for a failed run."""


@dataclass(frozen=True)
class InterimPlan:
    """The rule for the looks at a task's comparisons, fixed in the manifest before the first one.

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
    """The plan of an ablation's looks at report seeds by a metric; None where no seeds are added."""
    if not manifest.sequential or manifest.config.protocol.unit == "methods":
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
    return _planned_runs(
        scores,
        family,
        plan.minimum,
        lambda method, baseline: (
            interim_result(scores[method], scores[baseline], plan).planned_seeds
        ),
    )


def _planned_runs(
    methods: Iterable[str],
    family: Iterable[Sequence[str]],
    minimum: int,
    planned: Callable[[str, str], int],
) -> dict[str, int]:
    """Each method's number of runs: the most that a comparison with it plans, at least `minimum`."""
    counts = dict.fromkeys(methods, minimum)
    for method, baseline in family:
        if method in counts and baseline in counts:
            runs = planned(method, baseline)
            for name in (method, baseline):
                counts[name] = max(counts[name], runs)
    return counts


Trials = Mapping[int, TrialScores]
"""The scores of a method's trials that have ended, by number."""


@dataclass(frozen=True)
class PoolPlan:
    """The rule for the looks at a task's pools, fixed in the manifest before the first one.

    `alpha` is one comparison's share of the level; `margin` is the margin of equivalence, in the unit
    of the scores.
    """

    max_trials: int
    budget: int
    alpha: float
    margin: float

    @property
    def minimum(self) -> int:
        """The number of trials that every method gets."""
        return look_trials(self.max_trials)[0]


def pool_plan(manifest: Manifest, task: str) -> PoolPlan | None:
    """The plan of an ablation's looks at a task's pools; None where no trials are added."""
    if not manifest.sequential or manifest.config.protocol.unit == "settings":
        return None
    margin = manifest.margin(manifest.primary_metric(task))
    return PoolPlan(manifest.trials, manifest.config.protocol.budget, manifest.share, margin)


@dataclass(frozen=True)
class PoolInterim:
    """The state of a comparison of two pools after the last look.

    `planned_trials` is the number of trials on which the comparison rests, or that it needs for its
    next look.
    """

    stopping: Stopping
    interval: Interval
    """The repeated interval of the difference of tuned scores."""
    planned_trials: int
    equivalence: Interval | None = None
    """The interval of the decision "equivalent"; None without this decision."""


def ended_trials(trials: Trials) -> int:
    """The number of first trials that have all ended."""
    return next(number for number in count() if number not in trials)


def pool_interims(
    trials: Mapping[str, Trials], family: Iterable[Sequence[str]], plan: PoolPlan
) -> dict[tuple[str, str], PoolInterim]:
    """The state of each comparison (method, baseline) of a task, from each method's trials.

    Trials count up to the first one that has not ended on both sides, and up to the comparison's own
    decision. So trials for another comparison, or of an earlier command, change no analysis. A
    comparison with a method none of whose trials up to the first look is complete has no state: a pool
    of failures is equivalent to nothing, and gets no further trials.
    """
    patterns = look_patterns(plan.max_trials)
    ends = {
        method: ended_trials(method_trials)
        for method, method_trials in trials.items()
        if not _has_failed(method_trials, plan.minimum)
    }
    interims = {}
    for method, baseline in family:
        if method not in ends or baseline not in ends:
            continue
        ended = min(ends[method], ends[baseline], plan.max_trials)
        due = [look for look in look_trials(plan.max_trials) if look <= ended]
        looks: tuple[PoolLook, ...] = ()
        if due:
            method_pool, baseline_pool = (
                _first_pool(trials[name], ended) for name in (method, baseline)
            )
            looks = read_looks(method_pool, baseline_pool, plan.budget, due, patterns)
        state = pool_stopping(looks, ended, plan.max_trials, plan.alpha, plan.margin)
        due_looks = [look for look in looks if look.trials <= state.pairs]
        interims[method, baseline] = PoolInterim(
            state,
            pool_interval(due_looks, plan.max_trials, plan.alpha),
            state.next_look or state.pairs,
            pool_equivalence(due_looks, plan.max_trials, plan.alpha, plan.margin)
            if state.decision == "equivalent"
            else None,
        )
    return interims


def planned_trials(
    methods: Iterable[str], interims: Mapping[tuple[str, str], PoolInterim], plan: PoolPlan
) -> dict[str, int]:
    """How many first trials each method of a task needs now: at least the first look's.

    A method stops at its own decision, and a baseline at the last decision of a comparison with it.
    """
    return _planned_runs(
        methods, interims, plan.minimum, lambda *pair: interims[pair].planned_trials
    )


def _first_pool(trials: Trials, count: int) -> Pool:
    return pool_of([trials[number] for number in range(count)])


def _has_failed(trials: Trials, minimum: int) -> bool:
    """Whether all trials up to the first look have ended and failed."""
    return all(number in trials and trials[number].selection is None for number in range(minimum))
