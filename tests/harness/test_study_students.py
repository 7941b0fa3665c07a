"""Commands with students of their own: what trains, what is refused, and what is kept."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from harness.demo.examples import generate
from harness.evaluation import speed
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.students import student_name, students_folder
from harness.study import main
from tests.conftest import small_pools, write_bert
from tests.own_students import other_tokenizer, write_rte, write_student

TRAIN, VALIDATION = 80, 20


@pytest.fixture(scope="module")
def shallow_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher's encoder of two layers: plans count the operations of each layer."""
    folder = tmp_path_factory.mktemp("shallow")
    write_bert(folder, layers=2, positions=64)
    return folder


def command(folder: Path, encoder: Path, *more: str) -> list[str]:
    """A study of pools that takes seconds, on few examples."""
    if not (folder / "data").exists():
        write_rte(folder / "data", TRAIN, VALIDATION)
    small = small_pools(folder / "out", encoder, "--data", str(folder / "data"))
    words = [word for word in small if word != "student.layers=2"]
    position = words.index("demo")
    words[position] = "minilm"
    others = (
        "protocol.fraction=0.3",
        "protocol.least=8",
        "training.max_length=64",
        "training.precision=fp32",
        "device=cpu",
    )
    return [*words, *others, *more]


def test_an_axis_of_initial_weights_keeps_students_with_their_own_shape_and_tokenizer(
    tmp_path: Path,
    shallow_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "ENOUGH_SECONDS", 0)
    student = write_student(tmp_path / "student", own_tokens=True)
    more = ("--method", "alp,pkd,minilm", "--student", str(student), "--keep", "report")
    words = command(tmp_path, shallow_encoder, *more, "--vary", "student.init=skip,random")
    words += ["search.space.relation_heads=[4]", "--trials", "2", "protocol.budget=1"]
    assert main([*words, "--latency"]) == 0
    streams = capsys.readouterr()
    check_sizes(json.loads(streams.out))
    answer = json.loads(streams.out)
    assert "pkd-skip needs a student as wide as its teacher (12 and 16); use alp" in streams.err
    assert "minilm matches single tokens, and the student's tokenizer splits" in streams.err
    with closing(Ledger(storage_url(tmp_path / "out", None))) as ledger:
        manifest = ledger.manifest(str(answer["ablation"]))
        drawn = f"students (drawn at random in the shape of {student})"
        assert manifest.students == f"students (all layers of {student}); {drawn}"
        for cell in ("skip", "random"):
            studies = manifest.studies[f"rte (init={cell})"]
            assert set(studies) == {"alp", "kd"}
            (fingerprint, *_) = (
                run.record.fingerprint for run in ledger.study_runs(studies["alp"])
            )
            predictions = ledger.predictions(fingerprint, "validation")
            assert predictions is not None
            folder = students_folder(tmp_path / "out", studies["alp"]) / student_name(fingerprint)
            check_student(folder, student, predictions.logits)
            card = (folder / "README.md").read_text()
            start = "that starts from" if cell == "skip" else "in the shape of"
            shape = "An encoder of 2 layers of width 12 with 3 attention heads"
            assert f"{shape}, {start} `student`, for" in card
            assert str(tmp_path) not in card
            assert "| student |" in card


def check_sizes(answer: dict[str, Any]) -> None:
    """Check the sizes of teacher and students in each cell, and that both cells have one timing."""
    sizes = answer["compression"]
    assert [row["cell"]["student.init"] for row in sizes] == ["skip", "random"]
    words = len(other_tokenizer())
    for row in sizes:
        embeddings = 12 * (words + 64 + 2) + 2 * 12
        layer = 4 * (12 * 12 + 12) + (12 * 20 + 20) + (20 * 12 + 12) + 2 * 2 * 12
        body = 2 * layer + (12 * 12 + 12) + (2 * 12 + 2)
        assert row["student"]["parameters"] == embeddings + body
        assert row["student"]["parameters_without_embeddings"] == body
        assert row["student"]["weight_bytes"] == 4 * (embeddings + body)
        assert row["student"]["length"] == row["teacher"]["length"] + 1  # two separators
        assert 0 < row["student"]["flops"] < row["teacher"]["flops"]
        assert (
            row["teacher"]["latency_seconds"] / row["student"]["latency_seconds"] == row["speed_up"]
        )
        assert row["threads"] == 1
        assert row["device"]
    assert sizes[0]["speed_up"] == sizes[1]["speed_up"]
    table = pd.read_csv(Path(answer["report"]).parent / "results.csv")
    assert set(table["model.student_flops"]) == {sizes[0]["student"]["flops"]}
    assert table["model.speed_up"].tolist() == pytest.approx([sizes[0]["speed_up"]] * len(table))
    assert "What the compression bought" in Path(answer["report"]).read_text()


