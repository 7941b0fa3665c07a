"""Looks at two pools against brute force over all patterns, and against the sign-flip test."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from harness.stats import Interval, pool_stopping
from harness.stats.pool_stopping import (
    PoolLook,
    look_patterns,
    look_trials,
    pool_equivalence,
    pool_interval,
    read_looks,
    sequential_exchange,
)
from harness.stats.pool_stopping import pool_stopping as stopping
from harness.stats.sequential import Alternative, sequential_sign_flip
from harness.stats.tuned_score import Pool, tuned_mean
from tests.harness.stats.test_exchange import exchanged, random_pool, ranked, shifted

LOOKS = (3, 5, 7, 8)
ALPHA = 0.3


@pytest.fixture
def early_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at `LOOKS`, where all patterns can be listed."""
    monkeypatch.setattr(pool_stopping, "FIRST_LOOK", 3)
    monkeypatch.setattr(pool_stopping, "LOOK_STEP", 2)
    assert look_trials(8) == LOOKS


def draw(seed: int, trials: int = 8, gap: float = 0.0, levels: int = 1000) -> tuple[Pool, Pool]:
    generator = np.random.default_rng(seed)
    method, baseline = (random_pool(generator, trials, levels) for _ in range(2))
    return shifted(method, -gap), baseline


def looks_of(method: Pool, baseline: Pool, budget: int) -> tuple[PoolLook, ...]:
    return read_looks(method, baseline, budget, LOOKS, look_patterns(8))


class Enumeration:
    """The looks by a loop over all patterns, with whole pools and plain tuned scores."""

    def __init__(
        self, method: Pool, baseline: Pool, budget: int, alpha: float, theta: float, kind: str
    ) -> None:
        sign = {"two-sided": abs, "greater": float, "less": lambda value: -value}[kind]
        patterns = list(itertools.product([False, True], repeat=8))
        rejected: set[tuple[bool, ...]] = set()
        self.boundaries, self.shares, self.crossings = [], [], []
        for trials in LOOKS:
            pools = [ranked(pool.first(trials)) for pool in (shifted(method, theta), baseline)]
            short = {
                pattern: exchanged(*pools, pattern)
                for pattern in itertools.product([False, True], repeat=trials)
            }
            values = {
                pattern: sign(tuned_mean([first], budget) - tuned_mean([second], budget))
                for pattern, (first, second) in short.items()
            }
            sizes = {pattern: values[pattern[:trials]] for pattern in patterns}
            allowed = math.floor(alpha * (trials / 8) ** 1.5 * len(patterns) + 1e-9)
            rest = [size for pattern, size in sizes.items() if pattern not in rejected]
            boundary = math.inf
            for size in sorted(set(rest), reverse=True):
                if len(rejected) + sum(other >= size - 1e-10 for other in rest) <= allowed:
                    boundary = size
            self.boundaries.append(boundary)
            self.crossings.append(sizes[patterns[0]] >= boundary - 1e-10)
            rejected |= {pattern for pattern in patterns if sizes[pattern] >= boundary - 1e-10}
            self.shares.append(len(rejected) / len(patterns))

    @property
    def rejected_at(self) -> float:
        ends = [n for n, crossing in zip(LOOKS, self.crossings, strict=True) if crossing]
        return ends[0] if ends else math.inf


@pytest.mark.parametrize("kind", ["two-sided", "greater", "less"])
@pytest.mark.parametrize(("budget", "levels"), [(1, 1000), (2, 1000), (3, 1000), (2, 3)])
def test_boundaries_shares_and_crossings_are_those_of_all_patterns(
    kind: Alternative, budget: int, levels: int
) -> None:
    crossings = []
    for seed, theta in itertools.product(range(3), (0.0, 0.6)):
        method, baseline = draw(seed, gap=1.0, levels=levels)
        test = sequential_exchange(
            looks_of(method, baseline, budget), 8, ALPHA, theta=theta, alternative=kind
        )
        expected = Enumeration(method, baseline, budget, ALPHA, theta, kind)
        assert test.boundaries == pytest.approx(expected.boundaries, abs=1e-9)
        assert test.rejected_shares == pytest.approx(expected.shares)
        assert list(test.crossings) == expected.crossings
        assert test.is_exact
        crossings += test.crossings
    assert kind == "less" or any(crossings)
    assert not all(crossings)


