"""Users' own tasks: one YAML file, and they run like GLUE's."""

import csv
import json
import os
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from harness.config import ProtocolConfig, SourceConfig
from harness.data.readers import read_rows
from harness.data.sources import load_task_data
from harness.data.split_files import read_file
from harness.data.tasks import FolderLayout, load_task, read_task
from harness.demo.examples import generate
from harness.errors import DataError, UserError
from harness.study import main

YAML = """\
title: Questions about jobs
labels: [no_match, match]
metrics: [f1, accuracy]
evaluation: {{validation: dev.{suffix}}}
folder:
  train: train.{suffix}
  columns: [question, answer]
  label: fits
  words: {{"0": no_match, "1": match}}
"""


def jobs(folder: Path, suffix: str = "jsonl", text: str = YAML) -> Path:
    """A task with the demo's sentences, so that the demo's tokenizer knows the words."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in zip(
        ("train", "dev"), generate("mrpc", selection_size=0).values(), strict=True
    ):
        rows = [
            {"fits": int(label), "question": first, "answer": second, "spare": 'x, "y"\n'}
            for (first, second), label in zip(data.texts, data.labels, strict=True)
        ]
        path = folder / f"{file}.{suffix}"
        if suffix == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif suffix == "parquet":
            pd.DataFrame(rows).to_parquet(path)
        else:
            with path.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    task = folder / "jobs.yaml"
    task.write_text(text.format(suffix=suffix))
    return task


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_every_format_gives_the_same_examples(tmp_path: Path, suffix: str) -> None:
    task = read_task(jobs(tmp_path, suffix))
    source = SourceConfig(kind="folder", folder=str(tmp_path))
    data = load_task_data(task, source, ProtocolConfig(name="paper"))
    expected = generate("mrpc")
    assert tuple(data.train.texts) == expected["train"].texts
    np.testing.assert_array_equal(data.train.labels, expected["train"].labels)
    np.testing.assert_array_equal(
        data.evaluation["validation"].labels, expected["validation"].labels
    )


def test_a_custom_task_runs_like_a_glue_task(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = jobs(tmp_path / "data")
    assert main(small_jobs(tmp_path / "runs", task, tiny_encoder)) == 0
    summary = json.loads(capsys.readouterr().out)
    (result,) = summary["results"]
    assert (result["task"], result["metric"]) == ("jobs", "f1")
    assert len(result["scores"]) == 2
    assert "folder-jobs-kd" in summary["ablation"]


def small_jobs(out: Path, task: Path, encoder: Path, *more: str) -> list[str]:
    flags = "--preset minilm --method kd --baseline none --trials 2 protocol.budget=1 --json"
    small = "teacher.epochs=1 training.epochs=1 student.layers=2 training.max_length=64 threads=1"
    words = f"{flags} --task {task} --out {out} --allow-weak-teacher {small}".split()
    return [*words, f"teacher.pretrained={encoder}", "training.precision=fp32", *more]


def numbers(name: str, fits: dict[str, int], **changes: Any) -> str:
    """A task file over `jobs`'s data: which file is which split, and what its numbers mean."""
    values = {
        "title": name,
        "labels": list(fits) if fits else [],
        "metrics": ["accuracy"],
        "evaluation": {"validation": "dev.jsonl"},
        "folder": {
            "train": "train.jsonl",
            "columns": ["question", "answer"],
            "label": "fits",
            "words": {str(value): key for key, value in fits.items()},
        },
    }
    return json.dumps({**values, **changes})


