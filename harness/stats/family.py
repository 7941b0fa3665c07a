"""Families of comparisons: adjusted p values, and the number of seeds that a family needs."""

import gc
from itertools import count

import numpy as np
import numpy.typing as npt
import scipy.stats
from statsmodels.stats.multitest import multipletests

from harness.stats.arrays import Floats


def holm(p_values: npt.ArrayLike) -> tuple[float, ...]:
    """Holm-adjusted p values (comparisons,), in the order given, each in [0, 1].

    If every comparison with an adjusted value below alpha is rejected, the chance of any false
    rejection in the family is at most alpha, whatever the dependence (Holm, 1979). An empty family
    gives ().

    Raises ValueError if a p value is NaN or outside [0, 1].
    """
    values = _p_value_array(p_values)
    gc.freeze()  # statsmodels collects garbage in every call, 0.24 s with torch in memory
    try:
        return tuple(multipletests(values, method="holm")[1].tolist())
    finally:
        gc.unfreeze()


def holm_levels(p_values: npt.ArrayLike, alpha: float) -> tuple[float, ...]:
    """The level at which Holm's method tests each comparison (comparisons,), in the order given.

    Of k comparisons the one with the i-th smallest p value is tested at alpha / (k - i + 1) while all
    earlier ones are rejected; the others at the level at which the procedure stopped. A comparison's
    adjusted p value is below alpha exactly when its p value is below its level. So an interval at this
    level, which inverts the comparison's test, shows what Holm's method decides.

    Raises ValueError as `holm` does, or if `alpha` is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    values = _p_value_array(p_values)
    rejected = sum(p < alpha for p in holm(values))
    levels = np.empty(len(values))
    for place, comparison in enumerate(np.argsort(values, kind="stable")):
        levels[comparison] = alpha / (len(values) - min(place, rejected))
    return tuple(levels.tolist())


def benjamini_hochberg(p_values: npt.ArrayLike) -> tuple[float, ...]:
    """Benjamini-Hochberg adjusted p values (comparisons,), in the order given, each in [0, 1].

    If every comparison with an adjusted value of at most q is rejected, the false discovery rate is
    at most q: the expected share of false rejections among the rejections (Benjamini and Hochberg,
    1995). The proof needs p values that are independent or positively dependent (Benjamini and
    Yekutieli, 2001); two-sided tests that share a method need not be. Unlike `holm`, the procedure
    does not bound the chance of any false rejection: use it to screen many comparisons, not for a
    verdict. An empty family gives ().

    Raises ValueError if a p value is NaN or outside [0, 1].
    """
    return tuple(scipy.stats.false_discovery_control(_p_value_array(p_values)).tolist())


def minimum_seeds(comparisons: int, alpha: float = 0.05) -> int:
    """The fewest seeds with which the exact sign-flip test can reject in a Holm family.

    The result is the smallest n with 2 / 2^n < alpha / comparisons. With fewer seeds in every
    comparison no adjusted p value can be below alpha, however large the differences are.

    Raises ValueError if `comparisons` is below 1 or `alpha` is not between 0 and 1.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons must be at least 1, got {comparisons}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    return next(n for n in count(1) if 2 * comparisons < alpha * 2**n)


def _p_value_array(p_values: npt.ArrayLike) -> Floats:
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"p_values must have the shape (comparisons,), got {values.shape}")
    positions = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if positions.size:
        raise ValueError(
            f"p_values[{positions[0]}] is {values[positions[0]]}; it must be between 0 and 1"
        )
    return values