@pytest.mark.usefixtures("early_looks")
@pytest.mark.parametrize("gap", [-3.0, 0.0, 0.3, 3.0])
@pytest.mark.parametrize("margin", [0.2, 2.5])
def test_the_decision_is_that_of_three_enumerated_tests(gap: float, margin: float) -> None:
    for seed in range(4):
        method, baseline = draw(seed, gap=gap)
        looks = looks_of(method, baseline, 2)
        tests = [
            Enumeration(method, baseline, 2, ALPHA, theta, kind)
            for theta, kind in ((0.0, "two-sided"), (-margin, "greater"), (margin, "less"))
        ]
        different, alike = tests[0].rejected_at, max(test.rejected_at for test in tests[1:])
        state = stopping(looks, 8, 8, ALPHA, margin)
        assert state.pairs == min(different, alike, 8)
        assert state.next_look is None
        if different <= alike and different < math.inf:
            position = LOOKS.index(state.pairs)
            assert state.decision == ("better" if looks[position].difference > 0 else "worse")
        else:
            assert state.decision == (None if alike == math.inf else "equivalent")


@pytest.mark.usefixtures("early_looks")
def test_an_equivalence_has_the_interval_of_both_enumerated_tests() -> None:
    margin, found = 2.5, 0
    for seed in range(4):
        method, baseline = draw(seed, gap=0.3)
        looks = looks_of(method, baseline, 2)
        state = stopping(looks, 8, 8, ALPHA, margin)
        if state.decision != "equivalent":
            continue
        found += 1
        due = looks[: LOOKS.index(state.pairs) + 1]
        low, high = pool_equivalence(due, 8, ALPHA, margin)
        assert -margin <= low <= high <= margin
        for end, kind, outwards in ((low, "greater", -1), (high, "less", 1)):
            outside, inside = (
                Enumeration(method, baseline, 2, ALPHA, theta, kind).rejected_at <= state.pairs
                for theta in (end + outwards * 1e-7, end - outwards * 2 * margin / 2**13)
            )
            assert outside
            assert not inside
    assert found


@pytest.mark.usefixtures("early_looks")
def test_every_decision_occurs() -> None:
    decisions = {
        stopping(
            looks_of(*draw(seed, gap=gap), 2), 8, 8, ALPHA, 2.5 if gap == 0.3 else 0.2
        ).decision
        for seed, gap in itertools.product(range(4), (-3.0, 0.0, 0.3, 3.0))
    }
    assert decisions == {"better", "worse", "equivalent", None}


def test_the_interval_has_the_shifts_that_the_last_look_does_not_reject() -> None:
    for seed in range(3):
        method, baseline = draw(seed, gap=0.5)
        low, high = pool_interval(looks_of(method, baseline, 2), 8, ALPHA)
        assert math.isfinite(high - low)
        for theta in np.linspace(low - 1, high + 1, 15):
            crossing = Enumeration(method, baseline, 2, ALPHA, theta, "two-sided").crossings[-1]
            is_near = min(abs(theta - low), abs(theta - high)) < 2e-3
            assert is_near or crossing == (not low <= theta <= high)


def test_with_a_budget_of_one_trial_it_is_the_sequential_sign_flip_test() -> None:
    method, baseline = draw(5, gap=0.8)
    differences = np.subtract(method.reported, baseline.reported)
    looks = looks_of(method, baseline, 1)
    for theta, kind in ((0.0, "two-sided"), (-0.4, "greater"), (1.5, "less")):
        test = sequential_exchange(looks, 8, ALPHA, theta=theta, alternative=kind)
        expected = sequential_sign_flip(
            differences, 8, ALPHA, theta=theta, alternative=kind, first=3, step=2
        )
        sums = [boundary * n for boundary, n in zip(test.boundaries, LOOKS, strict=True)]
        assert sums == pytest.approx(expected.boundaries)
        assert test.rejected_shares == expected.rejected_shares
        assert test.rejected_at == expected.rejected_at


def test_looks_are_at_twenty_trials_then_at_every_tenth_and_at_the_maximum() -> None:
    assert look_trials(60) == (20, 30, 40, 50, 60)
    assert look_trials(35) == (20, 30, 35)
    assert look_trials(20) == (20,)
    assert look_trials(12) == (12,)


