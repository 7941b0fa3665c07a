"""Each method's term against a second float64 implementation: plain loops over METHODS' formulas."""

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
import torch

from harness.errors import MethodError
from harness.method import Context, Layers, Method, Shapes, Value
from harness.method.losses import distillation_loss, objective
from harness.registry import made_up
from harness.registry.discovery import registry
from harness.registry.space import any_value
from harness.runtime.randomness import generator, global_seed
from tests.methods.builders import own_weights
from tests.methods.mgskd_oracle import mgskd
from tests.methods.oracles import (
    MAPS,
    TERM_ORACLES,
    TOKEN_MAPS,
    Array,
    Batch,
    Options,
    Side,
    Weights,
    divergence,
    emd_plan,
    pseudo_outputs,
    softmax,
)

ORACLES = {**TERM_ORACLES, "mgskd": mgskd}
PLACES = 5
LENGTHS = {1: (3,), 7: made_up.LENGTHS}
WORDS = {1: [[0, 1, 2, -1, -1]], 7: made_up.WORDS.tolist()}
OPTIONS: dict[str, Value] = {
    name: any_value(hyper)
    for method in registry().methods.values()
    for name, hyper in method.space.items()
    if hyper.kind == "structural"
} | {"layers": "mapped"}
SCALARS: dict[str, float] = {
    name: float(hyper.default)
    for method in registry().methods.values()
    for name, hyper in method.space.items()
    if hyper.kind == "scalar" and hyper.default is not None
} | {"max_temperature": 7.0, "first_share": 0.6, "margin": 0.5}
SHAPE = Shapes(6, 8, 4, 8, 3, teacher_heads=2, student_heads=2, epochs=4)
DEPTHS = [(m, n, b) for m in (2, 3, 4, 6) for n in (6, 12) for b in (1, 7)] + [(5, 12, 7)]
EQUAL_WIDTHS = {"alp-np", *MAPS}
ANY_WIDTH = sorted(set(ORACLES) - EQUAL_WIDTHS)
WITH_LAYERS = [name for name in ORACLES if "layers" in registry().resolve(name).space]
RATIOS = [
    (name, ratio)
    for name in ORACLES
    for ratio in SCALARS
    if ratio in registry().resolve(name).space and ratio.endswith("_ratio")
]
READ_TOKENS = [name for name in ORACLES if registry().resolve(name).needs]
COMPARE_EXAMPLES = {"rkd", "cka", "spkd"}
"""Methods without a loss where there is one example."""
SPREADS = {"static-mix": 0.01}  # its logits count a hundredfold


def build(name: str, shapes: Shapes, options: Options) -> Method:
    """A float64 method whose learned maps are away from their initial values."""
    with global_seed("oracle", name):
        method = registry().resolve(name)(shapes, options, generator("oracle", name)).double()
        for parameter in method.parameters():
            parameter.data += SPREADS.get(name, 0.3) * torch.randn_like(parameter)
    return method


