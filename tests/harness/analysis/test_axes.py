"""Comparisons in cells and along axes: two families, each by its own rule."""

from itertools import product

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from harness.analysis.axes import axis_names, score_interval
from harness.analysis.compare import AblationResult, summarise
from harness.analysis.interim import PoolPlan, pool_interims
from harness.analysis.pools import TrialScores, pool_of
from harness.stats.exchange import tuned_difference
from harness.stats.tuned_score import pseudo_scores, tuned_score
from harness.storage.ledger import Ledger
from tests.grids import write_grid, write_seeds, write_trials
from tests.harness.analysis.test_interim import trials

LAYERS = [{"student.layers": layers} for layers in (6, 4, 2)]
SEEDS = list(range(1, 9))
SETTINGS = {"search": {"trials": 1}}
POOLS = {"protocol": {"unit": "methods", "budget": 2}, "search": {"trials": 8}}


def noise(key: tuple[object, ...], count: int) -> np.ndarray:
    seed = [ord(letter) for letter in repr(key)]
    return np.random.default_rng(seed).normal(size=count)


@pytest.fixture
def scores() -> dict[tuple[str, int, str], dict[int, float | None]]:
    """By task, cell and method: worse with fewer layers; alp is better than kd in the last cell."""
    return {
        (task, cell, method): dict(
            zip(
                SEEDS,
                np.round(
                    0.9
                    - (0, 0.01, 0.1)[cell]
                    + 0.08 * (cell == 2 and method == "alp")
                    + 0.02 * noise((task, cell, method), len(SEEDS)),
                    3,
                ).tolist(),
                strict=True,
            )
        )
        for task, cell, method in product(("rte", "qnli"), range(3), ("alp", "kd"))
    }


def compared(ledger: Ledger, scores: dict) -> AblationResult:
    studies = write_grid(ledger, LAYERS, list(scores), SETTINGS, report_seeds=SEEDS)
    for key, study in studies.items():
        write_seeds(ledger, study, scores[key])
    return summarise(ledger, "ablation")


def holm_by_hand(p_values: list[float]) -> list[float]:
    order = np.argsort(p_values, kind="stable")
    adjusted, least = [0.0] * len(p_values), 0.0
    for place, position in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[position]))
        adjusted[position] = least
    return adjusted


def test_holm_runs_over_all_cells_and_apart_from_that_over_all_axis_differences(
    ledger: Ledger, scores: dict
) -> None:
    result = compared(ledger, scores)
    for comparisons, count in ((result.comparisons, 2 * 3), (result.along_axes, 2 * 3 * 2)):
        p_values = [comparison.difference.p_value for comparison in comparisons]
        adjusted = [comparison.adjusted_p for comparison in comparisons]
        assert len(p_values) == count
        assert len(set(adjusted)) > 1
        assert adjusted == pytest.approx(multipletests(p_values, method="holm")[1].tolist())
        assert adjusted == pytest.approx(holm_by_hand(p_values))
    outcomes = {c.task: c.verdict.outcome for c in result.comparisons}
    assert outcomes["rte (layers=2)"] == outcomes["qnli (layers=2)"] == "better"
    assert result.gaps == ()


def test_a_comparison_without_runs_counts_in_the_family(ledger: Ledger, scores: dict) -> None:
    scores["rte", 0, "alp"] = {}
    result = compared(ledger, scores)
    p_values = [comparison.difference.p_value for comparison in result.comparisons]
    assert len(p_values) == 5
    expected = multipletests([*p_values, 1.0], method="holm")[1][:5]
    assert [c.adjusted_p for c in result.comparisons] == pytest.approx(expected.tolist())
    assert len(result.along_axes) == 10
    assert result.gaps == (
        "alp against kd on rte (layers=6): no pair of finished report runs",
        "alp at layers=4 against alp at layers=6 on rte: no pair of finished report runs",
        "alp at layers=2 against alp at layers=6 on rte: no pair of finished report runs",
    )


