"""The interval of a standard deviation, against a table of chi-square quantiles and by simulation."""

import math

import numpy as np
import pytest

from harness.stats.spread import sd_interval


@pytest.mark.parametrize(
    ("n", "upper", "lower"), [(6, 12.833, 0.831), (10, 19.023, 2.700), (20, 32.852, 8.907)]
)
def test_the_interval_of_a_printed_table(n: int, upper: float, lower: float) -> None:
    """`upper` and `lower` are the .975 and .025 quantiles for n - 1 degrees of freedom."""
    found = sd_interval(0.012, n)
    assert found.low == pytest.approx(0.012 * math.sqrt((n - 1) / upper), rel=1e-3)
    assert found.high == pytest.approx(0.012 * math.sqrt((n - 1) / lower), rel=1e-3)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_it_covers_the_true_one_as_often_as_it_says(confidence: float) -> None:
    n, samples = 7, 4000
    found = np.random.default_rng(0).normal(3.0, 2.0, (samples, n)).std(axis=1, ddof=1)
    intervals = [sd_interval(sd, n, confidence) for sd in found]
    above = np.mean([low > 2 for low, _ in intervals])
    below = np.mean([high < 2 for _, high in intervals])
    tail = (1 - confidence) / 2
    error = 4 * math.sqrt(tail * (1 - tail) / samples)
    assert above == pytest.approx(tail, abs=error)
    assert below == pytest.approx(tail, abs=error)


def test_no_spread_stays_none() -> None:
    assert sd_interval(0.0, 5) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.1, 5), "sd must be finite and not negative, got -0.1"),
        ((math.nan, 5), "sd must be finite and not negative, got nan"),
        ((math.inf, 5), "sd must be finite and not negative, got inf"),
        ((0.1, 1), "n must be at least 2, got 1"),
        ((0.1, 5, 1.0), "confidence must be between 0 and 1, got 1.0"),
    ],
)
def test_bad_input_is_named(arguments: tuple[float, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sd_interval(*arguments)
