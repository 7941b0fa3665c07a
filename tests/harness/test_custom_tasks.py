"""Users' own tasks: one YAML file, and they run like GLUE's."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.config import ProtocolConfig, SourceConfig
from harness.demo import generate
from harness.errors import DataError, UserError
from harness.sources import load_task_data
from harness.study import main
from harness.tasks import read_task

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
    for file, data in zip(("train", "dev"), generate("mrpc").values(), strict=True):
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
    assert data.train.texts == expected["train"].texts
    np.testing.assert_array_equal(data.train.labels, expected["train"].labels)
    np.testing.assert_array_equal(
        data.evaluation["validation"].labels, expected["validation"].labels
    )


def test_a_custom_task_runs_like_a_glue_task(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = jobs(tmp_path / "data")
    flags = "--preset minilm --method kd --baseline none --trials 1 --seeds 2 --json"
    small = "teacher.epochs=1 training.epochs=1 student.layers=2 training.max_length=64 threads=1"
    words = f"{flags} --task {task} --out {tmp_path / 'runs'} --allow-weak-teacher {small}".split()
    assert main([*words, f"teacher.pretrained={tiny_encoder}", "training.precision=fp32"]) == 0
    summary = json.loads(capsys.readouterr().out)
    (result,) = summary["results"]
    assert (result["task"], result["metric"]) == ("jobs", "f1")
    assert len(result["scores"]) == 2
    assert "folder-jobs-kd" in summary["ablation"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": ["a"]}, "labels: at least two"),
        ({"metrics": ["pearson"]}, "metrics: pearson and spearman are for scores"),
        ({"metrics": ["bleu"]}, r"metrics\.0: input should be 'accuracy'"),
        ({"scores": [0, 1]}, "give labels or scores, not both"),
        ({"labels": [], "scores": [1, 1], "metrics": ["pearson"]}, "low < high"),
        ({"_target_": "os.system"}, "unknown key '_target_'"),
        ({"name": "other"}, "unknown key 'name'"),
        ({"folder": None}, "give folder or hub"),
        ({"evaluation": {"train": "dev.tsv"}}, "train and selection are no evaluation splits"),
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
        ("My Task.yaml", "{}", "name the file with a-z"),
        ("jobs.yaml", "[1]", "not a mapping"),
        ("jobs.yaml", "a: !!python/object/apply:os.system [ls]", "not YAML"),
        ("jobs.yaml", "a: [", "not YAML"),
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
        ("parquet", "PAR1", r"train\.parquet: not parquet"),
        ("xlsx", "", r"the suffix is none of \.tsv, \.csv, \.jsonl, \.parquet"),
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
