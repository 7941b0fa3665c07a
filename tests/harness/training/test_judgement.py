"""Teachers that are no better than a constant: what they lack, and the second fine-tuning."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.compose import compose_config
from harness.config import ProtocolConfig, SourceConfig, StudyConfig
from harness.data.sources import load_task_data
from harness.data.splits import TaskData
from harness.data.tasks import load_task
from harness.data.tokens import TokenCounts
from harness.errors import TeacherError
from harness.runtime.device import Arithmetic
from harness.training import judgement, teacher
from harness.training.judgement import other_order, weakness
from harness.training.task_setup import prepare
from harness.training.teacher import Origin, Teacher
from tests.conftest import tiny_bert
from tests.harness.training.test_teacher import outside


@pytest.fixture(scope="module")
def data() -> TaskData:
    return load_task_data(load_task("rte"), SourceConfig(), ProtocolConfig())


def configured(*more: str) -> StudyConfig:
    return compose_config(
        [
            *("preset=demo", "methods=[kd]", "tasks=[rte]", "student.layers=2"),
            *("teacher.epochs=1", "teacher.batch_size=128", *more),
        ]
    )


def constant_teacher(folder: Path, data: TaskData, **changes: Any) -> Path:
    """A classifier that answers the first label, with `changes` in its config.json."""
    outside(folder, data)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] *= 0
    weights["classifier.bias"] = torch.tensor([1.0, 0.0])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def refusal(data: TaskData, arithmetic: Arithmetic, out: Path, *more: str) -> str:
    with pytest.raises(TeacherError) as found:
        prepare(configured(*more), data, arithmetic, out)
    return str(found.value)


def test_causal_attention_is_named(tmp_path: Path, data: TaskData, arithmetic: Arithmetic) -> None:
    folder = constant_teacher(tmp_path / "teacher", data, is_decoder=True)
    found = refusal(data, arithmetic, tmp_path / "runs", f"teacher.checkpoint={folder}")
    assert "a constant prediction's 0.5" in found
    assert "is_decoder: true, so that no token sees the tokens after it" in found
    assert "longer" not in found


def test_weights_that_are_no_numbers_are_named_also_where_a_weak_teacher_is_allowed(
    tmp_path: Path, data: TaskData, arithmetic: Arithmetic
) -> None:
    folder = constant_teacher(tmp_path / "teacher", data)
    weights = load_file(folder / "model.safetensors")
    weights["bert.pooler.dense.weight"][3, 4] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    more = (f"teacher.checkpoint={folder}", "teacher.allow_weak=true")
    found = refusal(data, arithmetic, tmp_path / "runs", *more)
    assert "the teacher's logits on the split 'selection' are not finite numbers" in found
    assert "1 of its 105 weights are not (bert.pooler.dense.weight)" in found


def test_a_teacher_of_something_else_is_told_so(
    tmp_path: Path, data: TaskData, arithmetic: Arithmetic
) -> None:
    folder = constant_teacher(tmp_path / "teacher", data)
    found = refusal(data, arithmetic, tmp_path / "runs", f"teacher.checkpoint={folder}")
    assert "; it was trained for something else, or pass --allow-weak-teacher" in found


def test_inverted_label_names_are_told_with_the_right_ones(data: TaskData) -> None:
    """Right in one of five examples: the names stand the other way round."""
    labels = data.selection.labels.astype(int)
    answers = np.where(np.arange(len(labels)) % 5, 1 - labels, labels)
    logits = np.eye(2, dtype=np.float32)[answers]
    first, second = data.task.labels
    for outputs, names in (((0, 1), (second, first)), ((1, 0), (first, second))):
        found = other_order(Origin(Path(), True, "", outputs), data, logits)
        assert "with its outputs in another order it would be 0.8" in found
        assert f"""'teacher.labels.rte=["{names[0]}","{names[1]}"]'""" in found
    assert other_order(Origin(Path(), True, "", (0, 1)), data, np.ones_like(logits)) == ""


def test_three_labels_in_another_order_are_found() -> None:
    data = load_task_data(load_task("mnli"), SourceConfig(), ProtocolConfig())
    labels = data.selection.labels.astype(int)
    meanings = np.array([2, 0, 1])  # the true label of each output
    logits = np.eye(3, dtype=np.float32)[np.argsort(meanings)[labels]]
    found = other_order(Origin(Path(), True, "", (0, 1, 2)), data, logits)
    names = ",".join(f'"{data.task.labels[meaning]}"' for meaning in meanings)
    assert "would be 1.000, so its config.json names its labels wrongly" in found
    assert f"teacher.labels.mnli=[{names}]" in found


def test_reversed_scores_are_told() -> None:
    data = load_task_data(load_task("stsb"), SourceConfig(), ProtocolConfig())
    scores = data.selection.labels[:, None].astype(np.float32)
    origin = Origin(Path(), True, "", (0,))
    assert other_order(origin, data, -scores).startswith("its scores fall where the labels rise")
    assert other_order(origin, data, scores) == ""


def test_unknown_tokens_come_before_other_causes(data: TaskData, arithmetic: Arithmetic) -> None:
    inputs: Any = {"selection": type("Split", (), {"counts": TokenCounts(words=100, unknown=7)})}
    made = Teacher(tiny_bert(), Path(), "", False, 0.0, True)
    asked = (Origin(Path(), False, ""), made, configured(), data, inputs, arithmetic)
    assert weakness(*asked).startswith("its tokenizer does not know 7.0 % of the tokens")
    inputs["selection"].counts = TokenCounts(words=100, unknown=1)
    assert weakness(*asked).startswith(
        "train it longer (teacher.epochs=, now 1), at another rate (teacher.learning_rate=, now 0.0003)"
    )


@pytest.fixture
def scores_by_epochs(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Scores of the teacher that was fine-tuned last, by its epochs."""
    scores: dict[int, float] = {}
    last: list[int] = []
    real = teacher._fine_tune

    def fine_tune(origin: Origin, config: StudyConfig, *others: Any) -> None:
        last.append(config.teacher.epochs)
        real(origin, config, *others)

    def scores_of(*_: Any) -> dict[str, float]:
        return {"accuracy": scores[last[-1]]}

    monkeypatch.setattr(teacher, "_fine_tune", fine_tune)
    for module in (teacher, judgement):
        monkeypatch.setattr(module, "scores_of", scores_of)
    return scores


