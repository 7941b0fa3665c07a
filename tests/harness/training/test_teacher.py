"""Teachers: known by recipe and weights, reused, rebuilt, and checked against the students' start."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, pipeline

from harness.cli.dry_run import plan_task
from harness.compose import compose_config
from harness.config import ProtocolConfig, SourceConfig, StudyConfig
from harness.data.sources import load_task_data
from harness.data.splits import TaskData
from harness.data.tasks import load_task
from harness.demo.encoder import build_tokenizer
from harness.errors import TeacherError
from harness.models.reference import ReferenceClassifier
from harness.models.stacked import StackedClassifier
from harness.models.student import Blueprint, build_classifier, save_student
from harness.models.teacher_outputs import outputs_of_batch
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import global_seed
from harness.storage.fingerprint import file_sha256
from harness.storage.folders import seal
from harness.training.task_setup import Materials, prepare
from tests.conftest import RATES


@pytest.fixture(scope="module")
def data() -> TaskData:
    return load_task_data(load_task("rte"), SourceConfig(), ProtocolConfig())


def configured(encoder: Path, *more: str) -> StudyConfig:
    return compose_config(
        [
            *("preset=demo", "methods=[kd]", "tasks=[rte]", "teacher.allow_weak=true"),
            *("teacher.epochs=1", "teacher.batch_size=128", "student.layers=2"),
            f"teacher.pretrained={encoder}",
            *more,
        ]
    )


def outside(folder: Path, data: TaskData, width: int = 24, spare: int = 0) -> Path:
    """A random classifier of another width, its vocabulary with some words more."""
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([f"spare{number}" for number in range(spare)])
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        id2label=dict(enumerate(data.task.labels)),
        label2id={name: index for index, name in enumerate(data.task.labels)},
    )
    with global_seed("test"):
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def test_a_teacher_is_reused_and_known_by_its_weights(
    tmp_path: Path, tiny_encoder: Path, data: TaskData, arithmetic: Arithmetic
) -> None:
    config = configured(tiny_encoder)
    first = prepare(config, data, arithmetic, tmp_path)
    again = prepare(config, data, arithmetic, tmp_path)
    assert again.teacher.fingerprint == first.teacher.fingerprint
    assert again.teacher.seconds == first.teacher.seconds
    # What another machine's fine-tuning would be: equal but for the last bits.
    folder = first.teacher.folder
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    seal(folder, {"seconds": 1.0, "weights": file_sha256(folder / "model.safetensors")})
    other = prepare(config, data, arithmetic, tmp_path)
    assert other.teacher.fingerprint != first.teacher.fingerprint
    assert not np.array_equal(
        other.outputs["train"]["cls"].logits, first.outputs["train"]["cls"].logits
    )


def test_a_damaged_teacher_is_fine_tuned_again_to_the_same_weights(
    tmp_path: Path, tiny_encoder: Path, data: TaskData, arithmetic: Arithmetic
) -> None:
    config = configured(tiny_encoder)
    first = prepare(config, data, arithmetic, tmp_path)
    (first.teacher.folder / "model.safetensors").write_bytes(b"half")
    again = prepare(config, data, arithmetic, tmp_path)
    assert again.teacher.fingerprint == first.teacher.fingerprint
    assert not again.teacher.model.training


def limit_memory(monkeypatch: pytest.MonkeyPatch, examples: int) -> list[int]:
    """Forward passes of more than so many examples lack memory; returns the examples of the others."""
    passed: list[int] = []

    def limited(function: Any, count: Callable[..., int]) -> Any:
        def forward(*arguments: Any, **keywords: Any) -> Any:
            if (number := count(*arguments)) > examples:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            passed.append(number)
            return function(*arguments, **keywords)

        return forward

    for network in (StackedClassifier, ReferenceClassifier):
        count = lambda _, batch, *others: batch["input_ids"].shape[1]  # noqa: E731
        monkeypatch.setattr(network, "forward", limited(network.forward, count))
    count_rows = lambda _, tensors, *others: len(tensors["input_ids"])  # noqa: E731
    name = "harness.models.teacher_outputs.outputs_of_batch"
    monkeypatch.setattr(name, limited(outputs_of_batch, count_rows))
    return passed


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_a_teacher_that_is_made_in_parts_for_lack_of_memory_is_the_same(
    tmp_path: Path,
    tiny_encoder: Path,
    data: TaskData,
    arithmetic: Arithmetic,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    engine: str,
) -> None:
    """Dropout masks are those of the whole batch, and the gradients add up."""
    config = configured(tiny_encoder, f"training.engine={engine}")
    whole = prepare(config, data, arithmetic, tmp_path / "whole")
    passed = limit_memory(monkeypatch, 40)
    parts = prepare(config, data, arithmetic, tmp_path / "parts")
    assert "memory is short: each batch is trained in 4 parts" in capsys.readouterr().err
    assert max(passed) == 32
    weights = [load_file(one.teacher.folder / "model.safetensors") for one in (whole, parts)]
    for name, values in weights[0].items():
        torch.testing.assert_close(weights[1][name], values, atol=2e-5, rtol=1e-4, msg=name)
    assert parts.facts.metrics == whole.facts.metrics
    for split, outputs in whole.outputs.items():
        logits = parts.outputs[split]["cls"].logits
        torch.testing.assert_close(logits, outputs["cls"].logits, atol=1e-4, rtol=1e-4)


def test_a_teacher_for_which_memory_is_too_short_is_refused_in_one_line(
    tmp_path: Path,
    tiny_encoder: Path,
    data: TaskData,
    arithmetic: Arithmetic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit_memory(monkeypatch, 0)
    with pytest.raises(TeacherError, match=r"^rte: out of memory while the teacher was prepared, "):
        prepare(configured(tiny_encoder), data, arithmetic, tmp_path)


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_an_encoder_in_half_precision_makes_a_teacher_in_full(
    tmp_path: Path, tiny_encoder: Path, data: TaskData, arithmetic: Arithmetic, engine: str
) -> None:
    half = tmp_path / "half"
    shutil.copytree(tiny_encoder, half)
    AutoModel.from_pretrained(tiny_encoder).half().save_pretrained(half)
    assert json.loads((half / "config.json").read_text())["dtype"] == "float16"
    found = prepare(
        configured(half, f"training.engine={engine}"), data, arithmetic, tmp_path / "out"
    )
    saved = load_file(found.teacher.folder / "model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}
    # Trained weights are between the numbers that half precision has.
    assert any((value.half().float() != value).any() for value in saved.values())


def prepared(
    tmp_path: Path, encoder: Path, data: TaskData, arithmetic: Arithmetic, teacher: Path
) -> Materials:
    config = configured(encoder, f"teacher.checkpoint={teacher}", "student.origin=pretrained")
    return prepare(config, data, arithmetic, tmp_path / "out")


def test_students_of_another_encoder_have_its_width(
    tmp_path: Path, tiny_encoder: Path, data: TaskData, arithmetic: Arithmetic
) -> None:
    teacher = outside(tmp_path / "teacher", data, width=24)
    made = prepared(tmp_path, tiny_encoder, data, arithmetic, teacher)
    shapes = made.shapes(configured(tiny_encoder, "student.layers=2", "training.epochs=5"))
    assert (shapes.teacher_layers, shapes.teacher_width) == (6, 24)
    assert (shapes.student_layers, shapes.student_width) == (2, 16)
    assert (shapes.teacher_heads, shapes.student_heads, shapes.epochs) == (2, 2, 5)


def test_students_with_another_vocabulary_than_the_teacher_are_refused(
    tmp_path: Path, tiny_encoder: Path, data: TaskData, arithmetic: Arithmetic
) -> None:
    teacher = outside(tmp_path / "teacher", data, spare=3)
    with pytest.raises(TeacherError, match="has another vocabulary than the teacher"):
        prepared(tmp_path, tiny_encoder, data, arithmetic, teacher)
    assert not (tmp_path / "out" / "cache" / "teacher-outputs").exists()
    config = configured(tiny_encoder, f"teacher.checkpoint={teacher}")
    with pytest.raises(TeacherError, match="has another vocabulary than the teacher"):
        plan_task(config, data, arithmetic, tmp_path / "scratch", RATES)


@pytest.mark.parametrize("start", ["teacher", "encoder"])
def test_longer_inputs_than_the_encoder_has_positions_are_refused(
    tmp_path: Path, tiny_encoder: Path, data: TaskData, arithmetic: Arithmetic, start: str
) -> None:
    more = ["training.max_length=72"]
    if start == "teacher":
        more.append(f"teacher.checkpoint={outside(tmp_path / 'teacher', data)}")
    with pytest.raises(TeacherError, match=r"max_length=72: .* has positions for 64 tokens"):
        prepare(configured(tiny_encoder, *more), data, arithmetic, tmp_path / "out")


@pytest.mark.parametrize("damage", ["truncated", "adapter only"])
def test_weights_that_cannot_be_read_are_named(
    tmp_path: Path, tiny_encoder: Path, data: TaskData, arithmetic: Arithmetic, damage: str
) -> None:
    teacher = outside(tmp_path / "teacher", data)
    weights = teacher / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        weights.rename(teacher / "adapter_model.safetensors")
    with pytest.raises(TeacherError, match=r"weights cannot be read|no weights in safetensors"):
        prepared(tmp_path, tiny_encoder, data, arithmetic, teacher)


def test_a_teacher_with_other_labels_is_refused(
    tmp_path: Path, tiny_encoder: Path, data: TaskData, arithmetic: Arithmetic
) -> None:
    teacher = outside(tmp_path / "teacher", data)
    config = json.loads((teacher / "config.json").read_text())
    config["id2label"] = {"0": "yes", "1": "no"}
    (teacher / "config.json").write_text(json.dumps(config))
    with pytest.raises(TeacherError, match=r"outputs \['yes', 'no'\] cannot be matched"):
        prepared(tmp_path, tiny_encoder, data, arithmetic, teacher)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_a_teachers_own_kind_of_outputs_ends_with_the_teacher(
    tmp_path: Path, data: TaskData, tiny_encoder: Path, arithmetic: Arithmetic, problem: str
) -> None:
    """pipeline() reads a student's logits as the task's labels: a softmax, as for any classifier."""
    teacher = outside(tmp_path / "teacher", data)
    file = teacher / "config.json"
    hints = {"problem_type": problem, "function_to_apply": "none", "finetuning_task": "sst2"}
    hints["task_specific_params"] = {"text-classification": {"function_to_apply": "sigmoid"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | hints))
    config = configured(tiny_encoder, f"teacher.checkpoint={teacher}", "student.origin=finetuned")
    made = prepare(config, data, arithmetic, tmp_path / "runs")
    blueprint = Blueprint(made.start, config.student)
    student = build_classifier(blueprint.config, blueprint.weights(1))
    save_student(student, None, teacher, tmp_path / "student")
    read = pipeline("text-classification", str(tmp_path / "student"), device="cpu")
    (answer,) = read([{"text": "a dog runs", "text_pair": "a dog"}], top_k=None)
    assert read.model.config.problem_type == "single_label_classification"
    tokens = read.tokenizer("a dog runs", "a dog", return_tensors="pt")
    expected = read.model(**tokens).logits[0].softmax(0).tolist()
    shares = {word["label"]: word["score"] for word in answer}
    assert shares == pytest.approx(dict(zip(data.task.labels, expected, strict=True)), abs=1e-6)
    assert not {"function_to_apply", "finetuning_task"} & set(read.model.config.to_dict())