def draw(shapes: Shapes, examples: int, epoch: int = 1, temperature: float = 3.0) -> Batch:
    """Everything that a method may read, at random, at padded places too.

    What is read of attention varies less: methods turn it into fp32, whose rounding then stays small.
    """
    sizes = [shapes.student_layers, shapes.teacher_layers, examples]
    rng, logit_rng = np.random.default_rng(sizes), np.random.default_rng([*sizes, 1])

    def side(layers: int, width: int, heads: int, shift: float) -> Side:
        def normal(*size: int, spread: float = 1.5) -> Array:
            return rng.normal(size=size) * spread + shift

        return Side(
            1.5 * logit_rng.normal(size=(examples, shapes.outputs)) + shift,
            normal(examples, layers, width),
            normal(layers + 1, examples, PLACES, width),
            normal(layers, examples, heads, PLACES, PLACES, spread=0.7),
            *(
                normal(layers, examples, heads, PLACES, width // heads, spread=0.7)
                for _ in range(3)
            ),
        )

    student = side(shapes.student_layers, shapes.student_width, shapes.student_heads, 0.0)
    teacher = side(shapes.teacher_layers, shapes.teacher_width, shapes.teacher_heads, 0.2)
    classes = rng.integers(shapes.outputs, size=examples)
    labels = classes if shapes.outputs > 1 else rng.normal(size=examples) + 2
    scalars = {**SCALARS, "temperature": temperature}
    lengths, words = LENGTHS[examples], WORDS[examples]
    return Batch(student, teacher, labels, lengths, epoch, scalars, words=words)


def layers(side: Side) -> Layers:
    logits, states, *rest = [torch.from_numpy(getattr(side, field.name)) for field in fields(side)]
    return Layers(logits, states, *(tuple(part) for part in rest))


def term(method: Method, batch: Batch, student: Layers | None = None) -> torch.Tensor:
    context = Context(
        torch.tensor(batch.epoch),
        {n: torch.tensor(value, dtype=torch.float64) for n, value in batch.scalars.items()},
        torch.arange(PLACES) < torch.tensor(batch.lengths)[:, None],
        torch.tensor(batch.progress, dtype=torch.float64),
        torch.tensor(batch.words),
    )
    terms = method(
        student or layers(batch.student),
        layers(batch.teacher),
        torch.from_numpy(batch.labels),
        context,
    )
    (found,) = terms.values()
    assert set(terms) == {"layer" if method.matches_layers() else "logits"}
    assert found.dtype == torch.float64
    return found


def weights_of(method: Method) -> Weights:
    return {name: value.numpy() for name, value in method.state_dict().items()}


def compare(name: str, shapes: Shapes, batch: Batch, **options: Value) -> float:
    """The term, equal to its oracle's."""
    method = build(name, shapes, OPTIONS | options)
    expected = ORACLES[name](batch, weights_of(method), OPTIONS | options)
    assert expected > 1e-3 or (name in COMPARE_EXAMPLES and len(batch.lengths) == 1)
    found = term(method, batch).detach().item()
    assert found == pytest.approx(expected, abs=1e-6, rel=0)
    return found


def all_differ(values: Sequence[float]) -> bool:
    return float(np.diff(sorted(values)).min()) > 1e-3


def test_every_method_with_a_term_here_has_an_oracle() -> None:
    ours = {
        name
        for name, method in registry().methods.items()
        if own_weights(method) and method.__module__.startswith("methods.")
    }
    assert ours == set(ORACLES)


@pytest.mark.parametrize(("m", "n", "examples"), DEPTHS)
@pytest.mark.parametrize("name", ORACLES)
def test_terms_equal_plain_loops(name: str, m: int, n: int, examples: int) -> None:
    shapes = replace(SHAPE, teacher_layers=n, student_layers=m)
    compare(name, shapes, draw(shapes, examples))


@pytest.mark.parametrize(("m", "n", "examples"), DEPTHS)
@pytest.mark.parametrize("name", ANY_WIDTH)
@pytest.mark.parametrize("width", [4, 10])
def test_terms_equal_plain_loops_with_different_widths(
    name: str, width: int, m: int, n: int, examples: int
) -> None:
    shapes = replace(SHAPE, teacher_layers=n, student_layers=m, student_width=width)
    compare(name, shapes, draw(shapes, examples))


@pytest.mark.parametrize("name", sorted(EQUAL_WIDTHS))
@pytest.mark.parametrize("width", [4, 10])
def test_methods_without_a_map_between_widths_refuse_them(name: str, width: int) -> None:
    with pytest.raises(MethodError, match=f"{width} and 8"):
        build(name, replace(SHAPE, student_width=width), OPTIONS)


@pytest.mark.parametrize("name", ORACLES)
def test_a_student_of_one_layer_equals_plain_loops_or_leaves_nothing_to_match(name: str) -> None:
    shapes = replace(SHAPE, student_layers=1)
    if name in {"rail", "universal", *MAPS} - {"all-to-last"}:
        with pytest.raises(MethodError, match="at least 2"):
            build(name, shapes, OPTIONS)
    else:
        compare(name, shapes, draw(shapes, 7))


@pytest.mark.parametrize("name", ORACLES)
def test_simplex_weights_scale_a_maps_errors_by_the_width(name: str) -> None:
    scale = 8 if name in MAPS else 8 / 32 if name in TOKEN_MAPS else 1
    assert build(name, SHAPE, OPTIONS).simplex_scale == scale


@pytest.mark.parametrize("name", ["alp", "alp-no", "alp-po"])
@pytest.mark.parametrize("width", [8, 4])
def test_options_of_attention_equal_plain_loops(name: str, width: int) -> None:
    shapes = replace(SHAPE, student_width=width)
    batch = draw(shapes, 7)
    choices = [(scaled, value) for scaled in (True, False) for value in ("raw", "projected")]
    found = [compare(name, shapes, batch, scaled=s, value=v) for s, v in choices]
    assert all_differ(found)


def test_alp_nps_unscaled_attention_equals_plain_loops() -> None:
    batch = draw(SHAPE, 7)
    assert all_differ([compare("alp-np", SHAPE, batch, scaled=scaled) for scaled in (True, False)])


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("depth", [2, 4, 6])
def test_mapped_states_as_they_are_equal_plain_loops(name: str, depth: int) -> None:
    shapes = replace(SHAPE, student_layers=depth)
    batch = draw(shapes, 7)
    assert all_differ([compare(name, shapes, batch, normalised=n) for n in (True, False)])


@pytest.mark.parametrize("name", ["ckd-no", "ckd-po"])
@pytest.mark.parametrize("width", [8, 4, 10])
@pytest.mark.parametrize("depth", [2, 4, 5])
def test_ckds_directions_and_lengths_equal_plain_loops(name: str, width: int, depth: int) -> None:
    shapes = replace(SHAPE, student_width=width, student_layers=depth)
    batch = draw(shapes, 7)
    choices = product(("to-teacher", "to-student"), (True, False))
    assert all_differ([compare(name, shapes, batch, direction=d, normalised=n) for d, n in choices])


@pytest.mark.parametrize("name", ["ckd-po", "alp-po"])
@pytest.mark.parametrize(("m", "n"), [(2, 6), (3, 6), (4, 12), (5, 12), (6, 6)])
def test_buckets_share_one_layer_or_two(name: str, m: int, n: int) -> None:
    shapes = replace(SHAPE, teacher_layers=n, student_layers=m)
    batch = draw(shapes, 7)
    apart = compare(name.replace("po", "no"), shapes, batch)
    shared = [compare(name, shapes, batch, overlap=overlap) for overlap in (1, 2)]
    assert all_differ([apart, *shared])


@pytest.mark.parametrize("name", WITH_LAYERS)
@pytest.mark.parametrize("width", [8, 4])
def test_the_last_or_all_layers_are_compared(name: str, width: int) -> None:
    shapes = replace(SHAPE, student_width=width)
    batch = draw(shapes, 7)
    last, mapped = (compare(name, shapes, batch, layers=layers) for layers in ("last", "mapped"))
    assert abs(last - mapped) > 1e-3
    deep = replace(shapes, student_layers=7)
    compare(name, deep, draw(deep, 7), layers="last")
    with pytest.raises(MethodError, match="no deeper"):
        build(name, deep, OPTIONS | {"layers": "mapped"})


@pytest.mark.parametrize("name", sorted(COMPARE_EXAMPLES))
@pytest.mark.parametrize("kind", ["one example", "a constant student", "two equal examples"])
def test_without_a_relation_between_examples_losses_and_gradients_are_finite(
    name: str, kind: str
) -> None:
    method, batch = build(name, SHAPE, OPTIONS), draw(SHAPE, 1 if kind == "one example" else 7)
    student = layers(batch.student)
    if kind == "a constant student":
        student = replace(student, states=torch.ones_like(student.states))
    elif kind == "two equal examples":
        student.states[1] = student.states[0]
    student.states.requires_grad_()
    loss = term(method, batch, student)
    (found,) = torch.autograd.grad(loss, student.states)
    assert torch.isfinite(loss)
    assert torch.isfinite(found).all()
    if kind == "one example":
        assert loss == 0
        assert not found.any()


@pytest.mark.parametrize(("name", "ratio"), RATIOS)
@pytest.mark.parametrize("heat", [1.0, 3.0])
def test_ratios_and_temperatures_of_a_loss_equal_plain_loops(
    name: str, ratio: str, heat: float
) -> None:
    batch = draw(SHAPE, 7, temperature=heat)
    choices = [replace(batch, scalars={**batch.scalars, ratio: value}) for value in (0.3, 3.0)]
    assert all_differ([compare(name, SHAPE, choice) for choice in choices])


def test_decoupled_distillation_with_the_examples_own_ratio_is_distillation() -> None:
    """KL = KL of the label's share + (1 − the label's share) · KL among the others."""
    one = draw(SHAPE, 1)
    heat, label = one.temperature, int(one.labels[0])
    found, expected = softmax(one.student.logits[0] / heat), softmax(one.teacher.logits[0] / heat)
    ratio = 1 - expected[label]
    found_term = compare("dkd", SHAPE, replace(one, scalars={**one.scalars, "other_ratio": ratio}))
    assert found_term == pytest.approx(heat**2 * divergence(expected, found), abs=1e-9)


@pytest.mark.parametrize("ratio", [0.1, 8.0])
def test_two_classes_leave_decoupled_distillation_no_others(ratio: float) -> None:
    shapes = replace(SHAPE, outputs=2)
    batch = draw(shapes, 7)
    batch = replace(batch, scalars={**batch.scalars, "other_ratio": ratio})
    found = compare("dkd", shapes, batch)
    logits = [torch.from_numpy(side.logits) for side in (batch.student, batch.teacher)]
    expected = distillation_loss(*logits, torch.tensor(batch.temperature), regression=False)
    assert found == pytest.approx(expected.item(), abs=1e-9)


def test_two_classes_leave_dist_its_relations_within_classes() -> None:
    shapes = replace(SHAPE, outputs=2)
    batch = draw(shapes, 7)
    student = layers(batch.student)
    student.logits.requires_grad_()
    gradients = []
    for ratio in (1.0, 2.0):
        given = replace(batch, scalars={**batch.scalars, "intra_ratio": ratio})
        loss = term(build("dist", shapes, OPTIONS), given, student)
        gradients += torch.autograd.grad(loss, student.logits)
    assert gradients[0].norm() > 1e-3
    torch.testing.assert_close(2 * gradients[0], gradients[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["dist", "dkd"])
def test_losses_between_classes_refuse_a_regression(name: str) -> None:
    with pytest.raises(MethodError, match=f"^{name} compares .* a regression has none; use kd$"):
        build(name, replace(SHAPE, outputs=1), OPTIONS)


@pytest.mark.parametrize("form", ["layer-wise", "concatenated"])
@pytest.mark.parametrize("width", [8, 4, 10])
@pytest.mark.parametrize(("m", "examples"), [(2, 1), (4, 7)])
def test_rail_reads_the_layers_of_its_epoch(form: str, width: int, m: int, examples: int) -> None:
    shapes = replace(SHAPE, teacher_layers=12, student_layers=m, student_width=width)
    drawn = weights_of(build("rail", shapes, OPTIONS | {"compared": form}))["epoch_layers"]
    rows = {tuple(row): epoch for epoch, row in enumerate(drawn.tolist())}
    assert len(rows) > 1
    batches = {epoch: draw(shapes, examples, epoch) for epoch in range(shapes.epochs)}
    found = {e: compare("rail", shapes, batch, compared=form) for e, batch in batches.items()}
    assert all_differ([found[epoch] for epoch in rows.values()])


@pytest.mark.parametrize("width", [8, 4, 10])
@pytest.mark.parametrize("examples", LENGTHS)
@pytest.mark.parametrize("classes", [2, 3])
def test_universal_at_two_temperatures(width: int, examples: int, classes: int) -> None:
    shapes = replace(SHAPE, student_width=width, outputs=classes)
    batches = [draw(shapes, examples, temperature=heat) for heat in (1.0, 3.0)]
    assert all_differ([compare("universal", shapes, batch) for batch in batches])


@pytest.mark.parametrize("width", [8, 4, 10])
@pytest.mark.parametrize("examples", LENGTHS)
def test_universal_of_a_regression_ignores_the_temperature(width: int, examples: int) -> None:
    shapes = replace(SHAPE, student_width=width, outputs=1)
    batches = [draw(shapes, examples, temperature=heat) for heat in (1.0, 3.0)]
    one, three = [compare("universal", shapes, batch) for batch in batches]
    assert one == three


def test_universals_target_teaches_its_classifiers_nothing() -> None:
    """Their gradient is that of the labels: Σ over examples of t_i (softmax(p_i) − onehot)ᵀ."""
    method, batch = build("universal", SHAPE, OPTIONS), draw(SHAPE, 7)
    own = method.get_parameter("teacher_heads")
    (found,) = torch.autograd.grad(term(method, batch), own)
    expected = np.zeros(own.shape)
    for (_, states), label in zip(batch.examples(), batch.labels.tolist(), strict=True):
        for i, guess in enumerate(pseudo_outputs(weights_of(method), "teacher", states)):
            error = np.array(softmax(guess)) - np.eye(SHAPE.outputs)[label]
            expected[i] += np.outer(states[i], error) / (7 * len(own))
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-9)
    assert np.abs(expected).max() > 1e-2


def test_emds_plan_has_no_gradient() -> None:
    """A state's gradient is Σ_i P_ji · 2(s_j − t_i) / (B·d), with P held."""
    method, batch = build("emd", SHAPE, OPTIONS), draw(SHAPE, 7)
    student = layers(batch.student)
    student.states.requires_grad_()
    (found,) = torch.autograd.grad(term(method, batch, student), student.states)
    plan, _ = emd_plan(batch, {})
    expected = np.zeros(found.shape)
    for b, (states, teachers) in enumerate(batch.examples()):
        for j, state in enumerate(states):
            for p, teacher in zip(plan[j], teachers, strict=True):
                expected[b, j] += p * 2 * (state - teacher) / (7 * len(state))
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-7)
    assert np.abs(expected).max() > 1e-2