def test_a_difference_along_an_axis_pairs_the_runs_of_two_cells(
    ledger: Ledger, scores: dict
) -> None:
    result = compared(ledger, scores)
    by_names = {(c.task, c.method, c.baseline): c for c in result.along_axes}
    for task, method, (first, second) in product(
        ("rte", "qnli"), ("alp", "kd"), ((0, 1), (0, 2), (1, 2))
    ):
        sides = [f"{method} at layers={LAYERS[cell]['student.layers']}" for cell in (first, second)]
        found = by_names[task, sides[1], sides[0]].difference
        expected = [
            scores[task, second, method][seed] - scores[task, first, method][seed] for seed in SEEDS
        ]
        assert found.differences == pytest.approx(expected)
        reference = scipy.stats.permutation_test(
            (expected,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert found.p_value == pytest.approx(reference.pvalue)


def test_the_family_names_the_other_axes_and_the_two_values(ledger: Ledger) -> None:
    cells = [
        {"student.layers": layers, "search.weights": weights}
        for layers, weights in product((2, 1), ("convex", "simplex"))
    ]
    keys = [("rte", cell, "kd") for cell in range(4)]
    write_grid(ledger, cells, keys, SETTINGS)
    grid = ledger.manifest("ablation").grid
    assert grid is not None
    assert [axis_names(grid, contrast) for contrast in grid.family] == [
        ("rte (weights=convex)", "kd at layers=1", "kd at layers=2"),
        ("rte (weights=simplex)", "kd at layers=1", "kd at layers=2"),
        ("rte (layers=2)", "kd at weights=simplex", "kd at weights=convex"),
        ("rte (layers=1)", "kd at weights=simplex", "kd at weights=convex"),
    ]


def pool_scores(level: float, seed: int, count: int = 8) -> dict[int, TrialScores]:
    """Trials whose two criteria disagree: the metric rises with the score, the loss does too."""
    draws = np.random.default_rng(seed).normal(size=count)
    return {
        n: TrialScores((float(draw), -float(draw)), level + 0.01 * float(draw))
        for n, draw in enumerate(draws)
    }


def test_a_cell_is_read_by_its_own_configuration(ledger: Ledger) -> None:
    """An axis over the criterion: the same trials, ranked by metric and by loss."""
    cells = [{"search.criterion": name} for name in ("metric", "loss")]
    keys = [("rte", cell, method) for cell in (0, 1) for method in ("alp", "kd")]
    configs = [{**POOLS, "search": {"trials": 8, "criterion": name}} for name in ("metric", "loss")]
    studies = write_grid(ledger, cells, keys, configs[0], configs, report_seeds=list(range(1, 9)))
    for (_, _, method), study in studies.items():
        write_trials(ledger, study, pool_scores(0.9, {"alp": 1, "kd": 2}[method]))
    result = summarise(ledger, "ablation")
    pools = {
        (criterion, method): pool_of(
            [
                TrialScores((trial.selection or ())[place : place + 1], trial.reported)
                for trial in pool_scores(0.9, seed).values()
            ]
        )
        for place, criterion in enumerate(("metric", "loss"))
        for method, seed in (("alp", 1), ("kd", 2))
    }
    for row in result.results:
        criterion = row.task.removeprefix("rte (criterion=").removesuffix(")")
        pool = pools[criterion, row.method]
        assert row.mean == pytest.approx(tuned_score(pool, 2))
        assert row.best_trial == int(np.argmax(pool.selection))
    for comparison in result.along_axes:
        method = comparison.method.partition(" ")[0]
        sides = [pools[criterion, method] for criterion in ("loss", "metric")]
        test = tuned_difference(*([side] for side in sides), 2)
        assert comparison.difference.mean == pytest.approx(test.mean)
        assert comparison.difference.p_value == pytest.approx(test.p_value)


def test_looks_in_cells_and_along_axes_have_the_shares_of_their_families(ledger: Ledger) -> None:
    config = {
        "protocol": {"unit": "methods", "budget": 4, "stopping": "sequential"},
        "search": {"sampler": "random", "trials": 40},
    }
    keys = [("rte", cell, method) for cell in (0, 1, 2) for method in ("alp", "kd")]
    ended = {
        (cell, method): trials(0.9 - 0.005 * cell - 0.3 * (method == "kd"), 40, 10 * cell + place)
        for cell in range(3)
        for place, method in enumerate(("alp", "kd"))
    }
    studies = write_grid(ledger, LAYERS, keys, config, report_seeds=list(range(1, 41)))
    for (_, cell, method), study in studies.items():
        write_trials(ledger, study, ended[cell, method])
    result = summarise(ledger, "ablation")
    assert [(c.verdict.outcome, c.difference.n) for c in result.comparisons] == [("better", 20)] * 3
    plan = PoolPlan(max_trials=40, budget=4, alpha=0.05 / 6, margin=0.01)
    assert len(result.along_axes) == 6
    for comparison in result.along_axes:
        method, _, value = comparison.method.partition(" at layers=")
        reference = comparison.baseline.partition(" at layers=")[2]
        sides = {
            name: {n: ended[cell, method][n] for n in range(20)}  # the others ended there
            for name, cell in (
                ("a", (6, 4, 2).index(int(value))),
                ("b", (6, 4, 2).index(int(reference))),
            )
        }
        state = pool_interims(sides, [("a", "b")], plan)["a", "b"]
        assert comparison.stopping == state.stopping
        assert comparison.interval == state.interval
        assert comparison.adjusted_p is None


def test_the_interval_of_a_score_is_students(ledger: Ledger, scores: dict) -> None:
    row = compared(ledger, scores).results[0]
    values = list(scores["rte", 0, row.method].values())
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert score_interval(row, 0.9) == pytest.approx(tuple(expected))


def test_the_interval_of_a_tuned_score_is_that_of_the_jackknife(ledger: Ledger) -> None:
    keys = [("rte", cell, "kd") for cell in range(3)]
    studies = write_grid(ledger, LAYERS, keys, POOLS, report_seeds=list(range(1, 9)))
    write_trials(ledger, studies["rte", 0, "kd"], pool_scores(0.9, 3))
    first, second, _ = summarise(ledger, "ablation").results
    pool = pool_of(list(pool_scores(0.9, 3).values()))
    expected = scipy.stats.ttest_1samp(pseudo_scores(pool, 2), 0).confidence_interval(0.95)
    assert score_interval(first, 0.95) == pytest.approx(tuple(expected))
    assert score_interval(second, 0.95) is None
