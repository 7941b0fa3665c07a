"""When no more seeds are needed: by hand, against the tests it is made of, and under the null."""

import math

import numpy as np
import pytest

from harness.stats import (
    Interval,
    first_look,
    minimum_pairs,
    repeated_equivalence,
    repeated_interval,
    stopping,
)
from harness.stats.sequential import sequential_sign_flip, spending
from harness.stats.stopping import PATTERNS_SEED, STEP


def test_the_first_look_is_the_first_that_can_decide_anything() -> None:
    # One-sided, n equal differences are worth 1 / 2^n; .05 (n / 20)^1.5 is .0103 at 7, .0082 at 6.
    assert first_look(20, 0.05) == 7
    assert spending(6, 20, 0.05) < 2.0**-6
    assert first_look(3, 0.05) == 3  # nothing can: only the last look is left


def test_the_least_most_can_just_find_a_difference() -> None:
    for comparisons in (1, 3, 15):
        most = minimum_pairs(comparisons, 0.05)
        steady = [0.1] * most
        assert stopping(steady, most, 0.05 / comparisons, 0.01).decision == "better"
        fewer = stopping(steady[1:], most - 1, 0.05 / comparisons, 0.01)
        assert fewer.decision is None


def test_a_steady_difference_ends_it_at_the_first_look_that_allows() -> None:
    ahead = stopping([0.05] * 20, 20, 0.05, margin=0.01)
    # Two-sided it takes 2 / 2^n: .0078 of .0126 at 8; but looks are at 7, 9, 11, ...
    assert (ahead.decision, ahead.pairs, ahead.looks) == ("better", 9, (7, 9))
    assert ahead.next_look is None
    behind = stopping([-0.05] * 20, 20, 0.05, margin=0.01)
    assert (behind.decision, behind.pairs) == ("worse", 9)
    # Both one-sided tests against the margins need 1 / 2^n: 7 pairs.
    alike = stopping([0.001, -0.001] * 10, 20, 0.05, margin=0.01)
    assert (alike.decision, alike.pairs) == ("equivalent", 7)


def test_what_comes_after_the_decision_is_not_read() -> None:
    start = [0.05, 0.06, 0.04, 0.05, 0.07, 0.05, 0.04, 0.06, 0.05]
    decided = stopping(start, 20, 0.05, 0.01)
    assert decided.decision == "better"
    assert stopping([*start, -9.0, -9.0, -9.0, -9.0], 20, 0.05, 0.01) == decided


def test_it_asks_for_the_next_look_and_ends_at_the_most() -> None:
    rng = np.random.default_rng(1)
    unclear = rng.normal(0, 0.03, size=12)
    assert stopping([], 12, 0.05, 0.01).next_look == first_look(12, 0.05) == 6
    for pairs in range(12):
        found = stopping(unclear[:pairs], 12, 0.05, 0.001)
        assert found.decision is None
        assert found.next_look == min(look for look in (6, 8, 10, 12) if look > pairs)
    last = stopping(unclear, 12, 0.05, 0.001)
    assert (last.decision, last.next_look, last.looks) == (None, None, (6, 8, 10, 12))


@pytest.mark.parametrize("most", [12, 24])
def test_it_is_the_sequential_tests(most: int) -> None:
    rng = np.random.default_rng(2)
    margin, decisions = 0.4, set()
    for _ in range(12):
        path = rng.normal(rng.choice([0.0, 0.8]), 0.5, size=most)

        def at(theta: float, kind: str, path: np.ndarray = path) -> float:
            options = {"first": first_look(most, 0.05), "step": STEP, "alternative": kind}
            generator = np.random.default_rng(PATTERNS_SEED)
            found = sequential_sign_flip(
                path, most, 0.05, theta=theta, generator=generator, **options
            )
            return found.rejected_at or math.inf

        different = at(0.0, "two-sided")
        alike = max(at(-margin, "greater"), at(margin, "less"))
        found = stopping(path, most, 0.05, margin)
        decisions.add(found.decision)
        assert found.pairs == min(different, alike, most)
        if found.decision == "equivalent":
            assert alike < different
        elif found.decision is not None:
            assert different <= alike
            ahead = path[: found.pairs].mean() > 0
            assert found.decision == ("better" if ahead else "worse")
    assert len(decisions) > 1


@pytest.mark.parametrize("law", ["normal", "heavy-tailed", "ties"])
def test_a_false_decision_is_as_rare_as_promised(law: str) -> None:
    """At no look is the share of errors above alpha, without a difference and at the margin."""
    rng = np.random.default_rng(3)
    runs, most, alpha, margin = 400, 12, 0.1, 2 / 277
    draws = {
        "normal": rng.normal(size=(runs, most)) / 277,
        "heavy-tailed": rng.standard_t(2, size=(runs, most)) / 277,
        "ties": rng.integers(-3, 4, size=(runs, most)) / 277,
    }[law]
    allowed = alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    null = [stopping(path, most, alpha, 1e-6).decision for path in draws]
    assert np.mean([decision in ("better", "worse") for decision in null]) <= allowed
    edge = [stopping(path + margin, most, alpha, margin).decision for path in draws]
    assert np.mean([decision == "equivalent" for decision in edge]) <= allowed