@pytest.mark.parametrize("examples", LENGTHS)
@pytest.mark.parametrize(("width", "heads", "relations"), [(8, 4, 4), (12, 4, 2), (8, 1, 8)])
def test_relations_are_cut_into_relation_heads(
    width: int, heads: int, relations: int, examples: int
) -> None:
    shapes = replace(SHAPE, student_width=width, student_heads=heads)
    batch = draw(shapes, examples)
    found = [compare("minilm", shapes, batch, relation_heads=r) for r in (1, relations)]
    assert all_differ(found)


@pytest.mark.parametrize(("teacher", "heads"), [(768, 48), (1024, 64), (384, 24), (8, 1)])
def test_a_relation_head_has_sixteen_of_the_teachers_numbers(teacher: int, heads: int) -> None:
    shapes = replace(SHAPE, teacher_width=teacher, student_width=2 * heads)
    assert build("minilm", shapes, OPTIONS).relation_heads == heads


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.7])
def test_pkds_published_weights_have_an_equal_here(classes: int, alpha: float) -> None:
    """Its code: (1 − α) · label + α · KD / C + β · term, KD summed over C classes."""
    label, kd, layer, beta = 0.7, 2.3, 0.01, 100.0
    published = (1 - alpha) * label + alpha * kd / classes + beta * layer
    factor = 1 - alpha + alpha / classes
    terms = {"label": torch.tensor(label), "kd": torch.tensor(kd), "layer": torch.tensor(layer)}
    weights = {"kd_weight": alpha / classes / factor, "layer_weight": beta / factor}
    scalars = {name: torch.tensor(value, dtype=torch.float64) for name, value in weights.items()}
    assert factor * objective(terms, scalars, "convex").item() == pytest.approx(published, rel=1e-6)
    shown = f"{weights['kd_weight']:.2f}".lstrip("0")
    assert shown in (registry().resolve("pkd-skip").__doc__ or "")


