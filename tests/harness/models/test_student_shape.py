"""The shape of students: a checkpoint's, the teacher's, or one of their own."""

import pytest
import torch
from transformers import ElectraConfig

from harness.config import StudentConfig
from harness.errors import MethodError
from harness.models.stacked import StackedClassifier
from harness.models.student import Blueprint, build_classifier
from harness.models.student_shape import student_shape
from tests.conftest import SIZES, tiny_batch, tiny_bert, tiny_inputs


def narrow(**sizes: int | None) -> StudentConfig:
    return StudentConfig(layers=2, init="random", **sizes)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, (16, 2, 32)),
        ({"width": 8}, (8, 1, 16)),
        ({"width": 24}, (24, 3, 48)),
        ({"width": 8, "heads": 4}, (8, 4, 16)),
        ({"heads": 8}, (16, 8, 32)),
        ({"intermediate": 5}, (16, 2, 5)),
        ({"width": 12, "heads": 3, "intermediate": 7}, (12, 3, 7)),
    ],
)
def test_sizes_are_given_or_keep_the_teachers_ratios(
    sizes: dict[str, int], expected: tuple[int, int, int]
) -> None:
    shape = student_shape(tiny_bert(4).config, narrow(**sizes))
    assert (shape.hidden_size, shape.num_attention_heads, shape.intermediate_size) == expected
    assert shape.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (
            {"width": 12},
            r"student.width=12 has no whole number for student.heads .* give student.heads",
        ),
        ({"width": 12, "heads": 5}, "student.width=12 is no multiple of 5 attention heads"),
        ({"width": 1, "heads": 1}, None),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int], words: str | None) -> None:
    if words is None:
        assert student_shape(tiny_bert(4).config, narrow(**sizes)).intermediate_size == 2
        return
    with pytest.raises(MethodError, match=words):
        student_shape(tiny_bert(4).config, narrow(**sizes))


def test_embeddings_are_as_wide_as_the_student_where_the_teachers_are() -> None:
    same = student_shape(ElectraConfig(**SIZES, embedding_size=16), narrow(width=8))
    other = student_shape(ElectraConfig(**SIZES, embedding_size=4), narrow(width=8))
    assert (same.embedding_size, other.embedding_size) == (8, 4)


def test_all_layers_or_more_than_the_teacher_has_only_where_none_are_copied() -> None:
    teacher = tiny_bert(3).config
    assert student_shape(teacher, StudentConfig(layers=None)).num_hidden_layers == 3
    assert student_shape(teacher, StudentConfig(layers=5, init="random")).num_hidden_layers == 5
    with pytest.raises(MethodError, match="--student-layers 5: the teacher has 3"):
        student_shape(teacher, StudentConfig(layers=5))
    with pytest.raises(MethodError, match="--student-layers 5: some/encoder has 3"):
        student_shape(teacher, StudentConfig(layers=5, checkpoint="some/encoder"))


def test_a_narrow_random_student_is_stacked_as_hugging_face_computes_it() -> None:
    made = Blueprint(tiny_bert(4), narrow(width=24, heads=6, intermediate=10))
    weights = [made.weights(seed) for seed in (1, 2, 3)]
    stacked = StackedClassifier(made.config, weights, torch.device("cpu"), torch.float32)
    rows = tiny_batch(tiny_inputs(8), range(8), 24)
    batch = {name: values.expand(3, -1, -1) for name, values in rows.items()}
    with torch.no_grad():
        found = stacked.forward(batch, None, "mean")
        for member, member_weights in enumerate(weights):
            own = build_classifier(made.config, member_weights)
            outputs = own(**rows, output_hidden_states=True)
            torch.testing.assert_close(found.logits[member], outputs.logits)
            mask = rows["attention_mask"][..., None]
            last = (outputs.hidden_states[-1] * mask).sum(1) / mask.sum(1)
            torch.testing.assert_close(found.states[member, :, -1], last)
    assert found.states.shape == (3, 8, 2, 24)
    assert not torch.equal(found.logits[0], found.logits[1])
