"""Limits in which one method must be another one, or have a known value, exactly."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from harness.errors import MethodError
from harness.evaluation.inspection import inspect_run
from harness.method import Layers, Method
from harness.method.layer_maps import buckets, skip_map
from harness.method.losses import mean_squared_error
from harness.models.teacher_outputs import TeacherOutputs
from harness.runtime.randomness import generator
from tests.methods.builders import (
    EQUAL_SHAPES,
    EXAMPLES,
    METHODS,
    UNEQUAL_SHAPES,
    batch,
    build,
    context,
    middle,
    shift_parameters,
)


def layer_term(method: Method, student: Tensor, teacher: Tensor) -> float:
    logits = torch.zeros(len(student), 2, dtype=torch.float64)
    labels = torch.zeros(len(student), dtype=torch.int64)
    terms = method(Layers(logits, student), Layers(logits, teacher), labels, context({}))
    return terms["layer"].detach().item()


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("value", ["raw", "projected"])
def test_alp_starts_as_alp_np(scaled: bool, value: str) -> None:
    student, teacher, _ = batch()
    learned = build("alp", scaled=scaled, value=value).double()
    plain_method = build("alp-np", scaled=scaled).double()
    expected = layer_term(plain_method, student.states, teacher.states)
    assert layer_term(learned, student.states, teacher.states) == pytest.approx(expected, abs=1e-12)
    assert layer_term(shift_parameters(learned), student.states, teacher.states) != pytest.approx(
        expected
    )


def test_alp_np_with_equal_teacher_layers_is_uniform() -> None:
    student, teacher, _ = batch()
    same = teacher.states[:, :1].expand(-1, EQUAL_SHAPES.teacher_layers, -1)
    attention_method, flat_method = build("alp-np").double(), build("uniform").double()
    expected = layer_term(flat_method, student.states, same)
    assert layer_term(attention_method, student.states, same) == pytest.approx(expected, abs=1e-12)
    different = layer_term(flat_method, student.states, teacher.states)
    assert layer_term(attention_method, student.states, teacher.states) != pytest.approx(different)


def test_alp_np_with_equal_energies_is_uniform() -> None:
    """States of zero have the same energy with every teacher layer."""
    _, teacher, _ = batch()
    zero_states = torch.zeros(
        EXAMPLES, EQUAL_SHAPES.student_layers, EQUAL_SHAPES.student_width, dtype=torch.float64
    )
    expected = layer_term(build("uniform").double(), zero_states, teacher.states)
    assert expected > 1e-3
    for name in ("alp", "alp-np"):
        found = layer_term(build(name).double(), zero_states, teacher.states)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scaled", [True, False])
def test_alp_with_its_keys_frozen_has_the_gradients_of_alp_np(scaled: bool) -> None:
    gradients = []
    for name in ("alp", "alp-np"):
        method = build(name, scaled=scaled).double().requires_grad_(False)
        student, teacher, labels = batch()
        loss = method(student, teacher, labels, context({}))["layer"]
        gradients.append(torch.autograd.grad(loss, student.states)[0])
    assert gradients[0].norm() > 1e-3
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("name", ["alp-no", "alp-po"])
def test_one_bucket_of_all_layers_makes_it_alp(name: str) -> None:
    shapes = replace(EQUAL_SHAPES, student_layers=1)
    student, teacher, _ = batch(shapes)
    expected = layer_term(shift_parameters(build("alp", shapes)), student.states, teacher.states)
    found = layer_term(shift_parameters(build(name, shapes)), student.states, teacher.states)
    assert found == pytest.approx(expected, abs=1e-12)
    assert buckets(1, 6, overlap=int(name == "alp-po")) == [[1, 2, 3, 4, 5, 6]]


def test_buckets_of_one_layer_are_one_to_one() -> None:
    shapes = replace(EQUAL_SHAPES, student_layers=EQUAL_SHAPES.teacher_layers)
    student, teacher, _ = batch(shapes)
    expected = mean_squared_error(student.states, teacher.states).item()
    attention_method = shift_parameters(build("alp-no", shapes))
    assert layer_term(attention_method, student.states, teacher.states) == pytest.approx(expected)
    for direction in ("to-teacher", "to-student"):
        joined = build("ckd-no", shapes, direction=direction, normalised=False).double()
        for name, parameter in joined.named_parameters():
            if name.endswith("weight"):
                parameter.data = torch.eye(8, dtype=torch.float64)
        assert layer_term(joined, student.states, teacher.states) == pytest.approx(expected)


def test_static_mix_starts_as_uniform_and_can_become_all_to_last() -> None:
    student, teacher, _ = batch()
    mixed, flat_method = build("static-mix").double(), build("uniform").double()
    expected = layer_term(flat_method, student.states, teacher.states)
    assert layer_term(mixed, student.states, teacher.states) == pytest.approx(expected, abs=1e-12)
    mixed.get_parameter("logits").data[:, -1] = 10.0
    last = build("all-to-last", normalised=False).double()
    expected = layer_term(last, student.states, teacher.states)
    assert layer_term(mixed, student.states, teacher.states) == pytest.approx(expected, abs=1e-12)


def test_emd_of_copied_layers_is_zero() -> None:
    """A student whose layers are all of the teacher's, in any order, moves nothing."""
    shapes = replace(EQUAL_SHAPES, student_layers=EQUAL_SHAPES.teacher_layers)
    _, teacher, _ = batch(shapes)
    method = build("emd", shapes).double()
    copied = teacher.states[:, [3, 0, 5, 1, 4, 2]].clone()
    assert layer_term(method, copied, teacher.states) == pytest.approx(0.0, abs=1e-12)
    assert layer_term(method, copied + 0.1, teacher.states) > 1e-3


