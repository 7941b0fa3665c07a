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
from harness.stats import CrossedBootstrap, crossed_bootstraps, with_least_width

LEAST_TAIL = 10
"""The fewest resamples that lie outside the crossed interval on either side."""
LEAST_RESAMPLES = 2000
GROUPS = 2
"""Groups of pairs that are resampled at once; each group holds its scores on all resamples."""


def pair_bootstraps(
    stored_answers: StoredAnswers, pairs: Sequence[Pair], confidence: float, seed: int
) -> list[CrossedBootstrap | None]:
    """Crossed bootstraps of the pairs, in their order; None for a pair without stored predictions.

    Each interval has the least width that its number of examples allows.

    Pairs on the same task and seeds share their draws, so each method's resamples are scored once.
    `seed` is the seed of the draws.
    """
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
    for position, pair in enumerate(pairs):
        groups[pair.method_result.task, pair.seeds].append(position)
    group_answers = [
        _answers(stored_answers, [pairs[position] for position in positions])
        for positions in groups.values()
    ]
    bootstraps: list[CrossedBootstrap | None] = [None] * len(pairs)

    def draw(positions: Sequence[int], answers: Mapping[str, Answers]) -> None:
        pair_positions = [
            position
            for position in positions
            if {pairs[position].method_result.method, pairs[position].baseline_result.method}
            <= set(answers)
        ]
        if not pair_positions:
            return
        draws = _group_bootstraps(
            [pairs[position] for position in pair_positions], answers, confidence, seed
        )
        for position, bootstrap in zip(pair_positions, draws, strict=True):
            bootstraps[position] = bootstrap

    # Array operations of two groups run side by side; the library's own threads would disturb them.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(GROUPS) as pool:
        list(pool.map(draw, groups.values(), group_answers))
    return bootstraps


def _group_bootstraps(
    pairs: Sequence[Pair], answers: Mapping[str, Answers], confidence: float, seed: int
) -> tuple[CrossedBootstrap, ...]:
    """The bootstraps of pairs on the same task and seeds; all their methods have answers."""
    order = {method: position for position, method in enumerate(answers)}
    labels = next(iter(answers.values())).labels
    bootstraps = crossed_bootstraps(
        pairs[0].method_result.metric,
        [method_answers.stack(pairs[0].seeds) for method_answers in answers.values()],
        [(order[pair.method_result.method], order[pair.baseline_result.method]) for pair in pairs],
        labels,
        np.random.default_rng(seed),
        resamples=max(LEAST_RESAMPLES, math.ceil(2 * LEAST_TAIL / (1 - confidence))),
        confidence=confidence,
    )
    return tuple(with_least_width(bootstrap, len(labels)) for bootstrap in bootstraps)


def _answers(stored_answers: StoredAnswers, pairs: Sequence[Pair]) -> dict[str, Answers]:
    """Answers by method for pairs on the same task and seeds; only methods with all these seeds."""
    results = {
        result.method: result
        for pair in pairs
        for result in (pair.method_result, pair.baseline_result)
    }
    answers = {method: stored_answers.answers_of(result) for method, result in results.items()}
    seeds = pairs[0].seeds
    return {
        method: method_answers
        for method, method_answers in answers.items()
        if method_answers is not None and method_answers.has(seeds)
    }
