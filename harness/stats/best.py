"""Which of several methods may be the best one: a confidence set, seen from every method in turn."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.stats import signflip
from harness.stats.arrays import Floats, check_shape
from harness.stats.paired import EXACT_SEEDS, ROUNDING


@dataclass(frozen=True)
class BestSet:
    """Methods for which the scores do not show that another method is higher on average.

    The set has the truly best method with a probability of at least 1 - `alpha`, over seeds. It was
    not named before the runs, as a family of verdicts is.
    """

    alpha: float
    p_values: tuple[float, ...]
    """(methods,): that no other method scores higher; NaN where a method has no score."""
    members: tuple[bool, ...]
    """(methods,): the p value is at least `alpha`."""
    least_p: float
    """The smallest p value that this many seeds can give; at `alpha` or above nothing is left out."""


def best_set(
    scores: npt.ArrayLike,
    alpha: float = 0.05,
    generator: np.random.Generator | None = None,
    resamples: int = 9_999,
) -> BestSet:
    """The confidence set for the best of the methods in scores (seeds, methods), NaN where not run.

    Of each method it is tested whether another one is higher: one-sided sign-flip tests over the
    seeds that the two share, the least p value times the number of others (Bonferroni). Inverting
    these tests needs no correction over the methods: only the best one's own test can go wrong
    (Mogstad, Romano, Shaikh and Wilhelm, "Inference for Ranks", 2024). So it holds under what the
    sign-flip test asks: differences that are symmetric about their mean.

    A method that lacks a seed which another one has does not show that other to be lower: what is
    missing might have been low. Above `EXACT_SEEDS` shared seeds `resamples` sign patterns are drawn
    from `generator`.

    Raises ValueError if the shape is not (seeds, methods), a score is infinite, `alpha` is not between
    0 and 1, or a generator is needed and missing.
    """
    array = np.asarray(scores, dtype=np.float64)
    check_shape(array, "scores", "seeds", "methods")
    if np.isinf(array).any():
        raise ValueError("scores has an infinite score; NaN stands for a run that is missing")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    ran = ~np.isnan(array)
    seeds, others = int(ran.sum(axis=0).max()), array.shape[1] - 1
    least = 1 / 2**seeds if seeds <= EXACT_SEEDS else 1 / (resamples + 1)
    p_values = []
    for method in range(array.shape[1]):
        whole = [i for i in range(others + 1) if ran[ran[:, method], i].all() and i != method]
        above = array[ran[:, method]][:, whole] - array[ran[:, method], method, None]
        tolerance = ROUNDING * float(np.abs(array[ran]).max(initial=0.0))
        found = _upper_p_values(above.T, tolerance, generator, resamples)
        known = bool(ran[:, method].any())
        p_value = min(1.0, others * found.min()) if len(found) else 1.0
        p_values.append(p_value if known else np.nan)
    return BestSet(
        alpha=alpha,
        p_values=tuple(map(float, p_values)),
        members=tuple(bool(p >= alpha) for p in p_values),
        least_p=min(1.0, max(others, 1) * least),
    )


def _upper_p_values(
    samples: Floats, tolerance: float, generator: np.random.Generator | None, resamples: int
) -> Floats:
    """One-sided p values of a mean at or below zero, of those samples (samples, n) that are above it.

    There the sums of flipped samples that are as large are half of those that are as far from zero.
    """
    n = samples.shape[1]
    higher = samples[samples.mean(axis=1) > tolerance] if n else samples[:0]
    if n <= EXACT_SEEDS:
        return signflip.exact_p_values(higher, tolerance) / 2
    if generator is None:
        raise ValueError(f"{n} seeds are more than {EXACT_SEEDS}: pass a generator")
    signs = generator.choice([-1.0, 1.0], size=(resamples, n))
    reached = signs @ higher.T >= higher.sum(axis=1) - n * tolerance
    return np.asarray((reached.sum(axis=0) + 1) / (resamples + 1), dtype=np.float64)
