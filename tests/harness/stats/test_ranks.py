"""Ranks of several methods, against Demsar's tables, brute force, scipy and scikit-posthocs."""

import math
from collections.abc import Callable
from itertools import combinations, pairwise, permutations, product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from statsmodels.stats.multitest import fdrcorrection

from harness.stats.family import benjamini_hochberg, holm
from harness.stats.ranks import (
    average_ranks,
    critical_difference,
    friedman,
    nemenyi,
    rank_comparisons,
    rank_groups,
)

# Demsar (2006), table 6: AUC of four variants of C4.5 on 14 data sets. On the last but one he prints
# .975 for both the third and the fourth, and ranks the third before: it was more, before rounding.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)

# Scores as accuracies on 277 examples give them, with ties.
TABLES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(2, 5)),
    elements=st.integers(150, 156).map(lambda right: right / 277),
)


def scores(seed: int, blocks: int = 9, methods: int = 4, ties: bool = True) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.normal(np.linspace(0, 1, methods), 1, size=(blocks, methods))
    return np.round(2 * values) / 2 if ties else values


def test_average_ranks_by_hand() -> None:
    # The best has rank 1; the tie shares (1 + 2) / 2.
    assert average_ranks([[0.9, 0.8, 0.7], [0.6, 0.6, 0.1]]) == (1.25, 1.75, 3.0)


def test_scores_equal_up_to_rounding_are_tied() -> None:
    assert 0.1 + 0.2 != 0.3
    assert average_ranks([[0.1 + 0.2, 0.3, 0.2]]) == (1.5, 1.5, 3)
    assert average_ranks([[0.3 + 1e-9, 0.3]]) == (1, 2)


def test_demsars_example() -> None:
    result = nemenyi(DEMSAR)
    assert result.average_ranks == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    ranks = np.array(result.average_ranks)
    # His chi-square is not corrected for ties: ours is 9.28 over what the ties leave.
    uncorrected = 12 * 14 / 20 * ((ranks**2).sum() - 4 * 25 / 4)
    assert uncorrected == pytest.approx(9.28, abs=0.01)
    assert friedman(DEMSAR).chi2 > uncorrected
    # 3.143 - 1.964 = 1.18 is within 1.25 at .05, but beyond 1.12 at .10, as is 3.143 - 2.
    assert result.groups == ((3, 1, 2, 0),)
    assert nemenyi(DEMSAR, alpha=0.1).groups == ((3, 1, 2), (2, 0))


@pytest.mark.parametrize(("alpha", "expected"), [(0.05, 1.25), (0.1, 1.12)])
def test_demsars_critical_differences(alpha: float, expected: float) -> None:
    assert critical_difference(4, 14, alpha) == pytest.approx(expected, abs=0.005)
    assert nemenyi(DEMSAR, alpha).critical_difference == critical_difference(4, 14, alpha)


@pytest.mark.parametrize(
    ("methods", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (7, 2.949), (10, 3.164)]
)
def test_demsars_table_of_quantiles(methods: int, q: float) -> None:
    scale = math.sqrt(methods * (methods + 1) / (6 * 20))
    assert critical_difference(methods, 20) / scale == pytest.approx(q, abs=1e-3)


def test_demsars_comparisons_with_a_control() -> None:
    # He prints z = 0.512, 2.342 and 2.416; p = 0.607, 0.019 and 0.016.
    found = {c.first: c for c in rank_comparisons(DEMSAR, control=0)}
    assert {c.second for c in found.values()} == {0}
    assert [found[m].p_value for m in (2, 1, 3)] == pytest.approx((0.607, 0.019, 0.016), abs=2e-3)
    assert [found[m].adjusted_p for m in (1, 2, 3)] == pytest.approx(
        holm([found[m].p_value for m in (1, 2, 3)])
    )
    assert found[3].difference == pytest.approx(1.964 - 3.143, abs=1e-3)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("methods", [3, 6])
