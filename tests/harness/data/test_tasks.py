"""The tasks of `studies/task`: every file loads and says what the official task is."""

import numpy as np
import pytest

from harness.data.scores import constant_score, evaluate
from harness.data.tasks import LEFT_OUT, Task, load_task, task_names
from harness.errors import UserError
from harness.metric_table import METRICS

LABELS: dict[str, tuple[str, ...]] = {
    "cola": ("unacceptable", "acceptable"),
    "mnli": ("entailment", "neutral", "contradiction"),
    "mrpc": ("not_equivalent", "equivalent"),
    "qnli": ("entailment", "not_entailment"),
    "qqp": ("not_duplicate", "duplicate"),
    "rte": ("entailment", "not_entailment"),
    "sst2": ("negative", "positive"),
    "stsb": (),
    "wnli": ("not_entailment", "entailment"),
}
"""GLUE's official order, as the hub's data set and published checkpoints have it."""
FIRST = {"cola": "matthews", "stsb": "pearson"}
names = pytest.mark.parametrize("name", task_names())


def test_the_tasks_are_glues() -> None:
    assert task_names() == sorted(LABELS)
    assert LEFT_OUT in task_names()


@names
def test_every_task_loads_with_its_official_labels(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert task.title
    assert task.labels == LABELS[name]
    assert task.regression == (name == "stsb")
    assert task.outputs == (len(LABELS[name]) or 1)
    assert task.scores == ((0.0, 5.0) if name == "stsb" else None)


@names
def test_metrics_are_known_and_the_first_is_the_official_one(name: str) -> None:
    task = load_task(name)
    assert set(task.metrics) <= set(METRICS)
    assert task.metrics[0] == FIRST.get(name, "accuracy")


@names
def test_layouts_name_as_many_texts_in_files_as_on_the_hub(name: str) -> None:
    task = load_task(name)
    assert len(task.folder.columns) == len(task.hub.columns)
    assert len(task.hub.columns) == (1 if name in ("cola", "sst2") else 2)
    assert task.hub.config == name
    assert set(task.folder.words.values()) <= set(task.labels)
    assert len(set(task.folder.words.values())) == len(task.folder.words)
    assert task.folder.header == (name != "cola")


@names
def test_only_mnli_is_evaluated_twice_and_matched_comes_first(name: str) -> None:
    expected = {"validation": "dev.tsv"}
    if name == "mnli":
        expected = {
            "validation_matched": "dev_matched.tsv",
            "validation_mismatched": "dev_mismatched.tsv",
        }
    evaluation = load_task(name).evaluation
    assert list(evaluation.items()) == list(expected.items())


@names
def test_right_outputs_score_one_and_a_constant_no_more_than_its_share(name: str) -> None:
    task: Task = load_task(name)
    rng = np.random.default_rng(0)
    if task.regression:
        labels = rng.uniform(0, 5, 60)
        logits = labels[:, None].astype(np.float32)
    else:
        labels = np.r_[np.arange(task.outputs), rng.integers(0, task.outputs, 60)]
        logits = np.eye(task.outputs, dtype=np.float32)[labels]
    found = evaluate(task, labels, logits)
    assert list(found) == list(task.metrics)
    assert list(found.values()) == pytest.approx([1.0] * len(found))
    constant = constant_score(task, labels, labels)
    if task.metrics[0] == "accuracy":
        assert constant == pytest.approx(np.bincount(labels.astype(np.int64)).max() / len(labels))
    else:
        assert constant == 0.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mprc", "did you mean mrpc"),
        ("sst-2", "did you mean sst2"),
        ("sts-b", "did you mean stsb"),
        ("RTE", "choose from cola, mnli"),
        ("", "choose from cola, mnli"),
        ("../task/rte", "no such task"),
    ],
)
def test_an_unknown_task_is_answered_with_the_nearest_names(given: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_task(given)
    assert str(caught.value).startswith(f"--task {given}: no such task; ")
    assert expected in str(caught.value)
