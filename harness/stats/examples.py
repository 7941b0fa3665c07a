"""Paired tests over the examples that two or more trained models were evaluated on.

Their claims are about these trained models and new examples; new seeds are another matter, for the
paired difference over seeds and the crossed bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats
from statsmodels.stats import contingency_tables

from harness.metric_table import Score
from harness.stats.arrays import check_shape
from harness.stats.bootstrap import (
    DifferenceBootstrap,
    bootstrapped_per_seed,
)

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two models on the same examples, for one seed.

    The hypothesis: on new examples both models are right equally often. It compares two trained
    models, not two methods: another seed trains other models (Dietterich, "Approximate statistical
    tests", Neural Computation 10, 1998).
    """

    both: int
    """Examples that both models have right."""
    method_only: int
    """Discordant: the method's model alone is right."""
    baseline_only: int
    """Discordant: the baseline's model alone is right."""
    neither: int
    p_value: float
    """Two-sided exact binomial p value given the discordant examples. It never exceeds its level,
    and stays well below it where there are few."""
    mid_p_value: float
    """The exact p value less the chance of the very counts seen, and 1 for equal counts: closer to
    the level, and hardly ever above it (Fagerland, Lydersen and Laake, BMC Medical Research
    Methodology 13:91, 2013)."""

    @property
    def examples(self) -> int:
        """Number of examples."""
        return self.both + self.method_only + self.baseline_only + self.neither


@dataclass(frozen=True)
class CochranQ:
    """Cochran's Q test of several models on the same examples, for one seed.

    The hypothesis: on new examples all models are right equally often. With two models Q is
    McNemar's chi-square without correction.
    """

    right: tuple[int, ...]
    """(methods,): examples that each model has right."""
    examples: int
    discordant: int
    """Examples that some models have right and others wrong; the others say nothing."""
    q: float
    df: int
    p_value: float
    """Chi-square with `df` degrees of freedom: an approximation that wants at least four discordant
    examples and 24 answers to them, methods x discordant (Tate and Brown, JASA 65, 1970)."""


@dataclass(frozen=True)
class ExamplesBootstrap(DifferenceBootstrap):
    """Percentile interval of the mean difference over new examples, with the seeds held fixed.

    What it claims: how far the mean difference of these very models may move on other examples of
    the same kind. What it cannot claim: anything about another seed, which trains other models
    (`crossed_bootstraps` redraws both), another teacher or another training set.
    """


def mcnemar(method_right: npt.ArrayLike, baseline_right: npt.ArrayLike) -> McNemar:
    """Test which of two models is right more often, from (examples,) of true or false for each.

    For one seed, and never for several at once: the seeds answer the same examples, so pooled
    counts would take each example for as many independent ones as there are seeds, and make any
    small difference significant. For the same reason the p values of several seeds must not be
    combined as if they were independent. Without discordant examples all p values are 1.

    Raises ValueError if a value is neither 0 nor 1, or the shapes differ, are not (examples,) or
    are empty.
    """
    method = _right(method_right, "method_right", "examples")
    baseline = _right(baseline_right, "baseline_right", "examples")
    _check_equal(method, baseline)
    method_only = int(np.count_nonzero(method & ~baseline))
    baseline_only = int(np.count_nonzero(baseline & ~method))
    both = int(np.count_nonzero(method & baseline))
    neither = method.size - both - method_only - baseline_only
    exact = contingency_tables.mcnemar([[both, method_only], [baseline_only, neither]], exact=True)
    discordant = method_only + baseline_only
    fewer = min(method_only, baseline_only)
    binomial = scipy.stats.binom  # frozen, it takes ten times as long
    # Not from the exact p value, which is cut off at 1: this is 1 for equal counts by itself.
    mid_p = 2 * binomial.cdf(fewer, discordant, 0.5) - binomial.pmf(fewer, discordant, 0.5)
    return McNemar(
        both=both,
        method_only=method_only,
        baseline_only=baseline_only,
        neither=neither,
        p_value=float(exact.pvalue),
        mid_p_value=min(float(mid_p), 1.0),
    )


def mcnemar_per_seed(
    method_right: npt.ArrayLike, baseline_right: npt.ArrayLike
) -> tuple[McNemar, ...]:
    """McNemar's test of each seed on its own, from (seeds, examples), paired by position.

    One result per seed, in the order given; `mcnemar` says why there is none for all of them.

    Raises ValueError as `mcnemar`, for the shape (seeds, examples).
    """
    method = _right(method_right, "method_right", "seeds", "examples")
    baseline = _right(baseline_right, "baseline_right", "seeds", "examples")
    _check_equal(method, baseline)
    return tuple(mcnemar(m, b) for m, b in zip(method, baseline, strict=True))


def cochran_q(right: npt.ArrayLike) -> CochranQ:
    """Test whether some models are right more often than others, for one seed.

    `right` (methods, examples) is true or false. Without discordant examples the statistic is 0/0;
    it is then given as 0, with a p value of 1.

    Raises ValueError if a value is neither 0 nor 1, the shape is not (methods, examples) or empty,
    or there are fewer than two methods.
    """
    table = _right(right, "right", "methods", "examples")
    if len(table) < 2:
        raise ValueError("Cochran's Q needs at least two methods, got 1")
    discordant = int(np.count_nonzero(table.any(axis=0) & ~table.all(axis=0)))
    q, p_value = 0.0, 1.0
    if discordant:
        tested = contingency_tables.cochrans_q(table.T)
        q, p_value = float(tested.statistic), float(tested.pvalue)
    return CochranQ(
        right=tuple(table.sum(axis=1).tolist()),
        examples=table.shape[1],
        discordant=discordant,
        q=q,
        df=len(table) - 1,
        p_value=p_value,
    )


def examples_bootstraps_per_seed(
    metric: str | Score,
    predictions: Sequence[npt.ArrayLike],
    pairs: Sequence[tuple[int, int]],
    labels: npt.ArrayLike,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[tuple[ExamplesBootstrap, ...], ...]:
    """Resample the examples for each pair and each seed on its own, one interval per seed.

    `predictions` are each method's (seeds, examples), all of the same seeds; pairs are positions in
    them, method and baseline. The other arguments are those of `crossed_bootstraps`, and so are the
    errors. The draws are `generator.integers(examples, size=(resamples, examples))`. All pairs and
    seeds see the same draws, made and scored once: each has the interval that it would have alone,
    and the intervals are as dependent as the examples.
    """
    arrays = (predictions, pairs, labels, generator)
    return bootstrapped_per_seed(ExamplesBootstrap, metric, *arrays, resamples, confidence)


def _right(values: npt.ArrayLike, name: str, *axes: str) -> Right:
    array = np.asarray(values)
    check_shape(array, name, *axes)
    bad = np.argwhere(~np.isin(array, (0, 1)))
    if len(bad):
        where = tuple(bad[0].tolist())
        raise ValueError(f"{name}{list(where)} is {array[where]}; it must be true or false")
    return array.astype(np.bool_)


def _check_equal(method: Right, baseline: Right) -> None:
    if method.shape != baseline.shape:
        raise ValueError(
            f"method_right {method.shape} and baseline_right {baseline.shape} differ in shape"
        )
