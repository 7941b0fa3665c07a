"""Metrics of resamples, against scikit-learn and scipy on the drawn examples."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from harness.data.scores import METRICS
from harness.stats import metrics
from harness.stats.metrics import RESAMPLED

REFERENCE = {
    "accuracy": sklearn.metrics.accuracy_score,
    "f1": sklearn.metrics.f1_score,
    "matthews": sklearn.metrics.matthews_corrcoef,
    "pearson": lambda labels, predictions: scipy.stats.pearsonr(labels, predictions)[0],
    "spearman": lambda labels, predictions: scipy.stats.spearmanr(labels, predictions)[0],
}


def draw(examples: int, resamples: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Drawn positions (resamples, examples) and their counts, of the same shape."""
    drawn = np.random.default_rng(0).integers(examples, size=(resamples, examples))
    return drawn, np.array([np.bincount(row, minlength=examples) for row in drawn], dtype=float)


def check(name: str, labels: np.ndarray, predictions: np.ndarray) -> None:
    drawn, counts = draw(len(labels))
    expected = [[REFERENCE[name](labels[d], p[d]) for p in predictions] for d in drawn]
    scores = RESAMPLED[name](labels, predictions, counts)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)


def test_every_metric_has_a_reference() -> None:
    assert RESAMPLED.keys() == REFERENCE.keys()


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews"])
def test_classes(name: str) -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(2, size=60)
    predictions = np.where(generator.random((3, 60)) < 0.8, labels, 1 - labels)
    check(name, labels, predictions)


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews"])
def test_counts_are_the_same_in_single_precision(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(4)
    labels = generator.integers(2, size=3000)
    predictions = np.where(generator.random((3, 3000)) < 0.8, labels, 1 - labels)
    _, counts = draw(len(labels))
    single = RESAMPLED[name](labels, predictions, counts)
    monkeypatch.setattr(metrics, "EXACT", 0)
    np.testing.assert_array_equal(RESAMPLED[name](labels, predictions, counts), single)


@pytest.mark.parametrize("name", ["accuracy", "matthews"])
def test_three_classes(name: str) -> None:
    generator = np.random.default_rng(2)
    check(name, generator.integers(3, size=60), generator.integers(3, size=(3, 60)))


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_values(name: str, offset: float) -> None:
    generator = np.random.default_rng(3)
    labels = generator.normal(size=60)
    predictions = (offset + labels + generator.normal(size=(3, 60))).astype(np.float32)
    check(name, labels, predictions)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_values_with_ties(name: str) -> None:
    generator = np.random.default_rng(4)
    check(name, generator.integers(6, size=60), generator.integers(4, size=(3, 60)))


def test_a_collapsed_student_scores_zero() -> None:
    labels, predictions = np.array([0, 1, 1, 0]), np.zeros((1, 4))
    counts = np.ones((1, 4))
    assert RESAMPLED["matthews"](labels, predictions, counts) == 0
    assert RESAMPLED["f1"](np.zeros(4), predictions, counts) == 0


def test_one_class_everywhere_scores_zero_for_every_run() -> None:
    scores = RESAMPLED["matthews"](np.zeros(4), np.zeros((2, 4)), np.ones((3, 4)))
    assert scores.tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_correlations_of_constant_values_are_zero(name: str) -> None:
    labels = np.array([0.1, 0.7, 0.7, 0.2])
    predictions = np.array([[0.3, 0.1, 0.9, 0.4], [0.1, 0.1, 0.1, 0.1]])
    counts = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 3.0, 0.0]])
    zero = RESAMPLED[name](labels, predictions, counts) == 0
    np.testing.assert_array_equal(zero, [[False, True], [True, True]])
    assert METRICS[name](labels, predictions[1]) == 0


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_constant_values_are_found_despite_rounding(name: str) -> None:
    generator = np.random.default_rng(5)
    labels = generator.normal(size=60)
    predictions = np.where(np.arange(60) < 40, 0.1, labels)[None]
    counts = np.where(np.arange(60) < 40, generator.integers(1, 5, size=(50, 60)), 0.0)
    assert (RESAMPLED[name](labels, predictions, counts) == 0).all()
