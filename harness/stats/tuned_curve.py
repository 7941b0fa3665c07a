"""Tuned scores at many budgets, with bands that hold for all budgets at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.arrays import Floats
from harness.stats.paired import ROUNDING
from harness.stats.tuned_score import Pool, pseudo_scores

MULTIPLIERS = 4999
"""Draws of multipliers for a band."""


@dataclass(frozen=True)
class TunedCurve:
    """A tuned score for budgets of 1, 2, ... trials."""

    scores: tuple[float, ...]
    """(budgets,)."""
    low: tuple[float, ...]
    """(budgets,): lower ends of the band."""
    high: tuple[float, ...]
    """(budgets,): upper ends of the band."""
    confidence: float

    @property
    def budgets(self) -> range:
        """The budgets, from one trial to half of a pool's trials."""
        return range(1, len(self.scores) + 1)


def tuned_curve(
    pools: Sequence[Pool], confidence: float, generator: np.random.Generator
) -> TunedCurve:
    """The tuned scores of one method, from one pool for each teacher.

    The band has the half-width c * s(T) at budget T. s(T) is the jackknife's standard error, and c is
    the quantile of the largest standardised deviation over all budgets, which random normal multipliers
    of the jackknife's pseudo-scores simulate (Chernozhukov, Chetverikov and Kato, "Gaussian
    approximations and multiplier bootstrap for maxima of sums", Annals of Statistics 41, 2013). The
    level is approximate. The curve ends at half of a pool's trials: beyond, a few trials with the best
    selection scores decide, and their spread is not known.

    Raises ValueError if there are no pools, a pool has fewer than two trials, or `confidence` is not
    between 0 and 1.
    """
    if not pools:
        raise ValueError("a curve needs at least one pool")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    matrices = [_pseudo_matrix(pool) for pool in pools]
    budgets = min(matrix.shape[1] for matrix in matrices)
    scores = np.mean([matrix[:, :budgets].mean(axis=0) for matrix in matrices], axis=0)
    # Deviations of the mean over the teachers, one row for each trial.
    deviations = np.concatenate(
        [
            (matrix[:, :budgets] - matrix[:, :budgets].mean(axis=0))
            / np.sqrt(len(matrix) * (len(matrix) - 1))
            / len(matrices)
            for matrix in matrices
        ]
    )
    errors = np.sqrt((deviations**2).sum(axis=0))
    varies = errors > ROUNDING * max(1.0, float(np.abs(scores).max()))
    factor = 0.0
    if varies.any():
        multipliers = generator.normal(size=(MULTIPLIERS, len(deviations)))
        largest = np.abs(multipliers @ deviations[:, varies] / errors[varies]).max(axis=1)
        factor = float(np.quantile(largest, confidence))
    half_widths = factor * errors
    return TunedCurve(
        scores=tuple(scores.tolist()),
        low=tuple((scores - half_widths).tolist()),
        high=tuple((scores + half_widths).tolist()),
        confidence=confidence,
    )


def _pseudo_matrix(pool: Pool) -> Floats:
    """The pseudo-scores (trials, budgets) at budgets from 1 to half of the trials."""
    if pool.trials < 2:
        raise ValueError(f"a curve needs at least two trials, got {pool.trials}")
    budgets = range(1, pool.trials // 2 + 1)
    return np.stack([pseudo_scores(pool, budget) for budget in budgets], axis=1)