def test_a_fine_tuning_no_better_than_a_constant_is_tried_once_more(
    tmp_path: Path,
    tiny_encoder: Path,
    data: TaskData,
    arithmetic: Arithmetic,
    scores_by_epochs: dict[int, float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = configured(f"teacher.pretrained={tiny_encoder}")
    scores_by_epochs |= {1: 0.4, 3: 0.9}
    made = prepare(config, data, arithmetic, tmp_path)
    assert len(list((tmp_path / "teachers").glob("rte-*"))) == 2
    assert not made.facts.weak
    assert made.facts.second_recipe == (
        "Fine-tuned with teacher.epochs=3 teacher.seed=1000, since the fine-tuning with "
        "teacher.epochs=1 teacher.seed=0 was no better than a constant."
    )
    assert "it is fine-tuned once more, with teacher.epochs=3" in capsys.readouterr().err
    # Another worker, which scores otherwise, decides by what the folders say.
    scores_by_epochs |= {3: 0.45}
    again = prepare(config, data, arithmetic, tmp_path)
    assert again.teacher.fingerprint == made.teacher.fingerprint
    assert (again.facts.second_recipe, again.facts.weak) == (made.facts.second_recipe, False)
    # The recipe is that of a study that names it.
    named = replace(config, teacher=replace(config.teacher, epochs=3, seed=1000))
    same = prepare(named, data, arithmetic, tmp_path)
    assert same.teacher.fingerprint == made.teacher.fingerprint
    assert same.facts.second_recipe == ""


def test_two_weak_fine_tunings_are_refused_with_the_keys(
    tmp_path: Path,
    tiny_encoder: Path,
    data: TaskData,
    arithmetic: Arithmetic,
    scores_by_epochs: dict[int, float],
) -> None:
    scores_by_epochs |= {1: 0.4, 3: 0.45}
    found = refusal(data, arithmetic, tmp_path, f"teacher.pretrained={tiny_encoder}")
    assert "also in a second fine-tuning (teacher.epochs=3 teacher.seed=1000)" in found
    assert "train it longer (teacher.epochs=, now 3)" in found
    assert "(teacher.learning_rate=, now 0.0003)" in found


def test_a_weak_teacher_that_is_allowed_is_fine_tuned_once(
    tmp_path: Path,
    tiny_encoder: Path,
    data: TaskData,
    arithmetic: Arithmetic,
    scores_by_epochs: dict[int, float],
) -> None:
    scores_by_epochs[1] = 0.4
    more = ("teacher.allow_weak=true", f"teacher.pretrained={tiny_encoder}")
    made = prepare(configured(*more), data, arithmetic, tmp_path)
    assert (made.facts.weak, made.facts.second_recipe) == (True, "")
    (folder,) = (tmp_path / "teachers").glob("rte-*")
    assert json.loads((folder / "manifest.json").read_text())["facts"]["weak"] is True
