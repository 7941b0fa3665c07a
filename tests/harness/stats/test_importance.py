"""PED-ANOVA against its formula, and the test beside it against chance."""

import math
import warnings

import numpy as np
import pytest
from scipy.stats import fisher_exact

from harness.stats.importance import BEST_SHARE, MINIMUM_TRIALS, importances

TRIALS = 80


def uniform(seed: int, names: str, trials: int = TRIALS) -> dict[str, list[float]]:
    generator = np.random.default_rng(seed)
    return {name: generator.random(trials).tolist() for name in names}


def test_choices_follow_the_papers_formula() -> None:
    # Pearson's divergence of the best trials from all, over two choices, each with the estimator's
    # prior: one trial spread over both. Here 20 of 80 are the best, those with the highest scores.
    generator = np.random.default_rng(0)
    scores = np.arange(TRIALS, dtype=float)
    values = {
        "good": ["yes" if score >= 60 or score % 4 == 0 else "no" for score in scores],
        "idle": ["yes" if draw < 0.5 else "no" for draw in generator.random(TRIALS)],
    }
    expected = {}
    for name, own in values.items():
        best, every = (_estimated([value == "yes" for value in part]) for part in (own[60:], own))
        expected[name] = sum(q * (p / q - 1) ** 2 for p, q in zip(best, every, strict=True))
    found = importances(values, scores)
    assert found is not None
    total = sum(expected.values())
    for name, one in found.items():
        assert one.share == pytest.approx(expected[name] / total, rel=1e-6)
    assert found["good"].share > 0.9


def _estimated(chosen: list[bool]) -> tuple[float, float]:
    """Shares of two choices as the Parzen estimator has them: Optuna weighs kernels by counts."""
    yes, no = sum(chosen), len(chosen) - sum(chosen)
    kernels = [(count, place) for place, count in enumerate((no, yes)) if count]
    prior = 1.0
    smooth = prior / (len(kernels) + 1)
    shares = np.zeros(2)
    for count, place in kernels:
        kernel = np.full(2, smooth)
        kernel[place] += 1
        shares += count * kernel / kernel.sum()
    shares += prior * np.full(2, 0.5)
    shares /= shares.sum()
    return float(shares[0]), float(shares[1])


def test_what_matters_is_found_and_the_rest_is_not() -> None:
    values = uniform(1, "abcd")
    scores = -((np.array(values["b"]) - 0.3) ** 2)
    found = importances(values, scores)
    assert found is not None
    assert sum(one.share for one in found.values()) == pytest.approx(1)
    assert found["b"].share > 0.8
    assert found["b"].p_value < 1e-5
    assert min(found[name].p_value for name in "acd") > 0.05


def test_p_values_of_what_does_not_matter_are_even() -> None:
    below = []
    for seed in range(60):
        scores = np.random.default_rng(1000 + seed).normal(size=MINIMUM_TRIALS)
        found = importances(uniform(seed, "abcd", MINIMUM_TRIALS), scores)
        assert found is not None
        below += [one.p_value < 0.2 for one in found.values()]
    # 240 of them: the standard error is 2.6 %.
    assert np.mean(below) == pytest.approx(0.2, abs=0.08)


def test_choices_are_tested_too() -> None:
    scores = np.arange(TRIALS, dtype=float)
    values = {
        "good": ["x" if score >= 50 else "y" for score in scores],
        "same": ["only"] * TRIALS,
    }
    found = importances(values, scores)
    assert found is not None
    assert found["same"].p_value == 1
    assert found["same"].share == pytest.approx(0, abs=1e-9)
    # All 20 good ones are x, and so are 10 of the 60 others.
    assert fisher_exact([[20, 0], [10, 50]]).pvalue < 1e-9
    assert found["good"].p_value < 1e-9


def test_the_good_are_a_quarter_and_what_ties_with_them() -> None:
    values = uniform(2, "ab", MINIMUM_TRIALS)
    scores = np.zeros(MINIMUM_TRIALS)
    assert importances(values, scores) is None
    scores[0] = 1.0
    assert importances(values, scores) is None
    scores[: math.ceil(BEST_SHARE * MINIMUM_TRIALS)] = 1.0
    assert importances(values, scores) is not None


def test_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importances(uniform(3, "ab"), np.arange(TRIALS, dtype=float))


@pytest.mark.parametrize(
    ("values", "scores", "words"),
    [
        (uniform(0, "ab", 39), np.arange(39.0), "39 trials are below 40"),
        (uniform(0, "a"), np.arange(80.0), "at least 2 hyper-parameters, got 1"),
        (uniform(0, "ab", 41), np.arange(80.0), "a has 41 values for 80 scores"),
        (uniform(0, "ab"), np.full(80, np.nan), "scores must be finite"),
        ({**uniform(0, "a"), "b": [1.5] * 80}, np.arange(80.0), "b: numbers must be from 0 to 1"),
    ],
)
def test_what_cannot_be_asked(
    values: dict[str, list[float]], scores: np.ndarray, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        importances(values, scores)