def test_the_interval_leaves_out_what_the_look_rejects() -> None:
    rng = np.random.default_rng(4)
    for _ in range(15):
        path = rng.normal(0.3, 0.5, size=10)
        interval = repeated_interval(path, 12, 0.1)
        options = {"first": first_look(12, 0.1), "step": STEP}
        for theta in np.linspace(path.min() - 0.1, path.max() + 0.1, 41):
            beyond = sequential_sign_flip(path, 12, 0.1, theta=theta, **options).crossings[-1]
            near = min(abs(theta - end) for end in interval) < 2e-3
            assert near or beyond == (not interval.low <= theta <= interval.high)


@pytest.mark.parametrize("most", [12, 20])
def test_with_tied_scores_the_interval_agrees_with_the_decision(most: int) -> None:
    """On the grid of accuracies on 277 examples zero may be rejected alone, with all means around it."""
    rng = np.random.default_rng(8)
    decided = 0
    for _ in range(60):
        path = (rng.binomial(277, 0.72, size=most) - rng.binomial(277, 0.70, size=most)) / 277
        found = stopping(path, most, 0.05, 1e-9)
        if found.decision is None:
            continue
        decided += 1
        interval = repeated_interval(path[: found.pairs], most, 0.05)
        assert (interval.low > 0) if found.decision == "better" else (interval.high < 0)
    assert decided > 5


def test_an_end_that_a_look_leaves_open_is_the_one_before() -> None:
    path = np.array([1, 1, 1, 0, 0, 1, 1, 1]) / 60
    before = repeated_interval(path[:6], 8, 0.05)
    assert before.high == pytest.approx(1 / 60, abs=1e-3)
    assert repeated_interval(path, 8, 0.05).high == before.high


def test_with_pairs_lost_there_is_a_look_at_what_is_left() -> None:
    # Unanimous, two-sided: 2 of 64 patterns are more than .04 (6 / 8)^1.5 of them, 2 of 128 less.
    path = [0.05] * 7
    assert stopping(path, 8, 0.04, 0.01).decision is None
    ended = stopping(path, 8, 0.04, 0.01, is_final=True)
    assert (ended.decision, ended.pairs, ended.next_look) == ("better", 7, None)


def test_the_interval_holds_at_every_look_together() -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(300):
        path = rng.normal(0.7, 1, size=10)
        ends = [repeated_interval(path[:pairs], 10, 0.2) for pairs in range(1, 11)]
        missed += any(not interval.low <= 0.7 <= interval.high for interval in ends)
    assert 0.05 < missed / 300 < 0.2 + 3 * math.sqrt(0.16 / 300)


def test_the_interval_is_unbounded_before_the_first_look() -> None:
    everything = Interval(-math.inf, math.inf)
    assert repeated_interval([0.1] * 5, 12, 0.05) == everything
    assert repeated_interval([], 12, 0.05) == everything
    assert repeated_interval([0.1] * 12, 12, 0.05) == Interval(
        pytest.approx(0.1), pytest.approx(0.1)
    )


@pytest.mark.parametrize(
    ("differences", "most", "alpha", "margin", "words"),
    [
        ([0.1, math.nan], 5, 0.05, 0.01, r"differences\[1\] is nan"),
        ([0.1] * 6, 5, 0.05, 0.01, "6 differences are more than 5"),
        ([0.1], 0, 0.05, 0.01, "max_pairs must be at least 1"),
        ([0.1], 5, 1.0, 0.01, "alpha must be between 0 and 1"),
        ([0.1], 5, 0.05, 0.0, "margin must be positive"),
    ],
)
def test_bad_input_is_named(
    differences: list[float], most: int, alpha: float, margin: float, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        stopping(differences, most, alpha, margin)


def test_an_equivalence_has_the_interval_of_both_one_sided_tests() -> None:
    rng = np.random.default_rng(3)
    most, margin, alpha, found = 12, 0.01, 0.05, 0
    for _ in range(12):
        path = rng.normal(0.001, 0.006, size=most)
        state = stopping(path, most, alpha, margin)
        if state.decision != "equivalent":
            continue
        found += 1
        seen = path[: state.pairs]
        low, high = repeated_equivalence(seen, most, alpha, margin)
        assert -margin <= low <= high <= margin
        for end, kind, outwards in ((low, "greater", -1), (high, "less", 1)):
            outside, inside = (
                sequential_sign_flip(
                    seen,
                    most,
                    alpha,
                    theta=theta,
                    alternative=kind,
                    first=first_look(most, alpha),
                    step=STEP,
                )
                for theta in (end + outwards * 1e-9, end - outwards * 2 * margin / 2**13)
            )
            assert outside.rejected_at is not None
            assert inside.rejected_at is None
    assert found >= 3
