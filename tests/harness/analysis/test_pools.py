"""Verdicts on methods: from the trials in a ledger to tuned scores and their comparison."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from harness.analysis.ablation_diff import read_ablation_diff
from harness.analysis.compare import AblationResult, summarise
from harness.analysis.pools import TunedPools
from harness.stats.exchange import tuned_difference, tuned_equivalence
from harness.stats.tuned_score import Pool, pseudo_scores, tuned_score
from harness.storage.ledger import Ledger
from harness.storage.record import Result
from tests.harness.analysis.test_compare import predictions
from tests.manifests import STUDY, manifest
from tests.records import record

Trial = tuple[float, float, float] | None
"""A trial's selection metric, selection loss and reported score; None for a failed trial."""
METHOD: list[Trial] = [
    (0.7, 0.6, 0.80),
    (0.8, 0.5, 0.90),
    (0.7, 0.4, 0.85),
    None,
    (0.6, 0.9, 0.74),
    (0.8, 0.7, 0.88),
]
BASELINE: list[Trial] = [
    (0.6, 0.8, 0.60),
    (0.7, 0.7, 0.66),
    (0.5, 0.9, 0.55),
    (0.4, 1.0, 0.50),
    (0.6, 0.6, 0.70),
    (0.7, 0.5, 0.72),
]


def compared(
    ledger: Ledger, trials: dict[str, Sequence[Trial]], criterion: str = "metric", budget: int = 2
) -> AblationResult:
    config = {
        "protocol": {"unit": "methods", "budget": budget},
        "search": {"sampler": "random", "trials": 6, "criterion": criterion},
    }
    studies = {method: f"s-{method}" for method in trials}
    ledger.write_ablation(
        manifest(
            studies={"rte": studies},
            family=[["rte", "alp", "kd"]],
            report_seeds=list(range(1, 7)),
            config=config,
        )
    )
    for method, study in studies.items():
        ledger.write_study(study, STUDY)
        for number, trial in enumerate(trials[method]):
            name = f"{method}-{number}"
            score = None if trial is None else trial[2]
            inputs = {
                "setting": {"learning_rate": 0.1 * (number + 1)},
                "selection": "sha of selection",
            }
            run = record(name, score, inputs=inputs)
            if trial is not None:
                selection = {"accuracy": trial[0], "label_loss": trial[1]}
                run = replace(run, selection=selection)
            kept = {} if score is None else {"validation": predictions(score)}
            ledger.write_runs([Result(run, kept, {})])
            ledger.use_run(study, "report", number, number + 1, name)
    return summarise(ledger, "ablation")


def pool_of(trials: Sequence[Trial], criterion: str = "metric") -> Pool:
    """The pool; a failed trial has the score of a constant prediction, .5.

    Metrics that differ, differ by .1: a thousandth of the loss decides between equal metrics only.
    """
    selection = [
        -np.inf if trial is None else (criterion == "metric") * trial[0] - 1e-3 * trial[1]
        for trial in trials
    ]
    return Pool(tuple(selection), tuple(0.5 if t is None else t[2] for t in trials))


@pytest.mark.parametrize("criterion", ["metric", "loss"])
def test_the_comparison_is_the_exchange_test_of_the_pools(ledger: Ledger, criterion: str) -> None:
    result = compared(ledger, {"alp": METHOD, "kd": BASELINE}, criterion)
    method, baseline = pool_of(METHOD, criterion), pool_of(BASELINE, criterion)
    (comparison,) = result.comparisons
    test = tuned_difference([method], [baseline], 2)
    assert comparison.crossed_bootstrap is None
    assert comparison.unpaired_seeds == ()
    assert comparison.difference.mean == pytest.approx(
        tuned_score(method, 2) - tuned_score(baseline, 2)
    )
    assert comparison.difference.p_value == test.p_value == comparison.adjusted_p
    assert comparison.interval == test.interval
    assert comparison.equivalence == tuned_equivalence([method], [baseline], 2, 0.01)
    assert comparison.difference.differences == pytest.approx(
        (pseudo_scores(method, 2) - pseudo_scores(baseline, 2)).tolist()
    )
    assert comparison.effects is None
    alp = result.results[0]
    assert alp.mean == pytest.approx(tuned_score(method, 2))
    assert alp.best_trial == {"metric": 1, "loss": 2}[criterion]
    assert alp.setting == {"learning_rate": pytest.approx({"metric": 0.2, "loss": 0.3}[criterion])}
    assert alp.failed_seeds == {4}
    assert [run.record.metrics.get("accuracy") for run in alp.search] == [
        None if trial is None else trial[0] for trial in METHOD
    ]


