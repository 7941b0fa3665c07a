"""What a search finds for its budget: the best score of so many settings, drawn at random."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from opda.nonparametric import EmpiricalDistribution

from harness.stats.arrays import finite
from harness.stats.paired import Interval

BAND = "ld_equal_tailed"
"""opda's name of the band. "ld_highest_density" is hardly narrower, takes four times as long and
has none for a single trial; the band of Dvoretzky, Kiefer and Wolfowitz is wider at the ends of the
distribution, and the best of many settings lies at one."""

HALF = 0.5 - 1e-12
"""The median, less than rounding away: a share of half the trials is reached by half of them."""

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TuningCurve:
    """The best score of k settings drawn at random, for k = 1 to n, the number of trials seen.

    It assumes that the n trials are independent draws from one distribution of settings: those of a
    random search, or the random start-up trials of another one; never trials that were chosen by
    earlier scores, nor what successive halving left. It speaks of this distribution of settings and
    of the conditions that all trials share (seeds, teacher, selection split), not of others.
    """

    expected: tuple[float, ...]
    """(n,): mean best score of k settings, without bias (Tang et al., "Showing your work doesn't
    always work", ACL 2020, on the expected validation performance of Dodge et al., EMNLP 2019). NaN
    if a trial failed: a best score that may not exist has no mean."""
    median: tuple[float, ...]
    """(n,): the median best score of k settings drawn from those seen. Minus infinity where k
    settings more likely than not all fail."""
    band: tuple[Interval, ...]
    """(n,): holds the true median best score of k settings for all k at once with probability
    `confidence` at least; infinite where n trials give no bound. From the simultaneous band of
    Learned-Miller and DeStefano ("A probabilistic upper bound on differential entropy", 2008) for the
    distribution of scores, as in Lourie, Cho and He, "Show your work with confidence" (NAACL 2024).
    That band has its level exactly, for scores without ties, over the whole distribution; the curve
    uses the better half of it and is covered about 99% of the time for 95%. It is of one method: of
    two methods' bands, both hold at once with probability 2 * confidence - 1 at least."""
    failed: int
    """Trials without a score, of the n."""
    confidence: float

    @property
    def n(self) -> int:
        """Number of trials, those that failed among them."""
        return len(self.median)


def tuning_curve(scores: npt.ArrayLike, failed: int = 0, confidence: float = 0.95) -> TuningCurve:
    """The tuning curve from scores (trials,) and the number of trials that failed.

    A failed trial has used its share of the budget and ranks below every score. The band's critical
    value is simulated, always from the same 100,000 draws: its level is exact to about 0.2 points.

    Raises ValueError if a score is NaN or infinite, the shape is not (trials,) or empty, `failed` is
    negative or `confidence` not between 0 and 1.
    """
    values = finite(scores, "scores", "trials")
    if failed < 0:
        raise ValueError(f"failed must not be negative, got {failed}")
    _check_confidence(confidence)
    n = len(values) + failed
    everything = np.concatenate([np.full(failed + 1, -np.inf), np.sort(values), [np.inf]])
    low, median, high = (everything[places] for places in _places(n, confidence))
    expected = np.full(n, np.nan)
    if not failed:
        expected = EmpiricalDistribution(values).u_tuning_curve(np.arange(1, n + 1))
    return TuningCurve(
        expected=tuple(expected.tolist()),
        median=tuple(median.tolist()),
        band=tuple(Interval(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True)),
        failed=failed,
        confidence=confidence,
    )


@lru_cache
def least_trials(confidence: float = 0.95) -> int:
    """The fewest trials with which the band has both ends anywhere: at the best of one setting.

    Raises ValueError if `confidence` is not between 0 and 1.
    """
    _check_confidence(confidence)
    n = 1
    while True:
        low, _, high = _places(n, confidence)
        if low[0] > 0 and high[0] <= n:
            return n
        n += 1


@lru_cache
def _places(n: int, confidence: float) -> tuple[Places, Places, Places]:
    """Low end, median and high end as places (n,) among n sorted scores, counted from 1.

    0 and n + 1 stand for no bound. They do not depend on the scores; ties change nothing, because a
    quantile of tied scores is the score at the same place.
    """
    below, seen, above = EmpiricalDistribution.confidence_bands(
        np.arange(1.0, n + 1),
        confidence,
        a=0.0,
        b=n + 1.0,
        generator=np.random.default_rng(0),
        method=BAND,
        n_jobs=1,
    )
    best_of = np.arange(1, n + 1)
    low, median, high = (
        distribution.quantile_tuning_curve(best_of, q=HALF).astype(np.int64)
        for distribution in (above, seen, below)
    )
    return low, median, high


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
