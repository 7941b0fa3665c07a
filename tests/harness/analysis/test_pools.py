"""Verdicts on methods: from the trials in a ledger to tuned scores and their comparison."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from harness.analysis.ablation_diff import read_ablation_diff
from harness.analysis.compare import AblationResult, summarise
from harness.analysis.comparison import BOOTSTRAP_SEED
from harness.analysis.pools import TunedPools
from harness.stats import exchange
from harness.stats.exchange import tuned_difference, tuned_equivalence
from harness.stats.tuned_examples import TunedInterval
from harness.stats.tuned_score import Pool, pseudo_scores, trial_weights, tuned_score
from harness.storage.ledger import Ledger
from harness.storage.record import Result
from tests.harness.analysis.test_compare import LABELS, predictions
from tests.manifests import STUDY, manifest
from tests.records import record

EXAMPLES = len(LABELS)
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
    ledger: Ledger,
    trials: dict[str, Sequence[Trial]],
    criterion: str = "metric",
    budget: int = 2,
    name: str = "ablation",
    family: Sequence[Sequence[str]] = (("rte", "alp", "kd"),),
    predicted: Callable[[str], bool] = lambda name: True,
) -> AblationResult:
    """The result of trials by method. `predicted` says whether a run's predictions are stored."""
    config = {
        "protocol": {"unit": "methods", "budget": budget},
        "search": {"trials": max(6, *map(len, trials.values())), "criterion": criterion},
    }
    studies = {method: f"s-{method}-{name}" for method in trials}
    ledger.write_ablation(
        manifest(
            name=name,
            studies={"rte": studies},
            family=family,
            report_seeds=list(range(1, 7)),
            config=config,
        )
    )
    for method, study in studies.items():
        ledger.write_study(study, STUDY)
        for number, trial in enumerate(trials[method]):
            run_name = f"{method}-{number}-{name}"
            score = None if trial is None else trial[2]
            inputs = {
                "setting": {"learning_rate": 0.1 * (number + 1)},
                "selection": "sha of selection",
            }
            run = record(run_name, score, inputs=inputs)
            if trial is not None:
                selection = {"accuracy": trial[0], "label_loss": trial[1]}
                run = replace(run, selection=selection)
            is_stored = score is not None and predicted(run_name)
            kept = {"validation": predictions(score)} if is_stored else {}
            ledger.write_runs([Result(run, kept, {})])
            ledger.use_run(study, "report", number, number + 1, run_name)
    return summarise(ledger, name)


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


def test_the_patterns_of_a_comparison_are_drawn_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def segments(*given: object) -> exchange.Segments:
        drawn.append(given)
        return pool_segments(*given)

    pool_segments = exchange.pool_segments
    monkeypatch.setattr(exchange, "pool_segments", segments)
    rounded = {
        name: [t if t is None else (*t[:2], round(EXAMPLES * t[2]) / EXAMPLES) for t in trials]
        for name, trials in (("alp", METHOD), ("kd", BASELINE))
    }
    (comparison,) = compared(ledger, rounded).comparisons
    assert comparison.equivalence is not None
    assert comparison.over_examples is not None
    assert len(drawn) == 1


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
    assert comparison.verdict.scope == "task"
    low, high = (
        f"{100 * end:+.2f}" for end in (comparison.over_examples.low, comparison.over_examples.high)
    )
    assert comparison.verdict.sentence.endswith(
        "tuned with 1 trial, alp is better than kd on rte, also over new examples of this task (95% "
        f"interval {low} to {high}), over new searches with this teacher."
    )


def test_the_interval_over_new_examples_is_that_of_the_stored_predictions(ledger: Ledger) -> None:
    """At the level of a family of two; a failed trial has the constant's score, .5."""
    rounded = {
        name: [t if t is None else (*t[:2], round(EXAMPLES * t[2]) / EXAMPLES) for t in trials]
        for name, trials in (("alp", METHOD), ("kd", BASELINE))
    }
    family = [["rte", "alp", "kd"], ["rte", "kd", "alp"]]
    first, second = compared(ledger, rounded, family=family).comparisons
    pools = [pool_of(trials) for trials in rounded.values()]
    test = tuned_difference(pools[:1], pools[1:], 2, 0.975)
    weights = [trial_weights(pool.selection, 2) for pool in pools]
    draws = np.random.default_rng(BOOTSTRAP_SEED).integers(EXAMPLES, size=(2000, EXAMPLES))
    scores = np.zeros((2, 2000))
    for side, trials in enumerate(rounded.values()):
        for trial, weight in zip(trials, weights[side], strict=True):
            # The first share of the examples is right.
            right = 0.5 if trial is None else (draws < round(EXAMPLES * trial[2])).mean(axis=1)
            scores[side] += weight * right
    differences = np.sort(scores[0] - scores[1])
    interval = first.over_examples
    assert isinstance(interval, TunedInterval)
    assert interval.confidence == pytest.approx(0.975)
    assert interval.mean == pytest.approx(tuned_score(pools[0], 2) - tuned_score(pools[1], 2))
    assert interval.examples.mean == pytest.approx(interval.mean)
    least = 2.241403 / (
        EXAMPLES + 2
    )  # the normal quantile of .975, two-sided, over the examples plus two
    # 2001 * .0125 = 25.01: the 25th from either end.
    assert interval.examples.low == pytest.approx(min(differences[24], interval.mean - least))
    assert interval.examples.high == pytest.approx(max(differences[-25], interval.mean + least))
    assert interval.searches == test.interval
    assert isinstance(second.over_examples, TunedInterval)
    assert second.over_examples.examples.low == pytest.approx(-interval.examples.high)


