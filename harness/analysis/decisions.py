"""Decisions: the comparisons of an ablation's pairs, and their verdicts. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from harness.analysis.comparison import BOOTSTRAP_SEED, Comparison, DecidingInterval
from harness.analysis.pairs import Pair
from harness.analysis.pools import tuned_paired_difference
from harness.stats import (
    Interval,
    OverExamples,
    PairedDifference,
    PairedEffects,
    PairedEquivalence,
    Verdict,
    holm,
    holm_levels,
    paired_difference,
    paired_effects_of_each,
    paired_equivalence,
    repeated_equivalence,
    repeated_interval,
    sequential_verdict,
    verdict,
)
from harness.stats.paired import ROUNDING
from harness.stats.tuned_power import detectable_tuned_difference
from harness.storage.manifest import Manifest


@dataclass(frozen=True)
class Draft:
    """A comparison without its interval over new examples, and the verdict for any such interval."""

    comparison: Comparison
    decide: Callable[[OverExamples | None], Verdict]

    def with_interval(self, interval: OverExamples | None) -> Comparison:
        """The comparison with its interval over new examples, and the verdict that allows for it."""
        return replace(self.comparison, over_examples=interval, verdict=self.decide(interval))


class _Level(NamedTuple):
    """The level of the family's errors, and one comparison's share of it."""

    alpha: float
    share: float


def _level(manifest: Manifest) -> _Level:
    return _Level(manifest.alpha, manifest.share)


def drafts(manifest: Manifest, pairs: Sequence[Pair]) -> list[Draft]:
    """The comparisons of the pairs, in their order."""
    return (_sequential if manifest.sequential else _fixed)(manifest, pairs)


def _fixed(manifest: Manifest, pairs: Sequence[Pair]) -> list[Draft]:
    """The comparisons of a fixed number of seeds, by Holm's adjusted p values."""
    level, family = _level(manifest), manifest.family
    differences = [_difference(pair, level.alpha) for pair in pairs]
    tests = [
        _equivalence(pair, manifest.margin(pair.method_result.metric), level.alpha)
        for pair in pairs
    ]
    # The family is the manifest's: a comparison without data counts as p = 1.
    padding = [1.0] * (len(family) - len(differences))
    raw_p_values = [d.p_value for d in differences] + padding
    raw_test_p_values = [test.p_value for test in tests] + padding
    p_values, test_p_values = holm(raw_p_values), holm(raw_test_p_values)
    levels = holm_levels(raw_p_values, level.alpha)
    test_levels = holm_levels(raw_test_p_values, level.alpha)
    effects = _effects(pairs, differences, level.alpha)
    comparisons = []
    for place, (pair, difference, test) in enumerate(zip(pairs, differences, tests, strict=True)):
        p, test_p = p_values[place], test_p_values[place]
        decide = partial(
            verdict,
            difference,
            p,
            alpha=level.alpha,
            **pair.names(),
            comparisons=len(family),
            equivalence=test,
            equivalence_p=test_p,
            repeat_scope=manifest.replication,
            budget=manifest.budget,
        )
        comparisons.append(
            _draft(
                pair,
                difference,
                level,
                decide,
                difference.interval,
                effects[place],
                adjusted_p=p,
                deciding=_deciding(pair, difference, levels[place]),
                equivalence=test,
                equivalence_p=test_p,
                deciding_equivalence=_deciding_equivalence(pair, test, test_levels[place]),
            )
        )
    return comparisons


def _sequential(manifest: Manifest, pairs: Sequence[Pair]) -> list[Draft]:
    """The comparisons whose runs were added until the decision, each at its share of alpha."""
    level = _level(manifest)
    differences = [_difference(pair, level.alpha) for pair in pairs]
    effects = _effects(pairs, differences, level.alpha)
    comparisons = []
    for place, (pair, difference) in enumerate(zip(pairs, differences, strict=True)):
        state = pair.stopping
        assert state is not None
        interval, equivalence = pair.interval, pair.equivalence
        if interval is None:
            path = (difference.differences, state.max_pairs, level.share)
            is_final = state.next_look is None and state.decision is None
            interval = repeated_interval(*path, is_final=is_final)
            if state.decision == "equivalent":
                equivalence = repeated_equivalence(*path, state.margin)
        decide = partial(
            sequential_verdict,
            difference.mean,
            interval,
            state,
            **pair.names(),
            budget=manifest.budget,
        )
        comparisons.append(
            _draft(
                pair,
                difference,
                level,
                decide,
                interval,
                effects[place],
                deciding=DecidingInterval(interval, 1 - state.alpha),
                deciding_equivalence=None
                if equivalence is None
                else DecidingInterval(equivalence, 1 - 2 * state.alpha),
            )
        )
    return comparisons


