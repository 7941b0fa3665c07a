"""Data whose scores would say nothing are refused, and what is left of them is counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.config import ChecksConfig, ProtocolConfig, SourceConfig
from harness.data.checks import check_data
from harness.data.sources import load_task_data
from harness.data.splits import Split, TaskData
from harness.data.tasks import load_task, read_task
from harness.errors import DataError, UserError
from harness.study import main

Texts = Sequence[tuple[str, ...]]
YAML = """\
title: Films
labels: [bad, good]
metrics: [accuracy]
evaluation: {validation: dev.tsv}
folder: {columns: [sentence], label: label}
"""


def data_of(train: Texts, selection: Texts, evaluation: Texts, task: str = "sst2") -> TaskData:
    """Splits with these texts, and labels of both kinds in turn."""
    splits = [Split(t, np.arange(len(t)) % 2, np.arange(len(t))) for t in (train, selection)]
    validation = Split(evaluation, np.arange(len(evaluation)) % 2, np.arange(len(evaluation)))
    return TaskData(load_task(task), *splits, {"validation": validation})


def numbered(start: int, stop: int) -> list[tuple[str, ...]]:
    return [(f"Film {number}",) for number in range(start, stop)]


def test_duplicates_are_counted_by_hand() -> None:
    evaluation = [("film  1",), (" FILM\t11 ",), ("film 1 1",), ("film 99",), ("film 1",)]
    data = data_of(numbered(0, 10), [*numbered(8, 9), *numbered(11, 14)], evaluation)
    # Film 1 twice from the training split, film 11 from the selection split; film 8 trains and selects.
    assert data.duplicates == {"selection": 1, "validation": 3}


def test_pairs_are_duplicates_in_their_order_alone() -> None:
    evaluation = [("a", "b"), ("b", "a"), ("a b", ""), ("", "a b")]
    assert data_of([("a", "b")], [], evaluation, "rte").duplicates["validation"] == 1


def test_a_selection_on_the_reported_split_is_no_training_file() -> None:
    data = data_of(numbered(0, 10), [], numbered(9, 19))
    paper = TaskData(data.task, data.train, data.evaluation["validation"], data.evaluation)
    assert paper.duplicates == {"selection": 1, "validation": 1}


@pytest.mark.parametrize(
    ("common", "limit", "is_refused"), [(1, 0.1, False), (2, 0.1, True), (9, 0.9, False)]
)
def test_the_share_of_duplicates_is_limited(
    capsys: pytest.CaptureFixture[str], common: int, limit: float, is_refused: bool
) -> None:
    data = data_of(numbered(0, 10), numbered(20, 30), numbered(10 - common, 20 - common))
    sentence = f"sst2: {common} of the 10 examples of the split 'validation' ({common}0.0 %) have"
    if is_refused:
        with pytest.raises(DataError, match=re.escape(sentence)) as caught:
            check_data(data, ChecksConfig(most_duplicates=limit))
        assert "checks.most_duplicates=0.2" in str(caught.value)
        check_data(data, ChecksConfig(most_duplicates=0.2))
    else:
        check_data(data, ChecksConfig(most_duplicates=limit))
    assert sentence in capsys.readouterr().err


def test_duplicates_in_the_selection_split_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    check_data(data_of(numbered(0, 10), numbered(6, 14), numbered(20, 30)), ChecksConfig())
    sentence = "sst2: 4 of the 8 examples of the split 'selection' (50.0 %) have the texts of"
    assert sentence in capsys.readouterr().err
    data = data_of(numbered(0, 20), [], numbered(19, 29))
    paper = TaskData(data.task, data.train, data.evaluation["validation"], data.evaluation)
    check_data(paper, ChecksConfig())  # the reported split selects
    assert capsys.readouterr().err.count("examples of the split") == 1


@pytest.mark.parametrize(
    ("texts", "labels", "task", "is_refused"),
    [
        (["bad", "good"] * 3, [0, 1] * 3, "sst2", True),
        (["bad", "good"] * 3, [0, 1, 1, 1, 0, 1], "sst2", False),
        (["one film"] * 6, [0, 1] * 3, "sst2", False),
        (["1", "2.5", "0.300"], [1.0, 2.5, 0.3], "stsb", True),
        (["1", "2.5", "0.4"], [1.0, 2.5, 0.3], "stsb", False),
    ],
)
def test_a_column_of_labels_is_no_text(
    texts: list[str], labels: list[float], task: str, is_refused: bool
) -> None:
    kind = np.float32 if task == "stsb" else np.int64
    rows = [(f"a film {n}", text) for n, text in enumerate(texts)]
    train = Split(rows, np.array(labels, kind), np.arange(len(rows)))
    data = TaskData(load_task(task), train, data_of([], numbered(0, 2), []).selection, {"v": train})
    if is_refused:
        with pytest.raises(DataError, match=f"^{task}: column 2 of the texts holds the label"):
            check_data(data, ChecksConfig(most_duplicates=1.0))
    else:
        check_data(data, ChecksConfig(most_duplicates=1.0))


def write_task(folder: Path, yaml: str, train: str, dev: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.tsv").write_text(train)
    (folder / "dev.tsv").write_text(dev)
    (folder / "films.yaml").write_text(yaml)
    return folder / "films.yaml"


def rows(start: int, stop: int) -> str:
    labels = ("bad", "good")
    lines = [f"film {number}\t{labels[number % 2]}" for number in range(start, stop)]
    return "\n".join(["sentence\tlabel", *lines]) + "\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("dev.tsv", "train.tsv"), "300 of the 300 examples of the split 'validation' (100.0 %)"),
        (("[sentence]", "[sentence, label]"), "columns: the label's column cannot be a text"),
        (("[sentence]", "[sentence, 1]"), "the columns 1 and label are the same one"),
    ],
)
def test_a_command_refuses_such_a_task_in_one_line(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    message: str,
) -> None:
    task = write_task(tmp_path, YAML.replace(*change), rows(0, 300), rows(300, 330))
    base = ["--preset", "minilm", "--method", "kd", "--out", str(tmp_path / "runs")]
    command = [*base, "--task", str(task), f"teacher.pretrained={tiny_encoder}"]
    assert main([*command, "--dry-run"]) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error


def test_the_real_tasks_are_taken(glue_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = SourceConfig(kind="folder", folder=str(glue_folder))
    counts = {}
    for name in ("rte", "mrpc", "cola", "stsb"):
        data = load_task_data(load_task(name), source, ProtocolConfig())
        check_data(data, ChecksConfig())
        counts[name] = data.duplicates["validation"]
    # CoLA repeats 16 sentences; grep finds them.
    assert counts == {"rte": 0, "mrpc": 0, "cola": 16, "stsb": 6}


def test_rows_without_a_label_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = rows(0, 250).replace("film 7\tgood", "film 7\t-").replace("film 9\tgood", "film 9\t-1")
    yaml = YAML + 'drop_labels: ["-", -1]\n'
    task = read_task(write_task(tmp_path, yaml, train, rows(300, 330)))
    source = SourceConfig(kind="folder", folder=str(tmp_path))
    data = load_task_data(task, source, ProtocolConfig(name="paper"))
    assert data.train.left_out == 2
    assert data.train.ids.tolist() == [n for n in range(250) if n not in (7, 9)]
    assert data.train.texts[7] == ("film 8",)
    assert data.train.labels.tolist() == [n % 2 for n in data.train.ids.tolist()]
    assert (
        f"{tmp_path / 'train.tsv'}: 2 rows without a label are left out" in capsys.readouterr().err
    )
    clean = load_task_data(task, source, ProtocolConfig())
    assert (clean.train.left_out, clean.selection.left_out) == (2, 0)


def test_a_refused_label_names_the_way_out(tmp_path: Path) -> None:
    task = write_task(
        tmp_path, YAML, rows(0, 250).replace("film 7\tgood", "film 7\t-"), rows(300, 330)
    )
    source = SourceConfig(kind="folder", folder=str(tmp_path))
    with pytest.raises(DataError, match=re.escape('to leave such rows out: drop_labels: ["-"]')):
        load_task_data(read_task(task), source, ProtocolConfig())


def test_a_label_cannot_be_dropped(tmp_path: Path) -> None:
    task = write_task(tmp_path, YAML + "drop_labels: [good]\n", rows(0, 9), rows(0, 9))
    with pytest.raises(UserError, match="drop_labels: one of them is a label"):
        read_task(task)