@pytest.mark.parametrize(
    "name", ["tinybert", "minilm", "minilm-v1", "distilbert", "forward-matching"]
)
def test_a_student_with_the_teachers_tokens_has_no_loss(name: str) -> None:
    shapes = replace(EQUAL_SHAPES, student_layers=EQUAL_SHAPES.teacher_layers)
    method = build(name, shapes).double()
    _, teacher, labels = batch(shapes, needs=method.needs)
    found = method(teacher, teacher, labels, context({}))["layer"]
    assert found.detach().item() == pytest.approx(0.0, abs=1e-12)


MAPS = {"pkd-skip": [2, 4], "pkd-last": [4, 5], "reverse": [4, 2], "all-to-last": [6, 6, 6]}


@pytest.mark.parametrize("name", MAPS)
def test_a_student_with_the_matched_layers_has_no_loss(name: str) -> None:
    _, teacher, _ = batch()
    method = build(name).double()
    layers = [layer - 1 for layer in MAPS[name]]
    layers += [0] * (EQUAL_SHAPES.student_layers - len(layers))
    copied = teacher.states[:, layers].clone()
    assert layer_term(method, 3 * copied, teacher.states) == pytest.approx(0.0, abs=1e-24)
    others = teacher.states[:, [layers[0] - 1, *layers[1:]]]
    assert layer_term(method, others, teacher.states) > 1e-3


@pytest.mark.parametrize("name", ["pkd-skip", "pkd-last"])
def test_a_student_equal_to_its_teacher_has_no_loss(name: str) -> None:
    shapes = replace(EQUAL_SHAPES, student_layers=EQUAL_SHAPES.teacher_layers)
    _, teacher, _ = batch(shapes)
    method = build(name, shapes).double()
    assert layer_term(method, teacher.states.clone(), teacher.states) == 0.0
    assert layer_term(method, teacher.states.flip(1), teacher.states) > 1e-3


@pytest.mark.parametrize(
    "name", ["pkd-skip", "pkd-last", "reverse", "random-map", "rail", "universal"]
)
def test_without_a_pair_of_layers_a_method_is_refused(name: str) -> None:
    with pytest.raises(MethodError, match=f"^{name} .* at least 2"):
        build(name, replace(EQUAL_SHAPES, student_layers=1))