def _difference(pair: Pair, alpha: float) -> PairedDifference:
    if pair.exchange is not None:
        return tuned_paired_difference(pair.exchange, 1 - alpha)
    return paired_difference(
        pair.method_result.scores_of(pair.seeds),
        pair.baseline_result.scores_of(pair.seeds),
        confidence=1 - alpha,
        generator=np.random.default_rng(BOOTSTRAP_SEED),
    )


def _effects(
    pairs: Sequence[Pair], differences: Sequence[PairedDifference], alpha: float
) -> list[PairedEffects | None]:
    """The effects over seeds; None for pairs of pools."""
    over_seeds = [place for place, pair in enumerate(pairs) if pair.pools is None]
    values = [differences[place].differences for place in over_seeds]
    found = paired_effects_of_each(values, 1 - alpha, BOOTSTRAP_SEED)
    by_place = dict(zip(over_seeds, found, strict=True))
    return [by_place.get(place) for place in range(len(pairs))]


def _equivalence(pair: Pair, margin: float, alpha: float) -> PairedEquivalence:
    if pair.exchange is not None:
        return pair.exchange.equivalence(margin, alpha)
    differences = pair.method_result.scores_of(pair.seeds) - pair.baseline_result.scores_of(
        pair.seeds
    )
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return paired_equivalence(differences, margin, alpha, generator)


def _deciding(pair: Pair, difference: PairedDifference, level: float) -> DecidingInterval:
    """The interval of the difference at its level in Holm's method."""
    if not math.isclose(level, 1 - difference.confidence):
        difference = _difference(pair, level)
    return DecidingInterval(difference.interval, difference.confidence)


def _deciding_equivalence(pair: Pair, test: PairedEquivalence, level: float) -> DecidingInterval:
    """The interval of the test of equivalence at its level in Holm's method."""
    if not math.isclose(level, test.alpha):
        test = _equivalence(pair, test.margin, level)
    return DecidingInterval(test.interval, 1 - 2 * level)


def _draft(
    pair: Pair,
    difference: PairedDifference,
    level: _Level,
    decide: Callable[[OverExamples | None], Verdict],
    interval: Interval,
    effects: PairedEffects | None,
    *,
    deciding: DecidingInterval,
    adjusted_p: float | None = None,
    equivalence: PairedEquivalence | None = None,
    equivalence_p: float = 1.0,
    deciding_equivalence: DecidingInterval | None = None,
) -> Draft:
    comparison = Comparison(
        task=pair.method_result.task,
        method=pair.method_result.method,
        baseline=pair.baseline_result.method,
        metric=pair.method_result.metric,
        difference=difference,
        interval=interval,
        adjusted_p=adjusted_p,
        stopping=pair.stopping,
        effects=effects,
        equivalence=equivalence,
        equivalence_p=equivalence_p,
        deciding=deciding,
        deciding_equivalence=deciding_equivalence,
        over_examples=None,
        verdict=decide(None),
        detectable_difference=_detectable_difference(pair, difference, level.share),
        seeds=pair.seeds,
        unpaired_seeds=pair.unpaired_seeds(),
    )
    return Draft(comparison, decide)


def _detectable_difference(pair: Pair, difference: PairedDifference, share: float) -> float | None:
    if pair.stopping is not None or not difference.sd > ROUNDING:
        return None
    budget = 1 if pair.pools is None else pair.pools[0].budget
    return detectable_tuned_difference(difference.sd, difference.n, budget, share)