def test_friedman_equals_scipy(methods: int, ties: bool) -> None:
    for seed in range(5):
        table = scores(seed, methods=methods, ties=ties)
        result = friedman(table)
        expected = scipy.stats.friedmanchisquare(*table.T)
        assert result.chi2 == pytest.approx(expected.statistic)
        assert (result.average_ranks, result.blocks) == (average_ranks(table), 9)


def test_iman_davenport_is_the_analysis_of_variance_of_ranks() -> None:
    table = scores(1)
    ranks = scipy.stats.rankdata(-table, axis=1)
    methods, blocks = ranks.mean(axis=0), ranks.mean(axis=1, keepdims=True)
    between = 9 * ((methods - 2.5) ** 2).sum() / 3
    rest = ((ranks - methods - blocks + 2.5) ** 2).sum() / 24
    result = friedman(table)
    assert result.f == pytest.approx(between / rest)
    assert result.df == (3, 24)
    assert result.p_value == pytest.approx(scipy.stats.f.sf(between / rest, 3, 24))
    # Without ties, as Demsar has it.
    chi2 = friedman(scores(1, ties=False)).chi2
    assert friedman(scores(1, ties=False)).f == pytest.approx(8 * chi2 / (9 * 3 - chi2))


def permuted(table: np.ndarray) -> np.ndarray:
    """Friedman's chi-square of every permutation within the blocks."""
    orders = [list(permutations(row)) for row in table.tolist()]
    return np.array([friedman(np.array(rows)).chi2 for rows in product(*orders)])


@pytest.mark.parametrize("ties", [False, True])
def test_permutation_p_value_approaches_all_permutations(ties: bool) -> None:
    table = np.array([[1, 2, 3], [1, 3, 2], [2, 2 if ties else 1, 3], [1, 2, 3]])
    result = friedman(table, np.random.default_rng(0), resamples=20_000)
    exact = np.mean(permuted(table) >= result.chi2 - 1e-9)
    assert result.permutation_p_value == pytest.approx(exact, abs=4 * math.sqrt(0.25 / 20_000))
    assert abs(exact - result.p_value) > 0.01
    again = friedman(table, np.random.default_rng(0), resamples=20_000)
    assert again == result
    assert friedman(table).permutation_p_value is None


def test_permutation_p_value_counts_the_observed_order() -> None:
    result = friedman([[4, 3, 2, 1]] * 9, np.random.default_rng(1), resamples=99)
    assert result.permutation_p_value == 1 / 100


def test_few_blocks_make_f_reject_too_often() -> None:
    """The level that the docstring states, counted over all orders of three methods."""
    blocks = [np.array(rows) for rows in product(permutations(range(3)), repeat=3)]
    found = [friedman(rows) for rows in blocks]
    assert np.mean([result.p_value < 0.05 for result in found]) == pytest.approx(0.1944, abs=1e-4)
    chi2 = np.array([result.chi2 for result in found])
    for rows, result in list(zip(blocks, found, strict=True))[:36]:
        drawn = friedman(rows, np.random.default_rng(2), 999)
        exact = np.mean(chi2 >= result.chi2 - 1e-9)
        assert drawn.permutation_p_value == pytest.approx(exact, abs=0.07)


def test_blocks_that_all_agree() -> None:
    result = friedman([[3, 2, 1]] * 4)
    assert math.isinf(result.f)
    assert result.chi2 == pytest.approx(4 * 2)
    # The first block may have any order; each of three others has it with chance 1/6.
    assert result.p_value == pytest.approx(6.0**-3)
    # With a tie there are three orders only.
    assert friedman([[3, 2, 2]] * 4).p_value == pytest.approx(3.0**-3)


def test_blocks_that_tie_all_methods() -> None:
    result = friedman(np.full((5, 3), 0.5), np.random.default_rng(3))
    assert (result.chi2, result.f, result.p_value) == (0, 0, 1)
    assert result.permutation_p_value == 1
    tied = nemenyi(np.full((5, 3), 0.5))
    assert tied.groups == ((0, 1, 2),)
    assert [c.adjusted_p for c in tied.comparisons] == [1, 1, 1]
    # A block that ties all methods among others says nothing, and is no agreement.
    assert math.isfinite(friedman([[3, 2, 1], [3, 2, 1], [1, 1, 1]]).f)