@pytest.mark.parametrize("name", METHODS)
def test_a_student_deeper_than_its_teacher_is_refused_or_works(name: str) -> None:
    deep_shapes = replace(EQUAL_SHAPES, student_layers=7)
    refusals = []
    try:
        method = build(name, deep_shapes).double()
    except MethodError as error:
        refusals.append(str(error))
    else:
        terms = method(*batch(deep_shapes, needs=method.needs), context(middle(METHODS[name])))
        assert all(torch.isfinite(term) for term in terms.values()), f"{name}: `require_depth`"
    assert set(refusals) <= {f"{name} needs a student no deeper than its teacher"}


@pytest.mark.parametrize(
    ("students", "teachers"), [(m, n) for n in (6, 12) for m in range(1, n + 1)]
)
def test_maps_and_buckets_cover_the_teacher(students: int, teachers: int) -> None:
    layers = skip_map(students, teachers)
    assert layers[-1] == teachers
    assert layers == sorted(set(layers))
    buckets_without_overlap = buckets(students, teachers, overlap=0)
    assert [layer for bucket in buckets_without_overlap for layer in bucket] == list(
        range(1, teachers + 1)
    )
    assert [bucket[-1] for bucket in buckets_without_overlap] == layers
    for one, other in pairwise(buckets(students, teachers, overlap=1)):
        assert set(one) & set(other) == {other[0]}
    for one, other in pairwise(buckets(students, teachers, overlap=2)):
        assert set(one) & set(other) == {other[0], other[1]} == {one[-2], one[-1]}


def test_maps_and_buckets_of_twelve_layers_for_four() -> None:
    assert skip_map(4, 12) == [3, 6, 9, 12]
    assert buckets(4, 12, overlap=0) == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
    assert buckets(4, 12, overlap=1)[0] == [1, 2, 3, 4]
    assert buckets(4, 12, overlap=1)[3] == [10, 11, 12]
    assert buckets(4, 12, overlap=2) == [
        [1, 2, 3, 4],
        [3, 4, 5, 6, 7],
        [6, 7, 8, 9, 10],
        [9, 10, 11, 12],
    ]
    assert skip_map(4, 6) == [2, 3, 5, 6]


def test_two_buckets_of_six_layers_overlap_as_in_the_code_of_ckd() -> None:
    assert buckets(2, 6, overlap=1) == [[1, 2, 3, 4], [4, 5, 6]]
    assert buckets(2, 6, overlap=2) == [[1, 2, 3, 4], [3, 4, 5, 6]]


@pytest.mark.parametrize(
    "name", ["alp-np", "pkd-skip", "pkd-last", "reverse", "random-map", "all-to-last"]
)
def test_different_widths_are_refused_naming_alp(name: str) -> None:
    with pytest.raises(MethodError, match=rf"^{name} needs .*\(6 and 8\); use alp$"):
        build(name, UNEQUAL_SHAPES)
    build("alp", UNEQUAL_SHAPES)


@pytest.mark.parametrize("attention_method", ["alp", "alp-np"])
def test_attention_is_a_distribution_and_scaling_flattens_it(attention_method: str) -> None:
    student, teacher, _ = batch()
    entropies = []
    for scaled in (True, False):
        found = build(attention_method, scaled=scaled).double().inspect(student, teacher)
        attention = found["attention"]
        assert attention.shape == (
            EXAMPLES,
            EQUAL_SHAPES.student_layers,
            EQUAL_SHAPES.teacher_layers,
        )
        torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))
        mixed = torch.einsum("bmn,bnd->bmd", attention, teacher.states)
        torch.testing.assert_close(found["target"], mixed)
        entropies.append(torch.special.entr(attention).sum(-1).mean().item())
    assert entropies[0] > entropies[1] + 0.1


