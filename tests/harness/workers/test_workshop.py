"""What trainers share: the materials of a task, for all configurations that they do not depend on."""

from pathlib import Path

import pytest

from harness.compose import compose_config
from harness.config import StudyConfig
from harness.workers.workshop import Workshop, materials_key, teacher_key

SETTINGS = {"methods": ["kd"], "tasks": ["rte"]}


def config(*overrides: str) -> StudyConfig:
    return compose_config(["preset=demo", *overrides], SETTINGS)


@pytest.mark.parametrize(
    ("override", "shares_teacher", "shares_materials"),
    [
        ("student.layers=2", True, True),
        ("training.epochs=9", True, True),
        ("training.batch_size=8", True, True),
        ("training.embeddings=frozen", True, True),
        ("training.stages=layers-first", True, True),
        ("search.weights=simplex", True, True),
        ("student.init=first", True, True),
        ("student.init=random", True, False),
        ("student.origin=finetuned", True, False),
        ("pooling=mean", True, False),
        ("training.weight_decay=0.1", False, False),
        ("training.warmup=0.2", False, False),
        ("training.clip_norm=2.0", False, False),
        ("training.max_length=32", False, False),
        ("training.precision=bf16", False, False),
        ("training.engine=reference", False, False),
        ("teacher.epochs=9", False, False),
        ("protocol.alpha=0.1", False, False),
    ],
)
def test_the_keys_of_teachers_and_materials(
    override: str, shares_teacher: bool, shares_materials: bool
) -> None:
    plain, other = (
        config("student.origin=pretrained"),
        config("student.origin=pretrained", override),
    )
    assert (teacher_key(plain, "rte") == teacher_key(other, "rte")) is shares_teacher
    assert (materials_key(plain, "rte") == materials_key(other, "rte")) is shares_materials
    assert teacher_key(plain, "rte") != teacher_key(plain, "cola")


def test_trainers_of_two_depths_share_what_is_prepared(tiny_encoder: Path, tmp_path: Path) -> None:
    words = (f"teacher.pretrained={tiny_encoder}", "teacher.epochs=1", f"out={tmp_path}")
    shared = (*words, "teacher.allow_weak=true", "device=cpu")
    workshop = Workshop()
    first = workshop.trainer(config(*shared, "student.layers=2"), "rte")
    second = workshop.trainer(config(*shared, "student.layers=1"), "rte")
    assert second is not first
    assert second.materials is first.materials
    assert (
        first.prepared.outcome.shapes.student_layers,
        second.blueprint.config.num_hidden_layers,
    ) == (
        2,
        1,
    )
    third = workshop.trainer(config(*shared, "student.layers=1", "pooling=mean"), "rte")
    assert third.materials is not first.materials
    assert workshop.trainer(config(*shared, "student.layers=1"), "rte") is second
