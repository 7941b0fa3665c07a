"""A confidence set for the best of several methods."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.stats import signflip
from harness.stats.arrays import Floats, check_shape
from harness.stats.paired import EXACT_SEEDS, ROUNDING


@dataclass(frozen=True)
class BestSet:
    """The methods for which the scores do not show that another method is higher on average.

    The set contains the truly best method with a probability of at least 1 - `alpha`, over seeds.
    The comparisons of the set are not named before the runs; those of the verdicts are.
    """

    alpha: float
    p_values: tuple[float, ...]
    """(methods,): p value of the hypothesis that no other method is higher; NaN without a score."""
    members: tuple[bool, ...]
    """(methods,): whether the p value is at least `alpha`."""
    minimum_p: float
    """The smallest p value that the number of seeds can give. If `alpha` is not larger, the set
    holds every method."""


def best_set(
    scores: npt.ArrayLike,
    alpha: float = 0.05,
    generator: np.random.Generator | None = None,
    resamples: int = 9_999,
) -> BestSet:
    """The confidence set for the best method, from scores (seeds, methods), NaN for a missing run.

    For each method, one-sided sign-flip tests over the common seeds ask whether another method is
    higher; the p value is the smallest one times the number of other methods (Bonferroni). The set
    needs no further correction over the methods: an error is possible in the test of the best
    method alone (Mogstad, Romano, Shaikh and Wilhelm, "Inference for Ranks", 2024). The sign-flip
    test assumes differences that are symmetric about their mean.

    A method excludes a rival only if the method has a score on every seed of the rival: the missing
    score might have been low. Above `EXACT_SEEDS` common seeds, `generator` draws `resamples` sign
    patterns.

    Raises ValueError if the shape is not (seeds, methods), a score is infinite, `alpha` is not
    between 0 and 1, or a generator is needed and missing.
    """
    array = np.asarray(scores, dtype=np.float64)
    check_shape(array, "scores", "seeds", "methods")
    if np.isinf(array).any():
        raise ValueError("scores has an infinite score; NaN stands for a run that is missing")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    has_score = ~np.isnan(array)
    seeds, rivals = int(has_score.sum(axis=0).max()), array.shape[1] - 1
    pattern_p = 1 / 2**seeds if seeds <= EXACT_SEEDS else 1 / (resamples + 1)
    p_values = []
    for method in range(array.shape[1]):
        complete_rivals = [
            i for i in range(rivals + 1) if has_score[has_score[:, method], i].all() and i != method
        ]
        leads = (
            array[has_score[:, method]][:, complete_rivals]
            - array[has_score[:, method], method, None]
        )
        tolerance = ROUNDING * float(np.abs(array[has_score]).max(initial=0.0))
        p_values_of_rivals = _upper_p_values(leads.T, tolerance, generator, resamples)
        has_scores = bool(has_score[:, method].any())
        p_value = min(1.0, rivals * p_values_of_rivals.min()) if len(p_values_of_rivals) else 1.0
        p_values.append(p_value if has_scores else np.nan)
    return BestSet(
        alpha=alpha,
        p_values=tuple(map(float, p_values)),
        members=tuple(bool(p >= alpha) for p in p_values),
        minimum_p=min(1.0, max(rivals, 1) * pattern_p),
    )


def _upper_p_values(
    samples: Floats, tolerance: float, generator: np.random.Generator | None, resamples: int
) -> Floats:
    """One-sided p values of a mean at or below zero, for those samples (samples, n) with a mean above.

    Half of the sign patterns whose sum is as far from zero have a sum that is as large.
    """
    n = samples.shape[1]
    candidates = samples[samples.mean(axis=1) > tolerance] if n else samples[:0]
    if n <= EXACT_SEEDS:
        return signflip.exact_p_values(candidates, tolerance) / 2
    if generator is None:
        raise ValueError(f"{n} seeds are more than {EXACT_SEEDS}: pass a generator")
    signs = generator.choice([-1.0, 1.0], size=(resamples, n))
    extremes = signs @ candidates.T >= candidates.sum(axis=1) - n * tolerance
    return np.asarray((extremes.sum(axis=0) + 1) / (resamples + 1), dtype=np.float64)
