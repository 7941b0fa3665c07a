"""The table of metrics: scores and resampled forms against scikit-learn and scipy, and a new row."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from harness import metric_table
from harness.analysis.compare import summarise
from harness.compose import compose_config
from harness.errors import ConfigError
from harness.metric_table import METRICS, Metric, Score, default_margins, one_by_one
from harness.stats.tuned_examples import TunedInterval
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main
from tests.harness.data.test_custom_tasks import YAML, jobs, small_jobs
from tests.harness.metric_kinds import CLASS_METRICS, MULTICLASS_METRICS, SCORE_METRICS

VALUES = (0.0, 1.0, 1.0, 0.0, 1.0, 0.0), (0.0, 1.0, 0.0, 0.0, 1.0, 1.0), (0.0,) * 6, (1.0,) * 6
"""Labels, and predictions in another order; the last two are constant."""


@dataclass(frozen=True)
class Reference:
    """A library's function of a metric, and for how many of the 16 pairs of `VALUES` it is undefined."""

    score: Score
    undefined: int


REFERENCE = {
    "accuracy": Reference(sklearn.metrics.accuracy_score, undefined=0),
    "f1": Reference(sklearn.metrics.f1_score, undefined=1),
    "matthews": Reference(sklearn.metrics.matthews_corrcoef, undefined=12),
    "pearson": Reference(lambda labels, p: scipy.stats.pearsonr(labels, p)[0], undefined=12),
    "spearman": Reference(lambda labels, p: scipy.stats.spearmanr(labels, p)[0], undefined=12),
}
CORRELATIONS = [
    name for name in SCORE_METRICS if METRICS[name].is_undefined is metric_table._constant
]