def test_a_pattern_exchanges_the_same_pairs_at_every_look_and_maximum() -> None:
    few, more = look_patterns(20), look_patterns(40)
    assert few.shape == (20_000, 20)
    assert np.array_equal(more[:, :20], few)
    assert not more[0].any()
    assert more[1:].mean() == pytest.approx(0.5, abs=0.005)
    assert len(np.unique(look_patterns(10), axis=0)) == 2**10


def test_random_patterns_give_nearly_the_boundaries_of_all_patterns() -> None:
    method, baseline = draw(6, trials=14)
    tests = []
    for patterns in (look_patterns(14), look_patterns(15)[:, :14]):
        looks = read_looks(method, baseline, 3, (10, 14), patterns)
        tests.append(sequential_exchange(looks, 14, 0.1))
    assert tests[1].boundaries == pytest.approx(tests[0].boundaries, rel=0.05)
    for look, share in zip((10, 14), tests[1].rejected_shares, strict=True):
        assert 0 < share <= 0.1 * (look / 14) ** 1.5


def clear(trials: int, gap: float) -> tuple[Pool, Pool]:
    return draw(7, trials=trials, gap=gap)


def state_of(pools: Sequence[Pool], trials: int, most: int = 40, margin: float = 0.1):
    looks = [look for look in look_trials(most) if look <= trials]
    return stopping(read_looks(*pools, 4, looks, look_patterns(most)), trials, most, 0.05, margin)


def test_a_large_difference_is_decided_at_the_first_look() -> None:
    method, baseline = clear(40, gap=9.0)
    state = state_of((method, baseline), 40)
    assert (state.decision, state.pairs, state.looks) == ("better", 20, (20,))
    assert state.next_look is None
    assert state_of((baseline, method), 40).decision == "worse"
    pools = (method.first(20), baseline.first(20))
    assert state_of(pools, 20) == state
    later = Pool(method.selection, (*method.reported[:20], *([-9.0] * 20)))
    assert state_of((later, baseline), 40) == state


def test_it_asks_for_the_next_look_and_ends_at_the_maximum() -> None:
    pools = clear(40, gap=0.0)
    assert [state_of(pools, trials).next_look for trials in (0, 19, 20, 29, 30)] == [
        20, 20, 30, 30, 40,
    ]  # fmt: skip
    state = state_of(pools, 40)
    assert (state.decision, state.pairs, state.next_look, state.looks) == (
        None, 40, None, (20, 30, 40),
    )  # fmt: skip
    assert state_of(pools, 29).pairs == 20


def test_copies_with_a_wide_margin_are_equivalent() -> None:
    assert state_of(clear(40, gap=0.0), 40, margin=5.0).decision == "equivalent"


def test_the_interval_excludes_zero_after_better_and_is_unbounded_without_a_look() -> None:
    method, baseline = clear(20, gap=9.0)
    looks = read_looks(method, baseline, 4, (20,), look_patterns(40))
    assert pool_interval(looks, 40, 0.05).low > 0
    assert pool_interval((), 40, 0.05) == Interval(-math.inf, math.inf)
    # Below one pattern of twenty thousand no look can reject.
    assert pool_interval(looks, 40, 1e-5) == Interval(-math.inf, math.inf)


def test_equal_scores_differ_by_nothing() -> None:
    pool = Pool(tuple(range(20)), (0.5,) * 20)
    state = state_of((pool, pool), 20)
    assert state.decision == "equivalent"
    looks = read_looks(pool, pool, 4, (20,), look_patterns(40))
    assert pool_interval(looks, 40, 0.05) == pytest.approx((0.0, 0.0), abs=1e-3)


def test_bad_input_is_named() -> None:
    method, baseline = draw(8)
    with pytest.raises(ValueError, match="a look at 9 trials: the pools have 8 and 8"):
        read_looks(method, baseline, 2, (9,), look_patterns(9))
    with pytest.raises(ValueError, match="budget must be from 1 to 3 trials, got 4"):
        read_looks(method, baseline, 4, (3,), look_patterns(8))
    looks = looks_of(method, baseline, 2)
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        sequential_exchange(looks, 8, 1.5)
    with pytest.raises(ValueError, match="pairs must be from 1 to 7, got 8"):
        sequential_exchange(looks, 7, 0.05)
    with pytest.raises(ValueError, match="margin must be positive"):
        stopping(looks, 8, 8, 0.05, 0.0)
