"""From records to verdicts: which runs count, in what family, at what level."""

import threading
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from harness.analysis import pair_bootstraps
from harness.analysis.answers import StoredAnswers
from harness.analysis.compare import AblationResult, collapses, summarise, summarising
from harness.metric_table import metric_of
from harness.stats import holm
from harness.stats.power import detectable_difference
from harness.storage.ledger import Ledger
from harness.storage.record import Predictions, Result, Role
from tests.manifests import STUDY, manifest
from tests.records import record

SEEDS = list(range(100, 110))
LABELS = np.array([0.0, 1.0] * 20)


def predictions(score: float) -> Predictions:
    """Logits of which that share of the first examples is right."""
    right = np.arange(len(LABELS)) < round(score * len(LABELS))
    chosen = np.where(right, LABELS, 1 - LABELS).astype(int)
    return Predictions(np.eye(2, dtype=np.float32)[chosen], LABELS, np.arange(len(LABELS)))


def compared(
    ledger: Ledger,
    report: Mapping[str, Mapping[int, float | None]],
    family: list[tuple[str, str]],
    alpha: float = 0.05,
) -> AblationResult:
    """The result for report scores by method and seed; a method with none never finished."""
    methods = sorted({name for pair in family for name in pair})
    ledger.write_ablation(
        manifest(
            studies={"rte": {method: f"s-{method}" for method in methods}},
            trials=2,
            report_seeds=SEEDS,
            alpha=alpha,
            family=[["rte", *pair] for pair in family],
        )
    )
    for method in methods:
        study = f"s-{method}"
        ledger.write_study(study, STUDY)
        runs: list[tuple[Role, int, int, float | None]] = [
            ("search", 0, 0, 0.5),
            ("search", 1, 0, 0.5),
            ("search", 2, 0, 0.9),  # more trials than the manifest counts
            ("report", 1, SEEDS[0], 0.0),  # of a setting that is not the best
            ("report", 0, 999, 0.0),  # of a seed that was not asked for
        ]
        runs += [("report", 0, seed, score) for seed, score in report.get(method, {}).items()]
        for role, trial, seed, score in runs:
            name = f"{method}-{role}-{trial}-{seed}"
            kept = {} if role == "search" or score is None else {"validation": predictions(score)}
            ledger.write_runs([Result(record(name, score), kept, {})])
            ledger.use_run(study, role, trial, seed, name)
    return summarise(ledger, "ablation")


def constant_at(result: AblationResult, score: float) -> AblationResult:
    """The result where a constant prediction scores that."""
    task = replace(result.manifest.tasks["rte"], constant=score)
    return replace(result, manifest=replace(result.manifest, tasks={"rte": task}))


def spread(low: float, step: float = 0.025) -> dict[int, float | None]:
    return {seed: low + step * (number % 4) for number, seed in enumerate(SEEDS)}


def test_the_best_setting_and_the_seeds_asked_for_are_compared(ledger: Ledger) -> None:
    result = compared(ledger, {"alp": spread(0.8), "kd": spread(0.5)}, [("alp", "kd")])
    (comparison,) = result.comparisons
    assert [found.best_trial for found in result.results] == [0, 0]
    assert comparison.seeds == tuple(SEEDS)
    assert comparison.difference.mean == pytest.approx(0.3)
    assert comparison.difference.p_value == pytest.approx(2 / 2**10)
    assert comparison.verdict.outcome == "better"


def test_a_comparison_without_data_still_counts_in_the_family(ledger: Ledger) -> None:
    scores = {"alp": spread(0.8), "pkd": spread(0.55), "kd": spread(0.5)}
    family = [("alp", "kd"), ("never", "kd"), ("pkd", "kd")]
    result = compared(ledger, scores, family)
    assert [c.method for c in result.comparisons] == ["alp", "pkd"]
    raw = [c.difference.p_value for c in result.comparisons]
    assert [c.detectable_difference for c in result.comparisons] == [
        None,
        None,
    ]  # differences all equal
    adjusted = [c.adjusted_p for c in result.comparisons]
    assert adjusted == pytest.approx(holm([*raw, 1.0])[:2])
    assert adjusted != pytest.approx(holm(raw))
    assert result.gaps == ("never against kd on rte: no pair of finished report runs",)


