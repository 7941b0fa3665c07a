"""The runs' predictions, example by example and seed by seed, worked out by hand."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from harness.analysis.answers import StoredAnswers
from harness.analysis.compare import AblationResult, summarise
from harness.analysis.examples import ExampleTests, example_tests
from harness.metric_table import METRICS
from harness.stats.bootstrap import examples_bootstraps_per_seed
from harness.storage.ledger import Ledger
from harness.storage.record import Predictions, Record, Result
from tests.manifests import STUDY, manifest
from tests.records import record

LABELS = np.array([0.0, 1.0] * 5)
Answers = Mapping[str, Mapping[int, np.ndarray | None]]
"""By method and seed: the predicted classes (examples,), or scores; None without stored predictions."""


def right(count: int, first: int = 0) -> np.ndarray:
    """Classes that are right on `count` of the ten examples, from `first` on."""
    chosen = (np.arange(10) - first) % 10 < count
    return np.where(chosen, LABELS, 1 - LABELS)


def ablation(
    ledger: Ledger, answers: Answers, metric: str = "accuracy", moved: str = ""
) -> AblationResult:
    """The result for those answers on one task; the examples of the method `moved` are others.

    A seed that another method has and this one lacks is a failed run.
    """
    methods = list(answers)
    seeds = sorted({seed for own in answers.values() for seed in own})
    ledger.write_ablation(
        manifest(
            tasks={"rte": {"metrics": [metric]}},
            studies={"rte": {method: f"s-{method}" for method in methods}},
            trials=1,
            report_seeds=seeds,
            baseline="kd",
            family=[["rte", method, "kd"] for method in methods if method != "kd"],
        )
    )
    for method, own in answers.items():
        ledger.write_study(f"s-{method}", STUDY)
        search = run(f"{method}-search", metric, 0.5)
        ledger.write_runs([Result(search, {}, {})])
        ledger.use_run(f"s-{method}", "search", 0, 0, search.fingerprint)
        for seed in set(seeds) - set(own):
            lost = record(f"{method}-{seed}", None, metric)
            ledger.write_runs([Result(lost, {}, {})])
            ledger.use_run(f"s-{method}", "report", 0, seed, lost.fingerprint)
        for seed, predicted in own.items():
            score = 0.5 if predicted is None else METRICS[metric].score(LABELS, predicted)
            found = run(f"{method}-{seed}", metric, score)
            ids = np.arange(10) + (method == moved)
            kept = {}
            if predicted is not None:
                kept["validation"] = Predictions(logits(predicted, metric), LABELS, ids)
            ledger.write_runs([Result(found, kept, {})])
            ledger.use_run(f"s-{method}", "report", 0, seed, found.fingerprint)
    return summarise(ledger, "ablation")


def run(name: str, metric: str, score: float) -> Record:
    inputs = {"evaluation": [["validation", "sha"], ["other", "sha"]]}
    return record(name, score, metric, inputs=inputs)


def logits(predicted: np.ndarray, metric: str) -> np.ndarray:
    if metric == "pearson":
        return predicted.astype(np.float32)[:, None]
    return np.eye(2, dtype=np.float32)[predicted.astype(int)]


def found_in(ledger: Ledger, answers: Answers, metric: str = "accuracy") -> ExampleTests:
    return example_tests(StoredAnswers(ledger), ablation(ledger, answers, metric))


def test_each_seed_is_tested_on_its_own(ledger: Ledger) -> None:
    """With seed 1 alp alone is right on five examples, with seed 2 each is on two, the others both."""
    answers = {
        "kd": {1: right(4), 2: right(8), 3: right(5)},
        "alp": {1: right(9), 2: right(8, first=2)},
    }
    found = found_in(ledger, answers)
    (pair,) = found.pairs
    assert (pair.method, pair.baseline, pair.metric) == ("alp", "kd", "accuracy")
    assert (pair.examples, pair.seeds) == (10, (1, 2))
    counts = [(t.both_right, t.method_only, t.baseline_only, t.neither_right) for t in pair.mcnemar]
    assert counts == [(4, 5, 0, 1), (6, 2, 2, 0)]
    assert [t.p_value for t in pair.mcnemar] == pytest.approx([2 / 32, 1])
    assert [t.mid_p_value for t in pair.mcnemar] == pytest.approx([1 / 32, 1])
    assert [drawn.mean for drawn in pair.bootstraps] == pytest.approx([0.5, 0])
    assert (found.methods, found.problems) == ((), {})


def test_the_bootstrap_is_that_of_each_seed_alone(ledger: Ledger) -> None:
    answers = {"kd": {1: right(4), 2: right(8)}, "alp": {1: right(9), 2: right(8, first=2)}}
    (pair,) = found_in(ledger, answers, "matthews").pairs
    for seed, drawn in zip(pair.seeds, pair.bootstraps, strict=True):
        predictions = [answers[name][seed][None] for name in ("alp", "kd")]
        generator = np.random.default_rng(0)
        ((alone,),) = examples_bootstraps_per_seed(
            "matthews", predictions, [(0, 1)], LABELS, generator
        )
        assert (drawn.low, drawn.high) == pytest.approx((alone.low, alone.high))
        assert drawn.mean == pytest.approx(alone.mean)
        assert (drawn.confidence, drawn.resamples) == (0.95, 2000)


def test_scores_of_a_regression_are_neither_right_nor_wrong(ledger: Ledger) -> None:
    noise = np.linspace(-1, 1, 10) ** 2
    kd, alp = {1: LABELS + 2 * noise}, {1: LABELS + noise}
    found = found_in(ledger, {"kd": kd, "alp": alp, "pkd": kd}, "pearson")
    alp_pair, pkd_pair = found.pairs
    assert alp_pair.mcnemar == ()
    expected = np.corrcoef(LABELS, alp[1])[0, 1] - np.corrcoef(LABELS, kd[1])[0, 1]
    assert alp_pair.bootstraps[0].mean == pytest.approx(expected, abs=1e-6)
    assert (pkd_pair.bootstraps[0].low, pkd_pair.bootstraps[0].high) == (0, 0)
    assert found.methods == ()


def test_cochrans_q_is_over_all_methods_by_seed(ledger: Ledger) -> None:
    """All, the first half and none right: Q = 2 (3 (10² + 5²) - 15²) / (3 * 15 - (5 * 4 + 5)) = 15."""
    answers = {
        "kd": {1: right(0), 2: right(7)},
        "alp": {1: right(10), 2: right(7)},
        "pkd": {1: right(5), 2: right(7), 3: right(7)},
    }
    (found,) = found_in(ledger, answers).methods
    assert (found.task, found.methods, found.examples) == ("rte", ("kd", "alp", "pkd"), 10)
    assert found.seeds == (1, 2)
    assert [test.right_counts for test in found.cochran] == [(0, 10, 5), (7, 7, 7)]
    assert [test.q for test in found.cochran] == pytest.approx([15, 0])
    assert [test.discordant_examples for test in found.cochran] == [10, 0]


def test_methods_without_a_seed_in_common_have_no_q(ledger: Ledger) -> None:
    answers = {"kd": {1: right(4)}, "alp": {1: right(4)}, "pkd": {2: right(4)}}
    found = found_in(ledger, answers)
    assert [pair.method for pair in found.pairs] == ["alp"]
    assert found.methods == ()


def test_what_has_no_predictions_is_told(ledger: Ledger) -> None:
    answers = {"kd": {1: right(4)}, "alp": {1: right(6)}, "pkd": {1: None}}
    found = found_in(ledger, answers)
    assert [pair.method for pair in found.pairs] == ["alp"]
    assert found.problems == {"rte": ("pkd: not all runs have stored predictions",)}


def test_other_examples_are_not_compared(ledger: Ledger) -> None:
    answers = {"kd": {1: right(4)}, "alp": {1: right(6)}}
    found = example_tests(StoredAnswers(ledger), ablation(ledger, answers, moved="alp"))
    assert found.pairs == ()
    assert found.problems == {"rte": ("alp: evaluated on other examples than the methods before",)}


def test_repeats_have_it_in_their_own_reports(ledger: Ledger) -> None:
    result = ablation(ledger, {"kd": {1: right(4)}, "alp": {1: right(6)}})
    repeated = replace(result, manifest=replace(result.manifest, repeats=("x", "y")))
    found = example_tests(StoredAnswers(ledger), repeated)
    assert found.pairs == ()
    assert found.problems["rte"] == tuple(
        f"{method}: see the report of each repeat" for method in ("kd", "alp")
    )


def test_nothing_finished_is_nothing_to_say(ledger: Ledger) -> None:
    assert found_in(ledger, {"kd": {}, "alp": {}}) == ExampleTests((), (), {})