def test_without_all_predictions_there_is_no_interval_over_new_examples(ledger: Ledger) -> None:
    result = compared(
        ledger, {"alp": METHOD, "kd": BASELINE}, predicted=lambda name: name != "kd-2-ablation"
    )
    (comparison,) = result.comparisons
    assert comparison.over_examples is None
    assert comparison.verdict.scope == "examples"


def test_the_weights_of_several_pools_are_divided_by_their_number() -> None:
    first, second = Pool((0.1, 0.2, 0.3), (0.5, 0.7, 0.9)), Pool((0.3, 0.1), (0.2, 0.4))
    tuned = TunedPools((first, second), 2)
    assert tuned.weights == pytest.approx([0, 1 / 6, 1 / 3, 1 / 2, 0])
    scores = np.array([*first.reported, *second.reported])
    assert tuned.score == pytest.approx(tuned.weights @ scores)


def test_a_verdict_waits_for_all_trials(ledger: Ledger) -> None:
    result = compared(ledger, {"alp": METHOD[:5], "kd": BASELINE})
    assert result.comparisons == ()
    assert result.gaps == ("alp against kd on rte: 5 of 6 trials of alp have ended",)


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
        "alp against kd on rte: no trial of alp has ended",
    )


def test_two_ablations_are_compared_over_the_trials_of_both(ledger: Ledger) -> None:
    compared(ledger, {"alp": METHOD, "kd": BASELINE}, name="first")
    more: list[Trial] = [*BASELINE, (0.9, 0.4, 0.62), (0.3, 0.8, 0.5)]
    compared(ledger, {"alp": more, "kd": more}, name="second")
    diff = read_ablation_diff(ledger, "first", "second")
    alp, kd = diff.pairs
    test = tuned_difference([pool_of(BASELINE)], [pool_of(METHOD)], 2)
    assert alp.difference is not None
    assert (alp.difference.mean, alp.difference.p_value) == (test.mean, test.p_value)
    assert alp.difference.interval == test.interval
    assert kd.difference is not None
    assert (kd.difference.mean, kd.difference.n) == (0.0, 6)
    compared(ledger, {"alp": METHOD, "kd": BASELINE}, budget=1, name="third")
    refusals = {pair.refusal for pair in read_ablation_diff(ledger, "first", "third").pairs}
    assert refusals == {"about different subjects: a budget of 2 and a budget of 1"}
    failures: list[Trial] = [None] * 6
    compared(ledger, {"alp": failures, "kd": BASELINE}, name="fourth")
    assert read_ablation_diff(ledger, "first", "fourth").pairs[0].refusal == (
        "all trials of fourth failed"
    )


def test_the_distribution_is_that_of_all_subsets() -> None:
    pool = Pool((0.3, 0.1, 0.2, -np.inf, 0.2), (0.9, 0.7, 0.7, 0.5, 0.8))
    kept_scores = []
    for subset in combinations(range(5), 2):
        best = max(pool.selection[trial] for trial in subset)
        ties = [trial for trial in subset if pool.selection[trial] == best]
        kept_scores += [pool.reported[trial] for trial in ties] * (2 // len(ties))
    scores, shares = TunedPools((pool,), 2).distribution()
    assert scores.tolist() == sorted(set(kept_scores))
    expected = [np.mean([kept <= score for kept in kept_scores]) for score in scores]
    assert shares == pytest.approx(expected)
    assert TunedPools((pool, pool), 2).distribution()[1] == pytest.approx(shares)


def test_a_pool_without_all_trials_has_no_score(ledger: Ledger) -> None:
    """The mean over the trials that have ended is no tuned score."""
    result = compared(ledger, {"alp": METHOD[:5], "kd": BASELINE})
    alp, kd = result.results
    assert np.isnan([alp.mean, alp.sd]).all()
    assert kd.mean == pytest.approx(tuned_score(pool_of(BASELINE), 2))


def test_a_pair_of_pools_without_a_common_trial_has_names(ledger: Ledger) -> None:
    """No trial number is complete on both sides; each failed trial counts."""
    method = [trial if number % 2 else None for number, trial in enumerate(BASELINE)]
    baseline = [None if number % 2 else trial for number, trial in enumerate(BASELINE)]
    (comparison,) = compared(ledger, {"alp": method, "kd": baseline}).comparisons
    assert comparison.seeds == ()
    assert "left out" not in comparison.verdict.sentence