def test_what_so_many_seeds_can_find_is_told_at_the_familys_level(ledger: Ledger) -> None:
    ours = {seed: 0.6 + 0.025 * (seed % 3) for seed in SEEDS}
    family = [("alp", "kd"), ("never", "kd"), ("nor", "kd")]
    (comparison,) = compared(ledger, {"alp": ours, "kd": spread(0.5)}, family).comparisons
    expected = detectable_difference(comparison.difference.sd, 10, 0.05 / 3)
    assert comparison.detectable_difference == pytest.approx(expected)
    assert 0 < expected < 0.2


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("size", [1, 3, 60])
def test_the_crossed_interval_is_at_the_familys_level(
    ledger: Ledger, alpha: float, size: int
) -> None:
    """However large the family, enough resamples lie outside the interval."""
    family = [("alp", "kd"), *[(f"never{number}", "kd") for number in range(size - 1)]]
    result = compared(ledger, {"alp": spread(0.8), "kd": spread(0.5)}, family, alpha)
    crossed = result.comparisons[0].over_examples
    assert crossed is not None
    assert crossed.confidence == pytest.approx(1 - alpha / size)
    assert crossed.resamples * (1 - crossed.confidence) / 2 >= 9.99
    assert crossed.low < 0.3 < crossed.high


def test_an_unfinished_search_is_compared_with_none(ledger: Ledger) -> None:
    """A later command asked for more trials, and only one method has them yet."""
    compared(ledger, {"alp": spread(0.8), "kd": spread(0.5)}, [("alp", "kd")])
    once = ledger.manifest("ablation")
    assert len(summarise(ledger, "ablation").comparisons) == 1
    for number in range(2):  # the second search seed of kd's two trials
        ledger.write_runs([Result(record(f"more-{number}", 0.5), {}, {})])
        ledger.use_run("s-kd", "search", number, 1, f"more-{number}")
    ledger.write_ablation(replace(once, search_seeds=(0, 1)))
    result = summarise(ledger, "ablation")
    assert result.comparisons == ()
    assert result.gaps == ("alp against kd on rte: 0 of 2 search trials of alp have ended",)
    ledger.write_ablation(once)
    assert len(summarise(ledger, "ablation").comparisons) == 1


def test_runs_that_score_what_a_constant_does_are_told(ledger: Ledger) -> None:
    """Two methods that have learned nothing are equivalent, and that is not all there is to say."""
    scores = {"alp": dict.fromkeys(SEEDS, 0.5), "kd": dict.fromkeys(SEEDS, 0.5) | {SEEDS[0]: 0.51}}
    result = compared(ledger, scores, [("alp", "kd")])
    assert collapses(constant_at(result, 0.4)) == []
    assert collapses(constant_at(result, 0.5)) == [
        f"{name} on rte: {count} of 10 report runs score exactly what a constant prediction does: "
        "they have learned nothing"
        for name, count in (("alp", 10), ("kd", 9))
    ]


def test_failed_seeds_are_left_out_and_keep_their_method_from_winning(ledger: Ledger) -> None:
    ours = spread(0.8) | {SEEDS[2]: None, SEEDS[5]: None}
    theirs = spread(0.5) | {SEEDS[5]: None}
    (comparison,) = compared(ledger, {"alp": ours, "kd": theirs}, [("alp", "kd")]).comparisons
    assert len(comparison.seeds) == 8
    assert comparison.unpaired_seeds == (SEEDS[2],)
    assert comparison.adjusted_p < 0.05
    assert comparison.verdict.outcome == "not decided"
    assert "1 seed left out as alp's run failed" in comparison.verdict.sentence


def test_a_constant_regressor_is_compared_by_its_recorded_score(ledger: Ledger) -> None:
    """Pearson of a constant prediction is recorded as 0; the bootstrap must not refuse it."""
    result = compared(ledger, {"alp": spread(0.8), "kd": spread(0.5)}, [("alp", "kd")])
    task = replace(result.manifest.tasks["rte"], labels=(), metrics=("pearson",))
    ledger.write_ablation(replace(result.manifest, name="regression", tasks={"rte": task}))
    for method, flat in (("alp", False), ("kd", True)):
        for run in ledger.study_runs(f"s-{method}"):
            name, kept = f"p-{run.record.fingerprint}", {}
            values = np.zeros(40) if flat and run.seed == SEEDS[0] else LABELS
            if run.role == "report":
                logits = values.astype(np.float32)[:, None]
                kept = {"validation": Predictions(logits, LABELS, np.arange(40))}
            score = 0.0 if values is not LABELS else 1.0
            ledger.write_runs([Result(record(name, score, "pearson"), kept, {})])
            ledger.use_run(f"s-{method}", run.role, run.trial, run.seed, name)
    (comparison,) = summarise(ledger, "regression").comparisons
    assert comparison.over_examples is not None
    assert comparison.over_examples.mean == pytest.approx(0.1)


