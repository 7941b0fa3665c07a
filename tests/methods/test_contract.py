"""The contract of every method in the registry, plug-ins included."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from optuna.distributions import CategoricalDistribution
from torch import Tensor
from torch.utils._pytree import tree_map

from harness.errors import MethodError
from harness.method import (
    Context,
    Hyper,
    Layers,
    Method,
    Need,
    Shapes,
    Value,
    require_equal_widths,
    weight,
)
from harness.method.losses import distillation_loss, label_loss, masked_mean, objective
from harness.registry.cards import card
from harness.registry.discovery import registry
from harness.runtime.randomness import generator
from tests.methods.builders import (
    EQUAL_SHAPES,
    EXAMPLES,
    MASK,
    METHODS,
    UNEQUAL_SHAPES,
    batch,
    build,
    change_padding,
    context,
    middle,
    own_weights,
    shift_parameters,
    tensors,
)

HAS_TERMS = [name for name, method in METHODS.items() if own_weights(method)]
TOKEN_METHODS = [name for name, method in METHODS.items() if method.needs]
SCALARS = [
    (name, hyper)
    for name, method in METHODS.items()
    for hyper, declared in method.space.items()
    if declared.kind == "scalar"
]
CHOICES = [
    (name, hyper)
    for name, method in METHODS.items()
    for hyper, declared in method.space.items()
    if declared.kind == "structural"
]


def total(
    method: Method,
    student: Layers,
    teacher: Layers,
    labels: Tensor,
    scalars: Mapping[str, Tensor],
) -> Tensor:
    """The objective of one step, put together as the training loop does it."""
    terms = {"label": label_loss(student.logits, labels, False)}
    if method.uses_teacher():
        if "kd_weight" in scalars:
            temperature = scalars.get("temperature", torch.ones(()))
            terms["kd"] = distillation_loss(student.logits, teacher.logits, temperature, False)
        terms |= method(student, teacher, labels, context(scalars))
    return objective(terms, scalars, "convex")


def gradient(
    method: Method, scalars: Mapping[str, Tensor], shapes: Shapes = EQUAL_SHAPES
) -> Tensor:
    """Gradient of the objective for the student and all parameters of the method, in one vector."""
    student, teacher, labels = batch(shapes, needs=method.needs)
    leaves = [*tensors(student), *method.parameters()]
    loss = total(method, student, teacher, labels, scalars)
    found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def widths_of(name: str) -> list[Shapes]:
    try:
        build(name, UNEQUAL_SHAPES)
    except MethodError:
        return [EQUAL_SHAPES]
    return [EQUAL_SHAPES, UNEQUAL_SHAPES]


@pytest.fixture
def no_vmap_fallback() -> Iterator[None]:
    """An operation without a batching rule is an error."""
    functorch = torch._C._functorch
    before = functorch._is_vmap_fallback_enabled()
    functorch._set_vmap_fallback_enabled(False)
    yield
    functorch._set_vmap_fallback_enabled(before)


def test_no_plug_in_is_broken() -> None:
    assert registry().import_errors == {}


@pytest.mark.parametrize("name", METHODS)
def test_terms_are_finite_scalars_with_a_weight_each(name: str) -> None:
    for shapes in widths_of(name):
        method = build(name, shapes).double()
        terms = method(*batch(shapes, needs=method.needs), context(middle(METHODS[name])))
        assert {f"{term}_weight" for term in terms} == own_weights(METHODS[name])
        assert METHODS[name].matches_layers() == bool(set(terms) - {"logits"})
        assert not set(terms) & {"label", "kd"}
        for term, value in terms.items():
            assert value.shape == ()
            assert torch.isfinite(value)
            assert METHODS[name].space[f"{term}_weight"].kind == "scalar"


@pytest.mark.parametrize("name", METHODS)
def test_the_card_names_every_hyper_parameter(name: str) -> None:
    method = METHODS[name]
    written = vars(method).get("__doc__") or ""
    assert written.strip()
    assert [hyper for hyper in method.space if hyper not in written] == []
    assert all(hyper.why.strip() for hyper in method.space.values())
    assert method.summary.strip()
    assert method.paper.strip()
    assert set(card(method).hyper_parameters) == set(method.space)


@pytest.mark.parametrize("name", HAS_TERMS)
def test_gradients_reach_the_student_and_every_parameter(name: str) -> None:
    for shapes in widths_of(name):
        method = shift_parameters(build(name, shapes))
        student, teacher, labels = batch(shapes, needs=method.needs)
        terms = method(student, teacher, labels, context(middle(METHODS[name])))
        sum(terms.values(), torch.zeros(())).backward()
        gradients_reached = [own.grad for own in tensors(student) if own.grad is not None]
        assert any(grad.abs().sum() > 0 for grad in gradients_reached)
        for parameter, value in method.named_parameters():
            assert value.grad is not None, parameter
            assert value.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", METHODS)
def test_the_objective_moves_the_logits(name: str) -> None:
    found = gradient(shift_parameters(build(name)), middle(METHODS[name]))
    assert found[: EXAMPLES * EQUAL_SHAPES.outputs].abs().sum() > 0
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(("name", "hyper"), SCALARS)
def test_every_scalar_changes_the_gradient(name: str, hyper: str) -> None:
    method = shift_parameters(build(name))
    scalars = middle(METHODS[name])
    other = {**scalars, hyper: middle(METHODS[name], share=0.7)[hyper]}
    assert not torch.allclose(gradient(method, scalars), gradient(method, other), rtol=1e-6)


@pytest.mark.parametrize(("name", "hyper"), CHOICES)
def test_every_choice_changes_the_gradient(name: str, hyper: str) -> None:
    distribution = METHODS[name].space[hyper].distribution
    if not isinstance(distribution, CategoricalDistribution):
        pytest.skip("a numeric structure is the method's own to test")
    gradients = []
    for choice in distribution.choices:
        assert isinstance(choice, bool | int | float | str)
        chosen = {hyper: choice}
        gradients.append(gradient(shift_parameters(build(name, **chosen)), middle(METHODS[name])))
    for one, two in pairwise(gradients):
        assert one.shape != two.shape or not torch.allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_gives_one_state_and_one_value(name: str) -> None:
    for shapes in widths_of(name):
        torch.manual_seed(1)
        first = build(name, shapes, seed=3).double()
        torch.manual_seed(2)
        second = build(name, shapes, seed=3).double()
        assert set(first.state_dict()) == set(second.state_dict())
        for key, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[key]), key
        scalars = context(middle(METHODS[name]))
        inputs = batch(shapes, needs=METHODS[name].needs)
        terms = [method(*inputs, scalars) for method in (first, second)]
        assert {k: v.detach().item() for k, v in terms[0].items()} == {
            k: v.item() for k, v in terms[1].items()
        }


@pytest.mark.parametrize("name", METHODS)
def test_terms_draw_nothing(name: str) -> None:
    method = build(name).double()
    inputs = batch(needs=method.needs)
    scalars = context(middle(METHODS[name]))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    values = [{k: v.detach().item() for k, v in method(*inputs, scalars).items()} for _ in range(2)]
    assert values[0] == values[1]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", METHODS)
def test_inputs_are_not_written_to(name: str) -> None:
    method = build(name).double()
    student, teacher, labels = batch(needs=method.needs)
    scalars = middle(METHODS[name])
    inputs = [*tensors(student), *tensors(teacher), labels]
    inputs += scalars.values()
    before = [tensor.detach().clone() for tensor in inputs]
    versions = [tensor._version for tensor in inputs]
    with torch.no_grad():  # autograd itself refuses to write to leaves
        method(student, teacher, labels, context(scalars))
        contents = [Layers(side.logits, side.states) for side in (student, teacher)]
        outputs = method.inspect(*contents)
    assert method.inspects() or not outputs
    if outputs:
        layers = outputs["target"].shape[1]
        assert outputs["target"].ndim == 3
        assert set(outputs) <= {"target", "attention"}
        if "attention" in outputs:
            assert outputs["attention"].shape[:2] == (EXAMPLES, layers)
            torch.testing.assert_close(
                outputs["attention"].sum(-1), torch.ones(EXAMPLES, layers, dtype=torch.float64)
            )
    assert [tensor._version for tensor in inputs] == versions
    for tensor, copy in zip(inputs, before, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("name", HAS_TERMS)
def test_the_order_of_a_batch_does_not_matter(name: str) -> None:
    method = shift_parameters(build(name))
    student, teacher, labels = batch(needs=method.needs)
    rows = torch.randperm(EXAMPLES, generator=generator("rows"))
    assert not torch.equal(rows, torch.arange(EXAMPLES))
    scalars = context(middle(METHODS[name]))
    expected = method(student, teacher, labels, scalars)
    shuffled = method(
        tree_map(lambda own: own[rows], student),
        tree_map(lambda own: own[rows], teacher),
        labels[rows],
        replace(scalars, mask=MASK[rows]),
    )
    for term, value in expected.items():
        torch.testing.assert_close(shuffled[term], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", TOKEN_METHODS)
def test_values_at_padded_tokens_do_not_count(name: str) -> None:
    for shapes in widths_of(name):
        method = shift_parameters(build(name, shapes))
        student, teacher, labels = batch(shapes, needs=method.needs)
        scalars = context(middle(METHODS[name]))
        expected = method(student, teacher, labels, scalars)
        changed = method(change_padding(student), change_padding(teacher), labels, scalars)
        for term, value in expected.items():
            assert changed[term].item() == pytest.approx(value.item(), rel=1e-9), (
                f"{name}: `{term}` reads values at padded tokens; `masked_mean` leaves them out"
            )


class TokenStates(Method):
    """LAYER = MSE of every token's last states. Hyper-parameters: layer_weight."""

    name, summary, paper = "token-states", "every token's last state", "-"
    space: ClassVar[Mapping[str, Hyper]] = {"layer_weight": weight(0.1, 10.0, "-")}
    needs: ClassVar[frozenset[Need]] = frozenset({"tokens"})

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_equal_widths(shapes, self.name, "alp")

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        distances = (student.tokens[-1] - teacher.tokens[-1]).square()
        return {"layer": self.mean(distances, context.mask[:, :, None])}

    def mean(self, distances: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(distances, mask)


class TokenStatesWithoutNeeds(TokenStates):
    needs: ClassVar[frozenset[Need]] = frozenset()


class TokenStatesWithoutMask(TokenStates):
    def mean(self, distances: Tensor, mask: Tensor) -> Tensor:
        return distances.mean()


def test_a_method_that_forgets_its_needs_or_the_mask_breaks_the_contract(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for method in (TokenStates, TokenStatesWithoutNeeds, TokenStatesWithoutMask):
        monkeypatch.setitem(METHODS, method.__name__, method)
    for check in (
        test_terms_are_finite_scalars_with_a_weight_each,
        test_values_at_padded_tokens_do_not_count,
    ):
        check("TokenStates")
    with pytest.raises(IndexError):
        test_terms_are_finite_scalars_with_a_weight_each("TokenStatesWithoutNeeds")
    with pytest.raises(AssertionError, match="`layer` reads values at padded tokens"):
        test_values_at_padded_tokens_do_not_count("TokenStatesWithoutMask")


def _repeat(values: Tensor, times: int) -> Tensor:
    return torch.cat([values] * times)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_that_is_doubled_has_the_same_terms_and_gradients(name: str) -> None:
    """Losses are means: nothing is divided later, or twice."""
    method = shift_parameters(build(name))
    scalars = middle(METHODS[name])
    losses, gradients = [], []
    for times in (1, 2):
        student, teacher, labels = batch(needs=method.needs)
        leaves = [*tensors(student), *method.parameters()]
        repeat = partial(_repeat, times=times)
        repeated_batch = [tree_map(repeat, part) for part in (student, teacher)]
        terms = {"label": label_loss(repeated_batch[0].logits, repeat(labels), False)}
        given = replace(context(scalars), mask=repeat(MASK))
        terms |= method(*repeated_batch, repeat(labels), given)
        total = sum(terms.values(), torch.zeros(()))
        found = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        losses.append(total.detach())
        gradients.append(torch.cat([part.flatten() for part in found]))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-8, atol=1e-12)


@pytest.mark.usefixtures("no_vmap_fallback")
def test_an_operation_without_a_batching_rule_is_found() -> None:
    with pytest.raises(RuntimeError, match="vmap fallback"):
        torch.func.vmap(torch.histc)(torch.rand(3, 4))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.usefixtures("no_vmap_fallback")
def test_a_stacked_population_equals_a_loop_over_its_members(name: str) -> None:
    if not METHODS[name].supports_vmap:
        pytest.skip("its terms are computed member by member")
    for shapes in widths_of(name):
        members = [shift_parameters(build(name, shapes, seed=seed), seed) for seed in range(3)]
        batches = [batch(shapes, seed, METHODS[name].needs) for seed in range(3)]
        settings = [middle(METHODS[name], share) for share in (0.2, 0.5, 0.8)]
        expected = torch.stack(
            [
                total(member, *inputs, scalars)
                for member, inputs, scalars in zip(members, batches, settings, strict=True)
            ]
        )
        parameters, buffers = torch.func.stack_module_state([*members])
        frame = members[0]

        def one(
            state: dict[str, Tensor],
            student: Layers,
            teacher: Layers,
            labels: Tensor,
            scalars: dict[str, Tensor],
            frame: Method = frame,
        ) -> tuple[Tensor, dict[str, Tensor]]:
            terms = {"label": label_loss(student.logits, labels, False)}
            own: dict[str, Tensor] = {}
            if frame.uses_teacher():
                if "kd_weight" in scalars:
                    temperature = scalars.get("temperature", torch.ones(()))
                    terms["kd"] = distillation_loss(
                        student.logits, teacher.logits, temperature, False
                    )
                inputs = (student, teacher, labels, context(scalars))
                own = torch.func.functional_call(frame, state, inputs)
            return objective(terms | own, scalars, "convex"), own

        stacked = [
            tree_map(lambda *own: torch.stack(own), *parts) for parts in zip(*batches, strict=True)
        ]
        scalars = {key: torch.stack([s[key] for s in settings]) for key in settings[0]}
        found, terms = torch.func.vmap(one)({**parameters, **buffers}, *stacked, scalars)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        for term, values in terms.items():
            loop = [
                member(*inputs, context(setting))[term]
                for member, inputs, setting in zip(members, batches, settings, strict=True)
            ]
            torch.testing.assert_close(values, torch.stack(loop), rtol=0, atol=1e-6)
            assert len({round(value, 9) for value in values.tolist()}) == 3


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("weights", ["convex", "simplex"])
@pytest.mark.usefixtures("no_vmap_fallback")
def test_the_cores_losses_batch_like_a_loop(regression: bool, weights: str) -> None:
    source = generator("losses")
    outputs = 1 if regression else 3
    student, teacher = torch.randn(2, 3, EXAMPLES, outputs, generator=source).double()
    classes = torch.randint(3, (3, EXAMPLES), generator=source)
    labels = classes.double() if regression else classes
    temperature = torch.tensor([1.0, 2.0, 5.0]).double()
    scalars = torch.tensor([[0.1, 0.3], [0.5, 0.2], [0.7, 0.3]]).double()

    def one(s: Tensor, t: Tensor, y: Tensor, heat: Tensor, weight: Tensor) -> Tensor:
        terms = {
            "label": label_loss(s, y, regression),
            "kd": distillation_loss(s, t, heat, regression),
            "layer": (s - t).abs().mean(),
        }
        scalars_by_name = {"kd_weight": weight[0], "layer_weight": weight[1]}
        return torch.stack([*terms.values(), objective(terms, scalars_by_name, weights)])

    batched = torch.func.vmap(one)(student, teacher, labels, temperature, scalars)
    looped = torch.stack(
        [one(*parts) for parts in zip(student, teacher, labels, temperature, scalars, strict=True)]
    )
    torch.testing.assert_close(batched, looped, rtol=0, atol=1e-6)