@pytest.mark.parametrize(("criterion", "budget"), [("metric", 2), ("metric", 3), ("loss", 2)])
def test_the_tuned_score_is_that_of_all_subsets(
    ledger: Ledger, criterion: str, budget: int
) -> None:
    """Of each subset the tuner keeps the best metric; among equal metrics, the least loss."""
    (alp, _) = compared(ledger, {"alp": METHOD, "kd": BASELINE}, criterion, budget).results
    keys = [
        (-1.0, 0.0) if trial is None else (trial[0] * (criterion == "metric"), -trial[1])
        for trial in METHOD
    ]
    reported = [0.5 if trial is None else trial[2] for trial in METHOD]
    kept = [
        reported[max(subset, key=lambda trial: keys[trial])]
        for subset in combinations(range(6), budget)
    ]
    assert alp.mean == pytest.approx(np.mean(kept))


def test_the_verdict_speaks_of_tuned_methods(ledger: Ledger) -> None:
    whole = [(0.5, 0.9, 0.75) if trial is None else trial for trial in METHOD]
    (comparison,) = compared(ledger, {"alp": whole, "kd": BASELINE}, budget=1).comparisons
    assert comparison.verdict.outcome == "better"
    assert "6 trials of each method, adjusted p = " in comparison.verdict.sentence
    assert comparison.verdict.sentence.endswith(
        "tuned with 1 trial, alp is better than kd on rte, on these examples, over new searches "
        "with this teacher."
    )


def test_a_verdict_waits_for_all_trials(ledger: Ledger) -> None:
    result = compared(ledger, {"alp": METHOD[:5], "kd": BASELINE})
    assert result.comparisons == ()
    assert result.gaps == ("alp against kd on rte: 5 of 6 search trials of alp have ended",)


def test_a_method_whose_trials_all_failed_is_equivalent_to_nothing(ledger: Ledger) -> None:
    result = compared(ledger, {"alp": [None] * 6, "kd": [None] * 6})
    assert result.comparisons == ()
    assert result.gaps == ("alp against kd on rte: all trials of alp failed",)


def test_the_sd_is_that_of_a_searchs_score() -> None:
    """With one trial a search keeps any of them alike: the sd is the population's."""
    scores = (0.5, 0.7, 0.9)
    assert TunedPools((Pool((0.1, 0.2, 0.3), scores),), 1).sd == pytest.approx(np.std(scores))
    # Of the pairs two keep the third trial, one the second.
    kept = (0.9, 0.9, 0.7)
    assert TunedPools((Pool((0.1, 0.2, 0.3), scores),), 2).sd == pytest.approx(np.std(kept))


def test_a_pools_trials_are_counted_once(ledger: Ledger) -> None:
    result = compared(ledger, {"alp": METHOD, "kd": BASELINE})
    assert [len(method.runs) for method in result.results] == [6, 6]


def test_trials_of_nothing_are_no_pair(ledger: Ledger) -> None:
    assert compared(ledger, {"alp": [], "kd": []}).gaps == (
        "alp against kd on rte: no pair of finished report runs",
    )


def test_two_ablations_of_pools_have_no_paired_difference(ledger: Ledger) -> None:
    compared(ledger, {"alp": METHOD, "kd": BASELINE})
    diff = read_ablation_diff(ledger, "ablation", "ablation")
    assert {pair.refusal for pair in diff.pairs} == {
        "a tuned score is one number for all trials, and no seed has a score of its own"
    }
    assert all(pair.difference is None for pair in diff.pairs)