def written(ledger: Ledger, metric: str, answers: Mapping[str, list[float]]) -> AblationResult:
    """The result of ten seeds of each method, with these answers to eight examples at every seed."""
    labels = np.array([0.0, 1, 0, 1, 0, 1, 0, 1])
    ledger.write_ablation(
        manifest(
            studies={"rte": {method: f"s-{method}" for method in answers}},
            tasks={
                "rte": {"metrics": [metric], "labels": [] if metric == "pearson" else ["a", "b"]}
            },
            trials=1,
            report_seeds=SEEDS,
            family=[["rte", "alp", "kd"]],
        )
    )
    for method, values in answers.items():
        ledger.write_study(f"s-{method}", STUDY)
        logits = np.array(values, np.float32)[:, None]
        if metric != "pearson":
            logits = np.hstack([1 - logits, logits])
        stored = Predictions(logits, labels, np.arange(8))
        score = metric_of(metric).score(labels, np.array(values))
        ledger.write_runs([Result(record(f"{method}-search", 0.5, metric), {}, {})])
        ledger.use_run(f"s-{method}", "search", 0, 0, f"{method}-search")
        for seed in SEEDS:
            run = record(f"{method}-{seed}", score, metric)
            ledger.write_runs([Result(run, {"validation": stored}, {})])
            ledger.use_run(f"s-{method}", "report", 0, seed, f"{method}-{seed}")
    return summarise(ledger, "ablation")


@pytest.mark.parametrize("metric", ["matthews", "pearson"])
def test_a_metric_that_is_undefined_for_all_runs_decides_nothing(
    ledger: Ledger, metric: str
) -> None:
    result = written(ledger, metric, {"alp": [1.0] * 8, "kd": [0.0] * 8})
    assert [found.mean for found in result.results] == [0.0, 0.0]
    assert result.comparisons == ()
    (gap,) = result.gaps
    assert gap.startswith("alp against kd on rte: no comparison")
    assert f"{metric} is undefined there" in gap


@pytest.mark.parametrize("metric", ["matthews", "pearson", "accuracy"])
def test_one_side_that_collapsed_is_compared(ledger: Ledger, metric: str) -> None:
    result = written(ledger, metric, {"alp": [0.0, 1] * 4, "kd": [0.0] * 8})
    (comparison,) = result.comparisons
    assert comparison.verdict.outcome == "better"


def test_accuracy_of_one_answer_is_defined(ledger: Ledger) -> None:
    (comparison,) = written(ledger, "accuracy", {"alp": [1.0] * 8, "kd": [0.0] * 8}).comparisons
    assert comparison.difference.mean == 0.0


def test_intervals_over_examples_are_computed_beside_the_block(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"alp": dict.fromkeys(SEEDS, 0.9), "kd": dict.fromkeys(SEEDS, 0.8)}
    settled = compared(ledger, scores, [("alp", "kd")])
    may_end, run_bootstraps = threading.Event(), pair_bootstraps._run_bootstraps

    def held(*arguments: object) -> object:
        assert may_end.wait(60)
        return run_bootstraps(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pair_bootstraps, "_run_bootstraps", held)
    with summarising(ledger, "ablation", StoredAnswers(ledger)) as summary:
        (draft,) = summary.draft.comparisons
        may_end.set()
        assert summary.result.settled() == settled
    (comparison,) = settled.comparisons
    assert comparison.over_examples is not None
    assert draft.over_examples is None
    assert draft.verdict != comparison.verdict
    assert replace(draft, over_examples=comparison.over_examples, verdict=comparison.verdict) == (
        comparison
    )


def test_no_draws_begin_after_an_exception_in_the_block(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {name: dict.fromkeys(SEEDS, 0.8) for name in ("alp", "kd", "pkd", "rail")}
    for place, name in enumerate(runs):  # each pair has seeds, and so draws, of its own
        del runs[name][SEEDS[place]]
    compared(ledger, runs, [(name, "kd") for name in ("alp", "pkd", "rail")])
    begun, may_end = [], threading.Event()

    def held(pairs: object, *_: object) -> object:
        begun.append(pairs)
        assert may_end.wait(60)
        return ()

    monkeypatch.setattr(pair_bootstraps, "_run_bootstraps", held)
    monkeypatch.setattr(pair_bootstraps, "GROUPS", 1)

    def fail() -> None:
        with summarising(ledger, "ablation", StoredAnswers(ledger)):
            threading.Timer(0.1, may_end.set).start()
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        fail()
    assert len(begun) <= 1
