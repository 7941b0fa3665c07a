"""Crossed bootstraps over the stored predictions of pairs. Never imports torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from harness.analysis.answers import Answers, StoredAnswers
from harness.analysis.pairs import Pair
from harness.stats import CrossedBootstrap, crossed_bootstraps

OUTSIDE = 10
"""Resamples that lie outside the crossed interval on either side, at least."""
LEAST_RESAMPLES = 2000
GROUPS = 2
"""Groups of pairs that are resampled at once; each holds its scores on all resamples."""


def crossed(
    stored: StoredAnswers, pairs: Sequence[Pair], confidence: float, seed: int
) -> list[CrossedBootstrap | None]:
    """Crossed bootstraps of the pairs, in their order; None where predictions are missing.

    Pairs on the same task and seeds share their draws, and each method's resamples are scored once.
    `seed` is the draws'.
    """
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        groups[pair.ours.task, pair.seeds].append(place)
    known = [_known(stored, [pairs[place] for place in places]) for places in groups.values()]
    found: list[CrossedBootstrap | None] = [None] * len(pairs)

    def draw(places: Sequence[int], answers: Mapping[str, Answers]) -> None:
        there = [
            p for p in places if {pairs[p].ours.method, pairs[p].theirs.method} <= set(answers)
        ]
        drawn = _drawn([pairs[p] for p in there], answers, confidence, seed) if there else ()
        for place, bootstrap in zip(there, drawn, strict=True):
            found[place] = bootstrap

    # Array operations of two groups run side by side; the library's own threads would disturb them.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(GROUPS) as pool:
        list(pool.map(draw, groups.values(), known))
    return found


def _drawn(
    pairs: Sequence[Pair], answers: Mapping[str, Answers], confidence: float, seed: int
) -> tuple[CrossedBootstrap, ...]:
    """Of pairs on the same task and seeds, all with answers."""
    order = {method: position for position, method in enumerate(answers)}
    return crossed_bootstraps(
        pairs[0].ours.metric,
        [own.of(pairs[0].seeds) for own in answers.values()],
        [(order[pair.ours.method], order[pair.theirs.method]) for pair in pairs],
        next(iter(answers.values())).labels,
        np.random.default_rng(seed),
        resamples=max(LEAST_RESAMPLES, math.ceil(2 * OUTSIDE / (1 - confidence))),
        confidence=confidence,
    )


def _known(stored: StoredAnswers, pairs: Sequence[Pair]) -> dict[str, Answers]:
    """By method, of pairs on the same task and seeds: who has answers for all of these seeds."""
    results = {result.method: result for pair in pairs for result in (pair.ours, pair.theirs)}
    found = {method: stored.of(result) for method, result in results.items()}
    seeds = pairs[0].seeds
    return {m: own for m, own in found.items() if own is not None and own.has(seeds)}