def test_minilm_v1_needs_the_teachers_heads() -> None:
    with pytest.raises(MethodError, match=r"minilm-v1 .* \(4 and 2\); use minilm"):
        build("minilm-v1", replace(SHAPE, student_heads=4), OPTIONS)


def test_tinybert_refuses_other_heads_than_its_teachers() -> None:
    with pytest.raises(MethodError, match="heads"):
        build("tinybert", replace(SHAPE, student_heads=4), OPTIONS)


@pytest.mark.parametrize("examples", LENGTHS)
@pytest.mark.parametrize("width", [8, 4])
@pytest.mark.parametrize("name", READ_TOKENS)
def test_padded_places_do_not_count(name: str, width: int, examples: int) -> None:
    shapes = replace(SHAPE, student_width=width)
    method, batch = build(name, shapes, OPTIONS), draw(shapes, examples)
    rng = np.random.default_rng(examples)
    tokens = np.arange(PLACES) < np.array(batch.lengths)[:, None]
    kept = {
        "tokens": tokens[None, :, :, None],
        "scores": tokens[None, :, None, :, None] & tokens[None, :, None, None, :],
        **dict.fromkeys(("queries", "keys", "values"), tokens[None, :, None, :, None]),
    }

    def elsewhere(side: Side) -> Side:
        return replace(
            side,
            **{
                part: np.where(places, own, 50 * rng.normal(size=own.shape))
                for part, places in kept.items()
                for own in [getattr(side, part)]
            },
        )

    other = replace(batch, student=elsewhere(batch.student), teacher=elsewhere(batch.teacher))
    assert not np.allclose(other.student.tokens, batch.student.tokens)
    expected = term(method, batch).detach().item()
    assert expected > 1e-3
    assert term(method, other).detach().item() == pytest.approx(expected, abs=1e-12, rel=0)
    counted = replace(other, lengths=[PLACES] * examples)
    assert abs(term(method, counted).detach().item() - expected) > 1e-3


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, v) for name in ("alp", "alp-no", "alp-po") for v in ("raw", "projected")]
    + [("alp-np", "")],
)
def test_detaching_the_attention_changes_the_gradient_and_not_the_value(
    name: str, value: str
) -> None:
    batch = draw(SHAPE, 7)
    values: list[float] = []
    gradients: list[torch.Tensor] = []
    for detached in (False, True):
        options: dict[str, Value] = {"value": value, "detach_attention": detached}
        values.append(compare(name, SHAPE, batch, **options))
        student = layers(batch.student)
        student.states.requires_grad_()
        loss = term(build(name, SHAPE, OPTIONS | options), batch, student)
        gradients += torch.autograd.grad(loss, student.states)
    assert values[0] == values[1]
    one, two = gradients
    assert not torch.allclose(one, two, rtol=1e-3)