def test_what_the_labels_mean_makes_another_teacher(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, out = jobs(tmp_path / "data"), tmp_path / "runs"
    two = {"no": 0, "yes": 1}
    texts = [
        numbers("a", two),
        numbers("b", {"bad": 0, "good": 1}),
        numbers("c", {**two, "maybe": 2}),
        numbers("d", {}, scores=[0, 1], metrics=["pearson"]),
    ]
    for count, text in enumerate(texts, 1):
        task.write_text(text)
        assert main(small_jobs(out, task, tiny_encoder)) == 0
        assert len(list((out / "teachers").glob("jobs-*"))) == count
    widths = []
    for folder in (out / "teachers").glob("jobs-*"):
        config = json.loads((folder / "config.json").read_text())
        widths.append(len(config["id2label"]))
    assert sorted(widths) == [1, 2, 2, 3]
    task.write_text(texts[0].replace('"a"', '"another title"'))
    assert main(small_jobs(out, task, tiny_encoder)) == 0
    assert len(list((out / "teachers").glob("jobs-*"))) == len(texts)


def test_which_split_is_tested_is_part_of_a_run(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, out = jobs(tmp_path / "data"), tmp_path / "runs"
    lines = (tmp_path / "data" / "dev.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "data" / "second.jsonl").write_text("".join(lines[:99]))
    found = []
    for order in (("dev", "second"), ("second", "dev")):
        evaluation = {f"split-{name}": f"{name}.jsonl" for name in order}
        task.write_text(numbers("a", {"no": 0, "yes": 1}, evaluation=evaluation))
        capsys.readouterr()
        assert main(small_jobs(out, task, tiny_encoder)) == 0
        found.append(json.loads(capsys.readouterr().out))
    scores = [summary["results"][0]["scores"][0] for summary in found]
    assert round(scores[0] * len(lines), 6) == round(scores[0] * len(lines))
    assert round(scores[1] * 99, 6) == round(scores[1] * 99)
    assert scores[0] != scores[1]
    assert found[0]["ablation"] != found[1]["ablation"]


def test_other_evaluation_data_make_another_study(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, out = jobs(tmp_path / "data"), tmp_path / "runs"
    dev = tmp_path / "data" / "dev.jsonl"
    names = []
    for _ in range(2):
        capsys.readouterr()
        assert main(small_jobs(out, task, tiny_encoder)) == 0
        names.append(json.loads(capsys.readouterr().out)["ablation"])
        dev.write_text("".join(dev.read_text().splitlines(keepends=True)[:99]))
    assert names[0] != names[1]


def test_broken_rows_are_left_out_only_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The official QQP has some."""
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    row = "1\t2\t3\twhy ?\thow ?\t1\n"
    (tmp_path / "train.tsv").write_text(header + row + "7\t8\tbroken\n" + row)
    task = load_task("qqp")
    assert task.folder is not None
    split = read_file(tmp_path / "train.tsv", task, task.folder)
    assert (split.ids.tolist(), split.left_out) == ([0, 2], 1)
    assert "train.tsv: 1 rows have too few or too many cells" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"train\.tsv:3: 3 columns, expected 6"):
        read_file(tmp_path / "train.tsv", task, replace(task.folder, skip_broken_rows=False))


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "parquet"])
def test_examples_keep_their_numbers_in_the_file(tmp_path: Path, suffix: str) -> None:
    """Broken first, middle and last rows, a row without a label, and blank lines."""
    rows = [[f"text {number}", ("no", "yes")[number % 2]] for number in range(8)]
    rows[3][1] = "-"
    path = tmp_path / f"train.{suffix}"
    if suffix == "parquet":
        pd.DataFrame(rows, columns=["text", "label"]).to_parquet(path)
    elif suffix == "jsonl":
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        path.write_text("\n\n".join(lines))
    else:
        mark = {"tsv": "\t", "csv": ","}[suffix]
        lines = [mark.join(row) for row in [["text", "label"], *rows]]
        for number in (0, 5, 7):
            lines[1 + number] += f"{mark}more"
        path.write_text(("\n\n" if suffix == "csv" else "\n").join(lines))
    layout = FolderLayout(columns=("text",), label="label", skip_broken_rows=True)
    task = replace(load_task("rte"), labels=("no", "yes"), folder=layout, drop_labels=("-",))
    split = read_file(path, task, layout)
    left_out = {0, 3, 5, 7} if suffix in ("tsv", "csv") else {3}
    assert split.ids.tolist() == [number for number in range(8) if number not in left_out]
    assert [text for (text,) in split.texts] == [f"text {number}" for number in split.ids]
    assert split.labels.tolist() == [number % 2 for number in split.ids]
    assert split.left_out == len(left_out)


def test_a_parquet_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    table = pa.table([["a"], ["b"], ["c"], [1]], ["question", "answer", "answer", "fits"])
    parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match="more than one column 'answer'"):
        list(read_rows(tmp_path / "train.parquet", ["answer"]))


@pytest.mark.parametrize(
    ("value", "expected"), [(Decimal("3.5"), 3.5), ("0_3", None), (True, None)]
)
def test_scores_are_numbers_as_people_write_them(
    tmp_path: Path, value: Any, expected: float | None
) -> None:
    pd.DataFrame({"a": ["x"], "b": ["y"], "s": [value]}).to_parquet(tmp_path / "train.parquet")
    task, layout = load_task("stsb"), FolderLayout(columns=("a", "b"), label="s")
    if expected is None:
        with pytest.raises(DataError, match="is not a number from 0 to 5"):
            read_file(tmp_path / "train.parquet", task, layout)
    else:
        assert read_file(tmp_path / "train.parquet", task, layout).labels.tolist() == [expected]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--preset", "demo"], "--preset demo makes GLUE's tasks only, not jobs"),
        (["--data", ""], "--data: is empty"),
        (["--out", ""], "--out: is empty"),
        (["--teacher", ""], "--teacher: is empty"),
        (["preset=minilm"], "'preset=' is set by --preset"),
        (["hydra.run.dir=x"], "unknown key 'hydra.run.dir'"),
        (["protocol.least=200", "protocol.most=100"], "protocol.least=200 is above"),
        (["training.epochs=" + "9" * 5000], "error: "),
    ],
)
def test_flags_that_mean_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], reason: str
) -> None:
    given = ["--preset", "minilm", "--method", "kd", "--task", str(jobs(tmp_path)), *change]
    assert main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": ["a"]}, "labels: at least two"),
        ({"metrics": ["pearson"]}, "metrics: pearson and spearman are for scores"),
        (
            {"metrics": ["bleu"]},
            r"\.yaml: metrics\.0: unknown metric 'bleu'; known are [a-z0-9, ]+$",
        ),
        ({"scores": [0, 1]}, "give either labels or scores"),
        ({"labels": [], "scores": [1, 1], "metrics": ["pearson"]}, "low < high"),
        ({"_target_": "os.system"}, "unknown key '_target_'"),
        ({"name": "other"}, "unknown key 'name'"),
        ({"folder": None}, "give folder or hub"),
        ({"labels": []}, "give either labels or scores"),
        ({"folder": {"columns": [True], "label": "x"}}, r"folder\.columns\.0"),
        ({"folder": {"columns": ["x"], "label": True}}, r"folder\.label"),
        ({"folder": {"columns": ["x"], "label": -1}}, r"folder\.label"),
        ({"evaluation": {"train": "dev.tsv"}}, "train and selection cannot be evaluation splits"),
    ],
)
def test_faults_of_a_task_file_are_named(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    base = {
        "title": "Jobs",
        "labels": ["no", "yes"],
        "metrics": ["accuracy"],
        "folder": {"columns": ["text"], "label": "label"},
    }
    path = tmp_path / "jobs.yaml"
    path.write_text(json.dumps({**base, **change}))
    with pytest.raises(UserError, match=reason):
        read_task(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rte.yaml", "{}", "rte is the name of a GLUE task"),
        ("My Task.yaml", "{}", "name the file with a letter"),
        ("jobs.yaml", "[1]", "not a mapping"),
        ("jobs.yaml", "a: !!python/object/apply:os.system [ls]", "not YAML"),
        ("jobs.yaml", "a: [", "not YAML"),
        ("jobs.yaml", "labels: [a, b]", "^--task .*jobs.yaml: 'title' is missing"),
        ("jobs.yaml", "a: !!timestamp abc", "not YAML"),
        ("jobs.yaml", "a: !!int ''", "not YAML"),
        ("jobs.yaml", "a: !!bool x", "not YAML"),
        ("jobs.yaml", "title: a\ntitle: b", "the key 'title' stands twice"),
        ("2024-jobs.yaml", "{}", "name the file with a letter"),
        ("null.yaml", "{}", "name the file with a letter"),
    ],
)
def test_unusable_task_files_are_refused(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=reason):
        read_task(tmp_path / name)


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        ("jsonl", '{"question": 1', r"train\.jsonl:1: not JSON"),
        ("jsonl", '{"question": "a", "fits": 1}', r"train\.jsonl:1: no key 'answer'"),
        ("jsonl", '\n{"question": 1, "answer": "b", "fits": 1}', r"train\.jsonl:2: 1 is no text"),
        ("jsonl", '{"question": "a", "answer": "b", "fits": 2}', r"jsonl:1: unknown label '2'"),
        ("csv", 'question,answer,fits\n"a,b,1\n', r"train\.csv:2: not CSV"),
        ("csv", "question,answer\n", r"train\.csv:1: no column 'fits' in the header"),
        ("csv", "question,answer,fits\na,b\n", r"train\.csv:2: 2 columns, expected 3"),
        ("csv", "", r"train\.csv: empty"),
        ("csv", "answer,question,answer,fits\n", r"csv:1: 'answer' stands 2 times in the header"),
        ("jsonl", '{"question": "\\ud800", "answer": "b", "fits": 1}', r"jsonl:1: .* is no text"),
        ("parquet", "PAR1", r"train\.parquet: not parquet"),
        ("xlsx", "", r"the suffix is none of \.tsv, \.csv, \.txt, \.jsonl, \.parquet"),
    ],
)
def test_malformed_files_are_named_with_their_line(
    tmp_path: Path, suffix: str, content: str, reason: str
) -> None:
    (tmp_path / "jobs.yaml").write_text(YAML.format(suffix=suffix))
    (tmp_path / f"train.{suffix}").write_text(content)
    source = SourceConfig(kind="folder", folder=str(tmp_path))
    with pytest.raises(DataError, match=reason):
        load_task_data(read_task(tmp_path / "jobs.yaml"), source, ProtocolConfig())


def bomb(levels: int, width: int = 10) -> str:
    """A title whose aliases stand for width^levels texts."""
    lines = ["title: &a0 x"]
    for level in range(1, levels + 1):
        lines.append(f"k{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(lines)


@pytest.mark.parametrize("content", [bomb(9), bomb(60, 2), "title: &a [*a]", "? &a [*a]\n: 1"])
def test_aliases_that_stand_for_very_much_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"not YAML .*more than 20000 values") as caught:
        read_task(file)
    assert len(str(caught.value)) < 400


def test_a_few_aliases_are_taken_and_long_values_are_shown_in_part(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(f"labels: &l ['1', '2']\nscores: *l\ntitle: {['x' * 50] * 500}\n")
    with pytest.raises(UserError, match="title: ") as caught:
        read_task(file)
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "parquet"])
def test_a_pipe_is_no_data_file(tmp_path: Path, suffix: str) -> None:
    """A read would wait for a writer for ever."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    file = tmp_path / f"train.{suffix}"
    os.mkfifo(file)
    with pytest.raises(DataError, match="it is no regular file"):
        list(read_rows(file, ["a"]))
    task = tmp_path / "jobs.yaml"
    os.mkfifo(task)
    with pytest.raises(UserError, match="it is no regular file"):
        read_task(task)
