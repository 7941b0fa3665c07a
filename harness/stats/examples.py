"""Paired tests of two or more trained models over the evaluation examples.

The claims are about these trained models on new examples. Claims about new seeds need the paired
difference over seeds or the crossed bootstrap.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats
from statsmodels.stats import contingency_tables

from harness.stats.arrays import check_shape

Answers = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two models on the same examples, for one seed.

    The hypothesis says that both models are right equally often on new examples. The test compares
    two trained models, not two methods: another seed trains other models (Dietterich, "Approximate
    statistical tests", Neural Computation 10, 1998).
    """

    both_right: int
    """Number of examples on which both models are right."""
    method_only: int
    """Number of discordant examples on which only the method's model is right."""
    baseline_only: int
    """Number of discordant examples on which only the baseline's model is right."""
    neither_right: int
    p_value: float
    """Two-sided exact binomial p value given the discordant examples. The test never rejects more
    often than its level, and much less often with few discordant examples."""
    mid_p_value: float
    """The exact p value minus the chance of the observed counts; 1 for equal counts. The test
    rejects closer to the level and hardly ever above (Fagerland, Lydersen and Laake, BMC Medical
    Research Methodology 13:91, 2013)."""

    @property
    def examples(self) -> int:
        """Number of examples."""
        return self.both_right + self.method_only + self.baseline_only + self.neither_right


@dataclass(frozen=True)
class CochranQ:
    """Cochran's Q test of several models on the same examples, for one seed.

    The hypothesis says that all models are right equally often on new examples. With two models Q
    is McNemar's chi-square without a correction.
    """

    right_counts: tuple[int, ...]
    """(methods,): number of examples on which each model is right."""
    examples: int
    discordant_examples: int
    """Number of examples on which some models are right and others are wrong. Q uses these alone."""
    q: float
    df: int
    p_value: float
    """Chi-square with `df` degrees of freedom. The approximation needs at least four discordant
    examples and 24 answers to them, methods x discordant examples (Tate and Brown, JASA 65,
    1970)."""


def mcnemar(method_answers: npt.ArrayLike, baseline_answers: npt.ArrayLike) -> McNemar:
    """Test which of two models is right more often, from answers (examples,): true if right.

    The test is for one seed, never for several seeds at once. All seeds answer the same examples,
    so pooled counts would take each example for as many independent examples as there are seeds,
    and any small difference would be significant. For the same reason the p values of several seeds
    must not be combined as if they were independent. Without discordant examples all p values are
    1.

    Raises ValueError if a value is neither 0 nor 1, or the shapes differ, are not (examples,) or
    are empty.
    """
    method = _answers(method_answers, "method_answers", "examples")
    baseline = _answers(baseline_answers, "baseline_answers", "examples")
    _check_equal(method, baseline)
    return _tests(method[None], baseline[None])[0]


def mcnemar_per_seed(
    method_answers: npt.ArrayLike, baseline_answers: npt.ArrayLike
) -> tuple[McNemar, ...]:
    """McNemar's test for each seed, from answers (seeds, examples), paired by position.

    The results (seeds,) have the order given. `mcnemar` explains why no test is for all seeds.

    Raises ValueError as `mcnemar`, for the shape (seeds, examples).
    """
    method = _answers(method_answers, "method_answers", "seeds", "examples")
    baseline = _answers(baseline_answers, "baseline_answers", "seeds", "examples")
    _check_equal(method, baseline)
    return _tests(method, baseline)


def _tests(method: Answers, baseline: Answers) -> tuple[McNemar, ...]:
    """The tests of answers (seeds, examples)."""
    both_right = np.count_nonzero(method & baseline, axis=1)
    method_only = np.count_nonzero(method & ~baseline, axis=1)
    baseline_only = np.count_nonzero(baseline & ~method, axis=1)
    neither_right = method.shape[1] - both_right - method_only - baseline_only
    smaller = np.minimum(method_only, baseline_only)
    discordant = method_only + baseline_only
    # The exact p value is cut off at 1, so mid_p does not start from it. For equal counts mid_p is 1.
    doubled = 2 * scipy.stats.binom.cdf(smaller, discordant, 0.5)
    mid_p = doubled - scipy.stats.binom.pmf(smaller, discordant, 0.5)
    counts = (both_right, method_only, baseline_only, neither_right)
    p_values = (np.minimum(doubled, 1.0), np.minimum(mid_p, 1.0))
    rows = zip(*(values.tolist() for values in (*counts, *p_values)), strict=True)
    return tuple(McNemar(*row) for row in rows)


def cochran_q(answers: npt.ArrayLike) -> CochranQ:
    """Test whether some models are right more often than others, for one seed.

    `answers` (methods, examples) are true where a model is right. Without discordant examples the
    statistic is 0/0; the result then has Q = 0 and a p value of 1.

    Raises ValueError if a value is neither 0 nor 1, the shape is not (methods, examples) or empty,
    or there are fewer than two methods.
    """
    table = _answers(answers, "answers", "methods", "examples")
    if len(table) < 2:
        raise ValueError("Cochran's Q needs at least two methods, got 1")
    discordant_examples = int(np.count_nonzero(table.any(axis=0) & ~table.all(axis=0)))
    q, p_value = 0.0, 1.0
    if discordant_examples:
        test = contingency_tables.cochrans_q(table.T)
        q, p_value = float(test.statistic), float(test.pvalue)
    return CochranQ(
        right_counts=tuple(table.sum(axis=1).tolist()),
        examples=table.shape[1],
        discordant_examples=discordant_examples,
        q=q,
        df=len(table) - 1,
        p_value=p_value,
    )


def _answers(values: npt.ArrayLike, name: str, *axes: str) -> Answers:
    array = np.asarray(values)
    check_shape(array, name, *axes)
    if array.dtype == np.bool_:
        return array
    positions = np.argwhere(~np.isin(array, (0, 1)))
    if len(positions):
        position = tuple(positions[0].tolist())
        raise ValueError(f"{name}{list(position)} is {array[position]}; it must be true or false")
    return array.astype(np.bool_)


def _check_equal(method: Answers, baseline: Answers) -> None:
    if method.shape != baseline.shape:
        raise ValueError(
            f"method_answers {method.shape} and baseline_answers {baseline.shape} differ in shape"
        )