def check_student(folder: Path, start: Path, expected: npt.NDArray[np.float32]) -> None:
    """Check that Hugging Face's classes load a kept student, which gives the recorded logits."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    shape = model.config
    assert (shape.num_hidden_layers, shape.hidden_size, shape.num_attention_heads) == (2, 12, 3)
    tokens = AutoTokenizer.from_pretrained(folder)
    assert tokens.get_vocab() == AutoTokenizer.from_pretrained(start).get_vocab()
    made = generate("rte", train_size=TRAIN, validation_size=VALIDATION)["validation"]
    columns = [list(column) for column in zip(*made.texts, strict=True)]
    with torch.no_grad():
        logits = model(**tokens(*columns, padding=True, return_tensors="pt")).logits
    np.testing.assert_allclose(expected, logits.numpy(), atol=1e-5)
    assert np.ptp(expected[:, 0]) > 0.01


@pytest.mark.parametrize(
    ("sizes", "more", "expected"),
    [
        (
            {},
            ["--method", "pkd"],
            "pkd-skip needs a student as wide as its teacher (12 and 16); use alp",
        ),
        (
            {"layers": 3},
            ["--method", "cka"],
            "cka needs a student no deeper than its teacher; use alp",
        ),
        (
            {"own_tokens": True},
            ["--method", "forward-matching"],
            "forward-matching matches single tokens, and the student's tokenizer splits texts into "
            "other tokens than the teacher's; use alp",
        ),
        ({}, ["--method", "alp", "student.layers=3"], "--student-layers 3: {student} has 2"),
    ],
)
def test_refusals_come_before_anything_is_prepared(
    tmp_path: Path,
    shallow_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    sizes: dict[str, int],
    more: list[str],
    expected: str,
) -> None:
    student = write_student(tmp_path / "student", **sizes)
    words = command(tmp_path, shallow_encoder, "--student", str(student), *more)
    for form in ([], ["--dry-run"]):
        assert main([*words, *form]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
        assert errors == ["error: " + expected.format(student=student)]
    out = tmp_path / "out"
    assert not [path for path in out.rglob("*") if not path.name.startswith("ledger.db")]


def test_a_deeper_checkpoint_is_used_by_the_methods_that_can(
    tmp_path: Path, shallow_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = write_student(tmp_path / "student", layers=3)
    more = ("--method", "alp,cka,alp-no", "--student", str(student), "--dry-run")
    assert main(command(tmp_path, shallow_encoder, *more, "--baseline", "none")) == 0
    (plan,) = json.loads(capsys.readouterr().out)["plan"]
    assert set(plan["left_out"]) == {"cka", "alp-no"}
    assert plan["left_out"]["cka"].endswith("no deeper than its teacher; use alp")


def test_an_axis_of_widths_is_planned_with_narrow_random_students(
    tmp_path: Path, shallow_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ("student.layers=1", "student.init=random", "student.heads=2", "--baseline", "none")
    more = ("--method", "uniform", *shape, "--vary", "student.width=null,8", "--dry-run")
    assert main(command(tmp_path, shallow_encoder, *more)) == 0
    streams = capsys.readouterr()
    plans = json.loads(streams.out)["plan"]
    assert [plan["task"] for plan in plans] == ["rte (width=null)", "rte (width=8)"]
    assert plans[0]["disk_bytes"] > plans[1]["disk_bytes"]
    assert "1-layer students (drawn at random, width 8, heads 2)" in streams.err