def test_one_block_says_nothing() -> None:
    result = friedman([[0.3, 0.2, 0.1]], np.random.default_rng(4))
    assert (result.p_value, result.permutation_p_value) == (1, 1)
    assert nemenyi([[0.3, 0.2, 0.1]]).groups == ((0, 1, 2),)


def test_two_methods_are_the_sign_test() -> None:
    table = np.array([[2, 1]] * 7 + [[1, 2]] * 2)
    result = friedman(table, np.random.default_rng(5), 20_000)
    assert result.chi2 == pytest.approx((7 - 2) ** 2 / 9)
    exact = scipy.stats.binomtest(2, 9).pvalue
    assert result.permutation_p_value == pytest.approx(exact, abs=0.015)
    (comparison,) = nemenyi(table).comparisons
    assert comparison.adjusted_p == pytest.approx(comparison.p_value)
    assert comparison.p_value == pytest.approx(scipy.stats.chi2.sf(result.chi2, 1))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("methods", [2, 4, 7])
def test_pairs_equal_scikit_posthocs(methods: int, ties: bool) -> None:
    posthocs = pytest.importorskip("scikit_posthocs")
    for seed in range(2):
        table = scores(seed, blocks=12, methods=methods, ties=ties)
        pairs = list(combinations(range(methods), 2))
        for found, expected in (
            (nemenyi(table).comparisons, posthocs.posthoc_nemenyi_friedman(table)),
            (
                rank_comparisons(table),
                posthocs.posthoc_siegel_friedman(table, p_adjust="holm"),
            ),
        ):
            assert [(c.first, c.second) for c in found] == pairs
            assert [c.adjusted_p for c in found] == pytest.approx(
                [expected.to_numpy()[pair] for pair in pairs], abs=1e-12
            )


def test_nemenyi_decides_as_its_critical_difference() -> None:
    decided = 0
    for seed in range(40):
        result = nemenyi(scores(seed, blocks=14, methods=5))
        for c in result.comparisons:
            apart = abs(c.difference) > result.critical_difference
            assert (c.adjusted_p < 0.05) == apart
            together = any({c.first, c.second} <= set(group) for group in result.groups)
            assert together != apart
            decided += apart
    assert 20 < decided < 380


def brute_groups(ranks: np.ndarray, difference: float) -> set[frozenset[int]]:
    """All sets of two or more within the difference that no other such set contains."""
    methods = range(len(ranks))
    within = [
        frozenset(chosen)
        for size in range(2, len(ranks) + 1)
        for chosen in combinations(methods, size)
        if np.ptp(ranks[list(chosen)]) <= difference
    ]
    return {group for group in within if not any(group < other for other in within)}


@given(
    st.lists(st.integers(2, 20), min_size=1, max_size=7), st.floats(0.1, 6).filter(lambda d: d % 1)
)
def test_groups_equal_brute_force(halves: list[int], difference: float) -> None:
    ranks = np.array(halves) / 2
    groups = rank_groups(ranks, difference)
    # Methods of equal rank belong to the same groups, so the sets are the same intervals.
    assert {frozenset(group) for group in groups} == brute_groups(ranks, difference)
    assert len(set(groups)) == len(groups)
    for group in groups:
        assert (np.diff(ranks[list(group)]) >= 0).all()
    assert all(ranks[a[0]] < ranks[b[0]] for a, b in pairwise(groups))


def test_groups_by_hand() -> None:
    assert rank_groups([2.0, 1.0, 3.5, 2.5], 1.2) == ((1, 0), (0, 3), (3, 2))
    assert rank_groups([2.0, 1.0, 3.5, 2.5], 1.5) == ((1, 0, 3), (0, 3, 2))
    assert rank_groups([1.0, 3.0, 5.0], 1.5) == ()


