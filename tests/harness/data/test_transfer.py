"""Unlabelled texts: their files, their draw by a ratio, and what is counted of them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.config import ChecksConfig, SourceConfig, TransferConfig
from harness.data.checks import check_data
from harness.data.splits import Split, TaskData
from harness.data.tasks import Task, load_task, read_task
from harness.data.transfer import read_transfer
from harness.errors import DataError, UserError
from tests.prepared import split

TRAIN = split(40)
PAIRS = [(f"first {number}", f"second {number}") for number in range(100)]
DEMO = SourceConfig()


def write(folder: Path, name: str, rows: Sequence[tuple[str, ...]], header: Sequence[str]) -> Path:
    path = folder / name
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
    elif path.suffix == ".txt":
        lines = [row[0] for row in rows]
    else:
        cut = "\t" if path.suffix == ".tsv" else ","
        lines = [cut.join(cells) for cells in (header, *rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def read(task: Task, path: Path, ratio: float | None = None) -> Split:
    found = read_transfer(task, DEMO, TransferConfig(str(path), ratio), TRAIN)
    assert found is not None
    return found


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_the_columns_are_those_of_the_tasks_own_files(tmp_path: Path, suffix: str) -> None:
    header = ("sentence1", "sentence2")
    found = read(load_task("rte"), write(tmp_path, f"texts.{suffix}", PAIRS, header))
    assert list(found.texts) == PAIRS
    assert np.isnan(found.labels).all()
    assert found.ids.tolist() == list(range(100))


@pytest.mark.parametrize(("task", "column"), [("cola", "sentence"), ("sst2", "sentence")])
def test_single_texts_have_a_column_or_a_line_each(tmp_path: Path, task: str, column: str) -> None:
    rows = [(first,) for first, _ in PAIRS]
    for name in ("texts.tsv", "texts.txt"):
        assert list(read(load_task(task), write(tmp_path, name, rows, (column,))).texts) == rows
    (tmp_path / "lines.txt").write_text("one\r\n\n  \ntwo, three\n")
    assert list(read(load_task(task), tmp_path / "lines.txt").texts) == [("one",), ("two, three",)]


def test_a_ratio_draws_the_same_texts_every_time(tmp_path: Path) -> None:
    path = write(tmp_path, "texts.tsv", PAIRS, ("sentence1", "sentence2"))
    task = load_task("rte")
    half, again, other = (read(task, path, ratio) for ratio in (0.5, 0.5, 2.5))
    assert (len(half), len(other), len(read(task, path))) == (20, 100, 100)
    assert half.sha256 == again.sha256 != other.sha256
    assert half.ids.tolist() == sorted({*half.ids.tolist()}) != list(range(20))
    assert list(half.texts) == [PAIRS[number] for number in half.ids]
    changed = write(tmp_path, "other.tsv", [*PAIRS[:-1], ("a", "b")], ("sentence1", "sentence2"))
    assert read(task, changed, 0.5).sha256 != half.sha256


def custom(folder: Path, **transfer: object) -> Task:
    values = {
        "title": "Jobs",
        "labels": ["no", "yes"],
        "metrics": ["accuracy"],
        "folder": {"columns": [0, 1], "label": 2, "header": False},
        "transfer": transfer,
    }
    path = folder / "jobs.yaml"
    path.write_text(yaml.safe_dump(values))
    return read_task(path)


def test_a_tasks_own_file_describes_its_texts(tmp_path: Path) -> None:
    write(tmp_path, "more.csv", PAIRS, ("question", "answer"))
    task = custom(tmp_path, file="more.csv", columns=["question", "answer"], ratio=1.5)
    source = SourceConfig(kind="folder", folder=str(tmp_path))
    found = read_transfer(task, source, TransferConfig(), TRAIN)
    assert found is not None
    assert len(found) == 60
    wider = read_transfer(task, source, TransferConfig(ratio=2.0), TRAIN)
    assert wider is not None
    assert len(wider) == 80
    named = write(tmp_path, "jobs.csv", PAIRS[:9], ("question", "answer"))
    command = TransferConfig(str(tmp_path / "{task}.csv"), 0.1)
    assert read_transfer(task, source, command, TRAIN) is not None
    assert named.name == "jobs.csv"
    assert read_transfer(load_task("rte"), source, TransferConfig(), TRAIN) is None


def test_the_document_shows_a_tasks_own_texts(tmp_path: Path) -> None:
    lines = (Path(__file__).parents[3] / "docs" / "custom-task.md").read_text().splitlines()
    start = lines.index("    title: Questions about jobs")
    described = [*lines[start : lines.index("", start)]]
    described += [line for line in lines if line.startswith("    transfer: {")]
    (tmp_path / "jobs.yaml").write_text("\n".join(line[4:] for line in described))
    task = read_task(tmp_path / "jobs.yaml")
    write(tmp_path, "more.csv", PAIRS, ("question", "answer"))
    source = SourceConfig(kind="folder", folder=str(tmp_path))
    found = read_transfer(task, source, TransferConfig(), TRAIN)
    assert found is not None
    assert len(found) == 80


@pytest.mark.parametrize(
    ("task", "name", "ratio", "expected"),
    [
        ("rte", "missing.tsv", None, "missing.tsv: cannot be read"),
        ("rte", "empty.tsv", None, "empty.tsv: has no texts"),
        ("rte", "texts.tsv", 3.0, "100 texts, and 3 for each of 40 training examples are 120; "),
        ("rte", "texts.tsv", 3.0, "give transfer.ratio=2.5 at most"),
        ("rte", "texts.txt", None, "one text a line, and rte has 2"),
        ("mrpc", "texts.csv", None, "no column '#1 String' in the header"),
        ("rte", None, 2.0, "transfer.ratio=2 mixes unlabelled texts: name their file"),
    ],
)
def test_texts_that_cannot_be_used_are_refused_in_one_line(
    tmp_path: Path, task: str, name: str | None, ratio: float | None, expected: str
) -> None:
    header = ("sentence1", "sentence2")
    for file in ("texts.tsv", "texts.txt", "texts.csv"):
        write(tmp_path, file, PAIRS, header)
    write(tmp_path, "empty.tsv", [], header)
    transfer = TransferConfig(None if name is None else str(tmp_path / name), ratio)
    with pytest.raises(DataError) as error:
        read_transfer(load_task(task), DEMO, transfer, TRAIN)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_descriptions_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="transfer: as many columns as the task has texts"):
        custom(tmp_path, file="more.csv", columns=["question"])
    with pytest.raises(UserError, match=r"transfer\.ratio: .*greater than 0"):
        custom(tmp_path, file="more.csv", ratio=0)
    with pytest.raises(DataError, match="the columns of jobs have no names"):
        read(custom(tmp_path, file="more.csv"), write(tmp_path, "x.csv", PAIRS, ("a", "b")))
    with pytest.raises(DataError, match="without --data its path is absolute"):
        read_transfer(custom(tmp_path, file="more.csv"), DEMO, TransferConfig(), TRAIN)
    task = replace(load_task("rte"), evaluation={"transfer": "dev.tsv"})
    with pytest.raises(DataError, match="'transfer' is the split of unlabelled texts"):
        read(task, write(tmp_path, "y.tsv", PAIRS, ("sentence1", "sentence2")))


def of(*texts: str) -> Split:
    rows = np.arange(len(texts))
    return Split([(text,) for text in texts], rows % 2, rows)


def test_evaluation_texts_among_the_unlabelled_ones_count_and_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluation = of(*"abcdefghij")
    data = TaskData(
        task=load_task("sst2"),
        train=of("a", "x", "y"),
        selection=of("p", "q"),
        evaluation={"validation": evaluation},
        transfer=of("A ", "B", "q", "z"),
    )
    assert data.duplicates == {"selection": 1, "validation": 2}
    assert data.unlabelled_duplicates == {"validation": 2}
    assert list(data.unlabelled) == ["transfer"]
    assert data.transfer_ratio == pytest.approx(4 / 3)
    with pytest.raises(DataError, match=r"2 of the 10 .*\(2 of them those of unlabelled texts\)"):
        check_data(data, ChecksConfig())
    check_data(data, ChecksConfig(most_duplicates=0.2))
    assert "(2 of them those of unlabelled texts)" in capsys.readouterr().err
    without = replace(data, transfer=None)
    assert without.duplicates == {"selection": 0, "validation": 1}
    check_data(without, ChecksConfig())
    assert "unlabelled" not in capsys.readouterr().err