@pytest.mark.parametrize("gap", [12.0, 200.0, 1e4])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_universal_stays_finite_when_a_share_is_too_small_for_a_number(
    gap: float, temperature: float
) -> None:
    method = build("universal")
    method.get_parameter("teacher_biases").data[:, 0] = gap
    student, teacher, labels = (
        tree_map(lambda own: own.detach().float() if own.is_floating_point() else own, part)
        for part in batch()
    )
    student.states.requires_grad_()
    scalars = {"temperature": torch.tensor(temperature)}
    loss = method(student, teacher, labels, context(scalars))["layer"]
    loss.backward()
    assert torch.isfinite(loss)
    assert student.states.grad is not None
    assert torch.isfinite(student.states.grad).all()
    assert student.states.grad.norm() > 0


@pytest.mark.parametrize("name", ["alp", "alp-np", "alp-no", "alp-po", "uniform"])
def test_equal_weights_have_all_of_the_entropy_that_there_can_be(name: str) -> None:
    _, teacher, _ = batch()
    zero_states = torch.zeros(EXAMPLES, EQUAL_SHAPES.student_layers, EQUAL_SHAPES.student_width)
    outputs = TeacherOutputs(teacher.logits.float(), teacher.states.float())
    student = Layers(torch.zeros(EXAMPLES, 3), zero_states)
    facts = inspect_run(build(name), "validation", student, outputs)["targets"]
    assert facts["entropy"] == pytest.approx([1.0] * EQUAL_SHAPES.student_layers, abs=1e-6)
    assert np.sum(facts["map"], axis=1) == pytest.approx(1.0, abs=1e-6)


def test_a_peaked_attention_has_less_entropy_and_one_layer_of_many_none() -> None:
    class Fixed(type(build("uniform"))):  # type: ignore[misc]
        def mixture(self, queries: Tensor, states: Tensor) -> Tensor:
            return torch.tensor(
                [[0.9, 0.1, 0, 0, 0, 0], [0, 0, 1.0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0]]
            )

    _, teacher, _ = batch()
    outputs = TeacherOutputs(teacher.logits.float(), teacher.states.float())
    student = Layers(torch.zeros(EXAMPLES, 3), torch.zeros(EXAMPLES, 3, EQUAL_SHAPES.student_width))
    method = Fixed(EQUAL_SHAPES, {}, generator("fixed"))
    facts = inspect_run(method, "validation", student, outputs)["targets"]
    peaked = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    expected = [peaked / math.log(6), 0.0, math.log(2) / math.log(6)]
    assert facts["entropy"] == pytest.approx(expected, abs=1e-6)


def test_the_only_layer_of_a_bucket_has_all_of_the_entropy() -> None:
    """Buckets of 2, 2 and 1 layers; nearly one-hot attention has none where there is a choice."""
    shapes = replace(EQUAL_SHAPES, teacher_layers=5)
    method = build("alp-no", shapes, scaled=False)
    generator = torch.Generator().manual_seed(0)
    states = 100 * torch.randn(4, 5, EQUAL_SHAPES.teacher_width, generator=generator)
    outputs = TeacherOutputs(torch.zeros(4, 3), states)
    student = Layers(
        torch.zeros(4, 3), 100 * torch.randn(4, 3, EQUAL_SHAPES.student_width, generator=generator)
    )
    facts = inspect_run(method, "validation", student, outputs)["targets"]
    sizes = method.get_buffer("layer_mask").sum(1).tolist()
    assert sorted(sizes) == [1, 2, 2]
    for size, entropy in zip(sizes, facts["entropy"], strict=True):
        assert entropy == pytest.approx(1.0 if size == 1 else 0.0, abs=1e-3)


def test_tinybert_needs_the_teachers_heads_and_minilm_does_not() -> None:
    with pytest.raises(
        MethodError, match=r"tinybert needs a student with as many .*\(1 and 2\); use minilm"
    ):
        build("tinybert", replace(EQUAL_SHAPES, student_heads=1))
    build("minilm", replace(EQUAL_SHAPES, student_heads=1))
    with pytest.raises(MethodError, match=r"\(4; 6 and 8\); use search.space.relation_heads=\[2\]"):
        build("minilm", UNEQUAL_SHAPES, relation_heads=4)
    build("minilm", UNEQUAL_SHAPES, relation_heads=2)
