"""The sequential sign-flip test: by enumeration, by hand, and under peeking."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from harness.stats.paired import paired_difference
from harness.stats.sequential import Alternative, sequential_sign_flip, spending


def rejects(path: npt.NDArray[np.float64], most: int, alpha: float, kind: Alternative) -> bool:
    return sequential_sign_flip(path, most, alpha, alternative=kind).rejected_at is not None


@pytest.mark.parametrize("kind", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("seed", range(4))
def test_over_all_patterns_of_signs_the_level_holds_exactly(kind: Alternative, seed: int) -> None:
    """Every pattern is a data set of its own, with the same sizes; the share that rejects is counted."""
    sizes = np.random.default_rng(seed).exponential(size=8)
    if seed == 3:
        sizes = np.round(sizes * 4) / 4  # ties, and maybe zeros
    found = [
        rejects(np.array(signs) * sizes, 8, 0.2, kind)
        for signs in itertools.product([1.0, -1.0], repeat=8)
    ]
    spent = sequential_sign_flip(sizes, 8, 0.2, alternative=kind).rejected_shares[-1]
    assert np.mean(found) == pytest.approx(spent)
    assert 0.1 < spent <= 0.2


def test_boundaries_do_not_depend_on_signs_or_on_what_comes_later() -> None:
    rng = np.random.default_rng(0)
    path = rng.normal(size=10)
    whole = sequential_sign_flip(path, 10, 0.1)
    for pairs in (4, 7):
        part = sequential_sign_flip(path[:pairs], 10, 0.1)
        assert part.boundaries == whole.boundaries[:pairs]
        assert part.rejected_shares == whole.rejected_shares[:pairs]
    flipped = sequential_sign_flip(path * rng.choice([-1, 1], size=10), 10, 0.1)
    assert flipped.boundaries == pytest.approx(whole.boundaries)


def test_a_steady_difference_is_rejected_as_soon_as_the_level_allows() -> None:
    """Equal differences: with n pairs the two all-equal patterns are 2 / 2^n of all."""
    found = sequential_sign_flip(np.ones(12), 12, 0.05)
    allowed = [n for n in range(1, 13) if 2 / 2**n <= spending(n, 12, 0.05)]
    assert found.rejected_at == allowed[0] == 7
    assert found.boundaries[6] == 7
    assert sequential_sign_flip(-np.ones(12), 12, 0.05).rejected_at == 7
    assert sequential_sign_flip(-np.ones(12), 12, 0.05, alternative="greater").rejected_at is None
    assert sequential_sign_flip(-np.ones(12), 12, 0.05, alternative="less").rejected_at == 6


def test_one_look_at_the_end_is_the_exact_test() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        path = rng.normal(0.5, 1, size=9)
        p = paired_difference(path, np.zeros(9)).p_value
        found = sequential_sign_flip(path, 9, 0.05, first=9).rejected_at
        assert (found is not None) == (p <= 0.05)


def test_a_shifted_hypothesis_is_the_test_of_shifted_differences() -> None:
    path = np.random.default_rng(2).normal(1.0, 0.5, size=10)
    shifted = sequential_sign_flip(path, 10, 0.05, theta=0.7)
    plain = sequential_sign_flip(path - 0.7, 10, 0.05)
    assert shifted == plain
    assert sequential_sign_flip(path, 10, 0.05).rejected_at is not None


def test_differences_of_zero_reject_nothing() -> None:
    for kind in ("two-sided", "greater", "less"):
        assert sequential_sign_flip(np.zeros(12), 12, 0.05, alternative=kind).rejected_at is None


def test_sampled_patterns_give_nearly_the_boundaries_of_all_patterns() -> None:
    path = np.random.default_rng(3).normal(size=14)
    exact = sequential_sign_flip(path, 18, 0.05)
    sampled = sequential_sign_flip(path, 19, 0.05, generator=np.random.default_rng(4))
    assert (exact.is_exact, sampled.is_exact) == (True, False)
    for pairs in range(9, 14):
        assert sampled.boundaries[pairs] == pytest.approx(exact.boundaries[pairs], rel=0.06)


@pytest.mark.parametrize("law", ["normal", "heavy-tailed", "ties"])
def test_peeking_after_every_pair_keeps_the_level(law: str) -> None:
    rng = np.random.default_rng(5)
    draws = {
        "normal": rng.normal(size=(1500, 10)),
        "heavy-tailed": rng.standard_t(2, size=(1500, 10)),
        "ties": rng.integers(-3, 4, size=(1500, 10)) / 277,
    }[law]
    share = np.mean([rejects(path, 10, 0.1, "two-sided") for path in draws])
    naive = np.mean(
        [
            any(paired_difference(path[:n], np.zeros(n)).p_value <= 0.1 for n in range(5, 11))
            for path in draws[:400]
        ]
    )
    assert 0.04 < share < 0.1 + 3 * np.sqrt(0.09 / 1500)
    assert naive > 0.12  # what peeking does to a test that is not made for it


def test_a_difference_of_one_and_a_half_sds_is_found_early() -> None:
    rng = np.random.default_rng(6)
    ends = [
        sequential_sign_flip(rng.normal(1.5, 1, size=16), 16, 0.05).rejected_at for _ in range(200)
    ]
    found = [end for end in ends if end is not None]
    assert len(found) > 190
    assert np.mean(found) < 11


@pytest.mark.parametrize(
    ("differences", "most", "alpha", "words"),
    [
        ([], 5, 0.05, "must have 1 to 5 values"),
        ([1.0] * 6, 5, 0.05, "must have 1 to 5 values"),
        ([1.0, np.nan], 5, 0.05, r"differences\[1\] is nan"),
        ([1.0], 5, 1.5, "alpha must be between 0 and 1"),
        ([1.0], 30, 0.05, "pass a generator"),
    ],
)
def test_bad_input_is_named(differences: list[float], most: int, alpha: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sequential_sign_flip(differences, most, alpha)


def test_spending_rises_to_alpha() -> None:
    spent = [spending(n, 12, 0.05) for n in range(1, 13)]
    assert spent == sorted(spent)
    assert spent[-1] == pytest.approx(0.05)
    with pytest.raises(ValueError, match="pairs must be from 1 to 12"):
        spending(13, 12, 0.05)