def test_mgskds_options_equal_plain_loops() -> None:
    shapes = replace(SHAPE, teacher_width=24, student_width=12)
    batch = draw(shapes, 7)
    found = [
        compare("mgskd", shapes, batch, **options)
        for options in (
            {},
            {"relation_heads": 4},
            {"centres": 2},
            {"neighbours": 2},
            {"lower_layers": 1},
            {"lower_layers": 4},
            {"lower_layers": 24, "relation_heads": 3, "centres": 1, "neighbours": 3},
        )
    ]
    assert all_differ(found)


def test_mgskds_heads_divide_the_teachers_width() -> None:
    with pytest.raises(MethodError, match=r"\(5 and 8\); use search.space.relation_heads=\[1\]"):
        build("mgskd", SHAPE, OPTIONS | {"relation_heads": 5})
    widths = {768: 64, 384: 32, 1024: 64, 128: 8}
    for width, heads in widths.items():
        method = build("mgskd", replace(SHAPE, teacher_width=width), OPTIONS)
        assert method.relation_heads == heads


def test_mgskd_without_words_has_its_other_parts() -> None:
    """Texts of less than three words have no words to compare."""
    batch = draw(SHAPE, 7)
    few = replace(batch, words=[[0, 1, 1, 1, 1][:n] + [-1] * (PLACES - n) for n in batch.lengths])
    compare("mgskd", SHAPE, few)
    assert term(build("mgskd", SHAPE, OPTIONS), few) < term(build("mgskd", SHAPE, OPTIONS), batch)
