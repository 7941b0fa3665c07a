"""Tuning curves: the best score of k random settings, for every budget k of a search."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from opda.nonparametric import EmpiricalDistribution

from harness.stats.arrays import finite_array
from harness.stats.paired import Interval

BAND = "ld_equal_tailed"
"""opda's name of the band. The band "ld_highest_density" is hardly narrower, takes four times as
long and does not exist for a single trial. Dvoretzky, Kiefer and Wolfowitz's band is wider at the
ends of the distribution, where the best of many settings lies."""

HALF = 0.5 - 1e-12
"""The median's level, minus rounding: half of the trials then reach the share of one half."""

Ranks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TuningCurve:
    """The best score of k random settings, for k = 1 to n, the number of trials.

    The curve assumes that the n trials are independent draws from one distribution of settings: the
    trials of a random search, or the random start-up trials of another search. Trials that a
    sampler chose by earlier scores break the assumption, and so do the survivors of successive
    halving. The curve holds for this distribution of settings and for the conditions that all
    trials share (seeds, teacher, selection split).
    """

    expected_best: tuple[float, ...]
    """(n,): unbiased mean of the best score of k settings (Tang et al., "Showing your work doesn't
    always work", ACL 2020, on Dodge et al.'s expected validation performance, EMNLP 2019). NaN if a
    trial failed: a best score that may not exist has no mean."""
    median: tuple[float, ...]
    """(n,): median of the best score of k settings drawn from the trials. Minus infinity if all k
    settings fail with a chance above one half."""
    band: tuple[Interval, ...]
    """(n,): intervals that cover the true median of the best score for all k together, with a
    chance of at least `confidence`; infinite where n trials give no bound. The intervals follow
    from Learned-Miller and DeStefano's simultaneous band for the distribution of scores ("A
    probabilistic upper bound on differential entropy", 2008), as in Lourie, Cho and He, "Show your
    work with confidence" (NAACL 2024). Over the whole distribution that band has its exact level,
    for scores without ties. The curve uses the better half of the distribution, and a 95% band
    covers the curve about 99% of the time. The band is for one method: the bands of two methods
    cover together with a chance of at least 2 * confidence - 1."""
    failures: int
    """Number of the n trials without a score."""
    confidence: float

    @property
    def n(self) -> int:
        """Number of trials, failures included."""
        return len(self.median)


def tuning_curve(scores: npt.ArrayLike, failures: int = 0, confidence: float = 0.95) -> TuningCurve:
    """The tuning curve from scores (trials,) and the number of further trials that failed.

    A failed trial uses budget and ranks below every score. The same 100,000 draws always simulate
    the band's critical value, so its level is exact to about 0.2 points.

    Raises ValueError if a score is NaN or infinite, the shape is not (trials,) or is empty,
    `failures` is negative or `confidence` is not between 0 and 1.
    """
    values = finite_array(scores, "scores", "trials")
    if failures < 0:
        raise ValueError(f"failures must not be negative, got {failures}")
    _check_confidence(confidence)
    n = len(values) + failures
    sorted_scores = np.concatenate([np.full(failures + 1, -np.inf), np.sort(values), [np.inf]])
    low, median, high = (sorted_scores[ranks] for ranks in _ranks(n, confidence))
    expected_best = np.full(n, np.nan)
    if not failures:
        expected_best = EmpiricalDistribution(values).u_tuning_curve(np.arange(1, n + 1))
    return TuningCurve(
        expected_best=tuple(expected_best.tolist()),
        median=tuple(median.tolist()),
        band=tuple(Interval(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True)),
        failures=failures,
        confidence=confidence,
    )


@lru_cache
def minimum_curve_trials(confidence: float = 0.95) -> int:
    """The fewest trials that bound the band at both ends, at least for the best of one setting.

    Raises ValueError if `confidence` is not between 0 and 1.
    """
    _check_confidence(confidence)
    n = 1
    while True:
        low, _, high = _ranks(n, confidence)
        if low[0] > 0 and high[0] <= n:
            return n
        n += 1


@lru_cache
def _ranks(n: int, confidence: float) -> tuple[Ranks, Ranks, Ranks]:
    """Low end, median and high end of the band as ranks (n,) among n sorted scores, counted from 1.

    0 and n + 1 stand for no bound. The ranks do not depend on the scores. Ties change nothing,
    because a quantile of tied scores is the score of the same rank.
    """
    lower_band, distribution, upper_band = EmpiricalDistribution.confidence_bands(
        np.arange(1.0, n + 1),
        confidence,
        a=0.0,
        b=n + 1.0,
        generator=np.random.default_rng(0),
        method=BAND,
        n_jobs=1,
    )
    sizes = np.arange(1, n + 1)
    low, median, high = (
        band.quantile_tuning_curve(sizes, q=HALF).astype(np.int64)
        for band in (upper_band, distribution, lower_band)
    )
    return low, median, high


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
