"""Intervals over new examples, from the stored predictions of pairs. Never imports torch.

Pairs of runs have a crossed bootstrap. Pairs of pools have the interval of their tuned scores over new
searches and new examples.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
from threadpoolctl import threadpool_limits

from harness.analysis.answers import Answers, StoredAnswers
from harness.analysis.pairs import Pair
from harness.analysis.pools import TunedPools
from harness.analysis.results import MethodResult
from harness.runtime.threads import pool_threads, short_turns
from harness.stats import CrossedBootstrap, OverExamples, crossed_bootstraps, with_least_width
from harness.stats.tuned_examples import (
    TunedInterval,
    TunedRuns,
    tuned_examples_bootstraps,
    tuned_interval,
)

LEAST_TAIL = 10
"""The fewest resamples that lie outside the interval over examples on either side."""
LEAST_RESAMPLES = 2000
GROUPS = 2
"""Groups of pairs that are resampled at once, if the process has so many threads. Each group holds its
scores on all resamples."""


class PairBootstraps:
    """Intervals over new examples of several families of pairs, computed in threads.

    The threads work while the block lasts: `with PairBootstraps() as bootstraps`. They take turns with
    the caller's own Python, mostly without waiting for it. After an exception in the block no more draws
    begin.
    """

    def __init__(self) -> None:
        # Array operations of two groups run side by side; the library's own threads would disturb them.
        self._limits = ExitStack()
        self._pool = ThreadPoolExecutor(min(GROUPS, pool_threads()))

    def __enter__(self) -> PairBootstraps:
        self._limits.enter_context(threadpool_limits(limits=1, user_api="blas"))
        self._limits.enter_context(short_turns())
        return self

    def __exit__(self, *exception: object) -> None:
        with self._limits:
            self._pool.shutdown(cancel_futures=True)

    def start(
        self,
        stored_answers: StoredAnswers,
        pairs: Sequence[Pair],
        confidence: float,
        seed: int,
    ) -> Callable[[], list[OverExamples | None]]:
        """Start the draws of a family; the result waits for its intervals, in the order of the pairs.

        An interval is None without stored predictions. Each interval has the least width that its
        number of examples allows. The answers are read before the function returns.

        Pairs on the same task and seeds, or pools of the same size on a task, share their draws, so
        each method's resamples are scored once. `seed` is the seed of the draws.
        """
        groups: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
        for position, pair in enumerate(pairs):
            runs = pair.seeds if pair.pools is None else (pair.pools[0].trials,)
            groups[pair.method_result.task, runs].append(position)
        families = []
        for positions in groups.values():
            answers = _answers(stored_answers, [pairs[position] for position in positions])
            positions = [position for position in positions if _has_both(pairs[position], answers)]
            if positions:
                families.append((positions, answers))
        # The longest draws begin first, so that no thread ends long before the other.
        families.sort(key=lambda family: -_cells(family[1]))
        draws: list[tuple[list[int], Future[tuple[OverExamples, ...]]]] = []
        for positions, answers in families:
            group = [pairs[position] for position in positions]
            draw = _run_bootstraps if group[0].pools is None else _pool_intervals
            draws.append((positions, self._pool.submit(draw, group, answers, confidence, seed)))

        def wait() -> list[OverExamples | None]:
            intervals: list[OverExamples | None] = [None] * len(pairs)
            for positions, group_intervals in draws:
                for position, interval in zip(positions, group_intervals.result(), strict=True):
                    intervals[position] = interval
            return intervals

        return wait


def _run_bootstraps(
    pairs: Sequence[Pair], answers: Mapping[str, Answers], confidence: float, seed: int
) -> tuple[CrossedBootstrap, ...]:
    """The bootstraps of pairs on the same task and seeds; all their methods have answers."""
    labels = next(iter(answers.values())).labels
    bootstraps = crossed_bootstraps(
        pairs[0].method_result.metric,
        [method_answers.stack(pairs[0].seeds) for method_answers in answers.values()],
        _positions(pairs, answers),
        labels,
        np.random.default_rng(seed),
        resamples=_resamples(confidence),
        confidence=confidence,
    )
    return tuple(with_least_width(bootstrap, len(labels)) for bootstrap in bootstraps)


def _pool_intervals(
    pairs: Sequence[Pair], answers: Mapping[str, Answers], confidence: float, seed: int
) -> tuple[TunedInterval, ...]:
    """The intervals of tuned scores of pools of one size; all their methods have answers."""
    labels = next(iter(answers.values())).labels
    results = _results(pairs)
    pools = _pools(pairs)
    bootstraps = tuned_examples_bootstraps(
        pairs[0].method_result.metric,
        [_tuned_runs(results[name], pools[name], side) for name, side in answers.items()],
        _positions(pairs, answers),
        labels,
        np.random.default_rng(seed),
        resamples=_resamples(confidence),
        confidence=confidence,
    )
    intervals = []
    for pair, bootstrap in zip(pairs, bootstraps, strict=True):
        assert pair.exchange is not None
        test = pair.exchange.difference(confidence)
        intervals.append(tuned_interval(test.mean, test.interval, bootstrap, len(labels)))
    return tuple(intervals)


def _tuned_runs(result: MethodResult, pools: TunedPools, answers: Answers) -> TunedRuns:
    """The predictions of a pool's complete trials with their weights, and the part of failed trials."""
    weights = result.weights_in(pools)
    part_of_complete = sum(
        weights[seed] * score for seed, score in zip(result.seeds, result.scores, strict=True)
    )
    seeds = [seed for seed in result.seeds if weights[seed] > 0]
    return TunedRuns(
        predictions=answers.stack(seeds),
        weights=[weights[seed] for seed in seeds],
        failure_score=pools.score - part_of_complete if result.failed_seeds else 0.0,
    )


def _has_both(pair: Pair, answers: Mapping[str, Answers]) -> bool:
    """Whether both methods of a pair have answers."""
    return {pair.method_result.method, pair.baseline_result.method} <= set(answers)


def _cells(answers: Mapping[str, Answers]) -> int:
    """The number of answers that a resample of a group's examples scores."""
    return sum(len(side.labels) * len(side.by_seed) for side in answers.values())


def _resamples(confidence: float) -> int:
    return max(LEAST_RESAMPLES, math.ceil(2 * LEAST_TAIL / (1 - confidence)))


def _positions(pairs: Sequence[Pair], answers: Mapping[str, Answers]) -> list[tuple[int, int]]:
    """The positions of each pair's methods in `answers`."""
    order = {method: position for position, method in enumerate(answers)}
    return [
        (order[pair.method_result.method], order[pair.baseline_result.method]) for pair in pairs
    ]


def _pools(pairs: Sequence[Pair]) -> dict[str, TunedPools]:
    """The pools by method."""
    pools = {}
    for pair in pairs:
        assert pair.pools is not None
        pools[pair.method_result.method], pools[pair.baseline_result.method] = pair.pools
    return pools


def _results(pairs: Sequence[Pair]) -> dict[str, MethodResult]:
    """The results by method."""
    return {
        result.method: result
        for pair in pairs
        for result in (pair.method_result, pair.baseline_result)
    }


def _answers(stored_answers: StoredAnswers, pairs: Sequence[Pair]) -> dict[str, Answers]:
    """Answers by method for pairs of one group; only methods with answers for all their runs."""
    answers = {}
    for method, result in _results(pairs).items():
        method_answers = stored_answers.answers_of(result)
        seeds = pairs[0].seeds if pairs[0].pools is None else result.seeds
        if method_answers is not None and method_answers.has(seeds):
            answers[method] = method_answers
    return answers