@settings(deadline=None)
@given(TABLES, st.randoms(use_true_random=False))
def test_permuting_methods_permutes_the_results(table: np.ndarray, random: object) -> None:
    order = list(range(table.shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    ranks = average_ranks(table)
    assert average_ranks(table[:, order]) == tuple(ranks[i] for i in order)
    first, second = friedman(table), friedman(table[:, order])
    assert (second.chi2, second.f, second.p_value) == (first.chi2, first.f, first.p_value)
    moved = {frozenset((c.first, c.second)): c for c in nemenyi(table[:, order]).comparisons}
    for c in nemenyi(table).comparisons:
        other = moved[frozenset((order.index(c.first), order.index(c.second)))]
        assert abs(other.difference) == pytest.approx(abs(c.difference))
        assert other.adjusted_p == pytest.approx(c.adjusted_p)


@given(TABLES, st.data())
def test_a_constant_per_block_changes_no_rank(table: np.ndarray, data: st.DataObject) -> None:
    shifts = data.draw(st.lists(st.floats(-5, 5), min_size=len(table), max_size=len(table)))
    assert average_ranks(table + np.array(shifts)[:, None]) == average_ranks(table)


@given(TABLES)
def test_ranks_add_up_and_turn_with_the_sign(table: np.ndarray) -> None:
    ranks, methods = np.array(average_ranks(table)), table.shape[1]
    assert ranks.sum() == pytest.approx(methods * (methods + 1) / 2)
    assert average_ranks(-table) == pytest.approx(methods + 1 - ranks)


@pytest.mark.parametrize("test", [average_ranks, friedman, nemenyi, rank_comparisons])
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([0.1, 0.2], r"scores must have the shape \(blocks, methods\), got \(2,\)"),
        (np.ones((0, 3)), r"scores must have the shape \(blocks, methods\), got \(0, 3\)"),
        ([[0.1], [0.2]], "ranks need at least two methods, got 1"),
        ([[0.1, 0.2], [0.3, math.nan]], r"scores\[1, 1\] is nan; every score must be finite"),
    ],
)
def test_bad_tables_are_named(test: Callable[..., object], table: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        test(table)


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="control must be between 0 and 3, got 4"):
        rank_comparisons(DEMSAR, control=4)
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, got 5"):
        nemenyi(DEMSAR, alpha=5)
    with pytest.raises(ValueError, match="at least two methods and one block are needed, got 1"):
        critical_difference(1, 5)
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        friedman(DEMSAR, resamples=0)


def test_benjamini_hochberg_by_hand() -> None:
    # Sorted: 0.005 * 4/1, 0.01 * 4/2, 0.03 * 4/3, 0.04 * 4/4, each at most the next.
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.02, 0.04, 0.04, 0.02))
    assert benjamini_hochberg([]) == ()
    assert benjamini_hochberg([0.3]) == (0.3,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_benjamini_hochberg_equals_its_definition_and_statsmodels(p_values: list[float]) -> None:
    adjusted = benjamini_hochberg(p_values)
    values, n = np.array(p_values), len(p_values)
    # The least q at which the rule rejects p: of the k p values up to some t >= p, all t k / n <= q.
    rules = [(t, min(1.0, t * n / np.count_nonzero(values <= t))) for t in values]
    assert adjusted == pytest.approx([min(q for t, q in rules if t >= p) for p in values])
    assert adjusted == pytest.approx(tuple(fdrcorrection(p_values)[1]))


def test_benjamini_hochberg_keeps_the_false_discovery_rate() -> None:
    generator = np.random.default_rng(6)
    shares = []
    for _ in range(1500):
        z = generator.normal(size=12) + np.where(np.arange(12) < 4, 3, 0)
        rejected = np.array(benjamini_hochberg(2 * scipy.stats.norm.sf(abs(z)))) <= 0.2
        shares.append(rejected[4:].sum() / max(rejected.sum(), 1))
    # Eight of twelve hypotheses are true: the rate is 0.2 * 8 / 12.
    assert np.mean(shares) == pytest.approx(0.2 * 8 / 12, abs=4 * np.std(shares) / math.sqrt(1500))


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_benjamini_hochberg_names_a_bad_p_value(bad: float) -> None:
    with pytest.raises(ValueError, match=rf"p_values\[1\] is {bad}"):
        benjamini_hochberg([0.5, bad])