def draw(examples: int, resamples: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Drawn positions (resamples, examples) and their counts, of the same shape."""
    drawn = np.random.default_rng(0).integers(examples, size=(resamples, examples))
    return drawn, np.array([np.bincount(row, minlength=examples) for row in drawn], dtype=float)


def check(name: str, labels: np.ndarray, predictions: np.ndarray) -> None:
    drawn, counts = draw(len(labels))
    score = REFERENCE[name].score
    expected = [[score(labels[d], p[d]) for p in predictions] for d in drawn]
    scores = METRICS[name].resample(labels, predictions, counts)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)


def test_every_metric_has_a_reference() -> None:
    assert METRICS.keys() == REFERENCE.keys(), "each metric needs one entry of REFERENCE"


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_classes(name: str) -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(2, size=60)
    predictions = np.where(generator.random((3, 60)) < 0.8, labels, 1 - labels)
    check(name, labels, predictions)


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_counts_are_the_same_in_single_precision(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(4)
    labels = generator.integers(2, size=3000)
    predictions = np.where(generator.random((3, 3000)) < 0.8, labels, 1 - labels)
    _, counts = draw(len(labels))
    single = METRICS[name].resample(labels, predictions, counts)
    monkeypatch.setattr(metric_table, "LARGEST_SINGLE", 0)
    np.testing.assert_array_equal(METRICS[name].resample(labels, predictions, counts), single)


@pytest.mark.parametrize("name", MULTICLASS_METRICS)
def test_three_classes(name: str) -> None:
    generator = np.random.default_rng(2)
    check(name, generator.integers(3, size=60), generator.integers(3, size=(3, 60)))


@pytest.mark.parametrize("name", SCORE_METRICS)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_values(name: str, offset: float) -> None:
    generator = np.random.default_rng(3)
    labels = generator.normal(size=60)
    predictions = (offset + labels + generator.normal(size=(3, 60))).astype(np.float32)
    check(name, labels, predictions)


@pytest.mark.parametrize("name", SCORE_METRICS)
def test_values_with_ties(name: str) -> None:
    generator = np.random.default_rng(4)
    check(name, generator.integers(6, size=60), generator.integers(4, size=(3, 60)))


@pytest.mark.parametrize("name", METRICS)
def test_the_score_is_the_reference_where_that_is_defined_and_else_zero(name: str) -> None:
    metric, generator = METRICS[name], np.random.default_rng(6)
    undefined = 0
    for labels in map(np.array, VALUES):
        for predictions in map(generator.permutation, VALUES):
            score = metric.score(labels, predictions)
            if metric.is_undefined(labels, predictions):
                undefined += 1
                assert score == 0
            else:
                expected = REFERENCE[name].score(labels, predictions)
                assert score == pytest.approx(expected, rel=1e-12, abs=1e-12)
            resampled = metric.resample(labels, predictions[None], np.ones((1, 6)))
            np.testing.assert_allclose(resampled, [[score]], rtol=1e-9, atol=1e-12)
    assert undefined == REFERENCE[name].undefined, (
        f"{name} is undefined for {undefined} of 16 pairs, and REFERENCE says for how many it should be"
    )


def test_a_margin_overrides_its_default_alone_and_is_of_a_metric() -> None:
    asked = ["methods=[alp]", "tasks=[rte]"]
    config = compose_config([*asked, "protocol.margins.accuracy=0.02"])
    assert config.protocol.margins == {**default_margins(), "accuracy": 0.02}
    refused = f"protocol.margins: unknown metric 'acuracy'; known are {', '.join(METRICS)}$"
    with pytest.raises(ConfigError, match=refused):
        compose_config([*asked, "protocol.margins.acuracy=0.02"])
    for name, margin in default_margins().items():  # no default is one that an override may not be
        assert compose_config([*asked, f"protocol.margins.{name}={margin}"]).protocol.margins


def balanced(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean over the classes of the share that is right."""
    return float(np.mean([(predictions[labels == c] == c).mean() for c in np.unique(labels)]))


def test_a_metric_is_one_row(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is scored, selected by, compared within its margin, resampled, and named in model cards."""
    row = Metric(
        name="balanced",
        labels="classes",
        margin=0.4,
        hub_name="balanced_accuracy",
        statistic=balanced,
        is_undefined=lambda labels, predictions: False,
        resample=one_by_one(balanced),
    )
    monkeypatch.setitem(METRICS, "balanced", row)
    task = jobs(tmp_path / "data", text=YAML.replace("[f1, accuracy]", "[balanced, accuracy]"))
    more = ("--method", "alp,kd", "--baseline", "kd", "--keep", "best")
    out = tmp_path / "runs"
    assert main(small_jobs(out, task, tiny_encoder, *more)) == 0
    summary = json.loads(capsys.readouterr().out)
    ledger = Ledger(storage_url(out, None))
    result = summarise(ledger, summary["ablation"])
    for found in result.results:
        assert found.metric == "balanced"
        for run in found.report:
            stored = ledger.predictions(run.record.fingerprint, "validation")
            assert stored is not None
            score = balanced(stored.labels, stored.logits.argmax(axis=1))
            assert run.record.metrics["balanced"] == score
    ledger.close()
    (comparison,) = result.comparisons
    assert (comparison.metric, comparison.margin) == ("balanced", 0.4)
    interval = comparison.over_examples
    assert isinstance(interval, TunedInterval)
    assert interval.examples.undefined_resamples == 0
    assert interval.low <= comparison.difference.mean <= interval.high
    cards = [card.read_text() for card in out.glob("students/*/*/README.md")]
    assert len(cards) == 2
    assert all("type: balanced_accuracy" in card for card in cards)


def test_a_collapsed_student_scores_zero() -> None:
    labels, predictions = np.array([0, 1, 1, 0]), np.zeros((1, 4))
    counts = np.ones((1, 4))
    assert METRICS["matthews"].resample(labels, predictions, counts) == 0
    assert METRICS["f1"].resample(np.zeros(4), predictions, counts) == 0


def test_one_class_everywhere_scores_zero_for_every_run() -> None:
    scores = METRICS["matthews"].resample(np.zeros(4), np.zeros((2, 4)), np.ones((3, 4)))
    assert scores.tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("name", CORRELATIONS)
def test_correlations_of_constant_values_are_zero(name: str) -> None:
    labels = np.array([0.1, 0.7, 0.7, 0.2])
    predictions = np.array([[0.3, 0.1, 0.9, 0.4], [0.1, 0.1, 0.1, 0.1]])
    counts = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 3.0, 0.0]])
    zero = METRICS[name].resample(labels, predictions, counts) == 0
    np.testing.assert_array_equal(zero, [[False, True], [True, True]])
    assert METRICS[name].score(labels, predictions[1]) == 0


@pytest.mark.parametrize("name", CORRELATIONS)
def test_constant_values_are_found_despite_rounding(name: str) -> None:
    generator = np.random.default_rng(5)
    labels = generator.normal(size=60)
    predictions = np.where(np.arange(60) < 40, 0.1, labels)[None]
    counts = np.where(np.arange(60) < 40, generator.integers(1, 5, size=(50, 60)), 0.0)
    assert (METRICS[name].resample(labels, predictions, counts) == 0).all()
