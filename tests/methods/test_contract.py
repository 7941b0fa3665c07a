"""The contract of every method in the registry, plug-ins included, in float64."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.errors import MethodError
from harness.method import (
    Method,
)
from harness.method.losses import distillation_loss, label_loss, objective
from harness.registry import checks, contract_rules
from harness.registry.cards import card
from harness.registry.case import Case, Rule
from harness.registry.checks import AT_START, check_at_start, no_vmap_fallback
from harness.registry.class_rules import CLASS_RULES
from harness.registry.contract_rules import CONTRACT, objective_gradient
from harness.registry.discovery import registry
from harness.runtime.randomness import generator
from tests.methods.builders import (
    EQUAL_SHAPES,
    EXAMPLES,
    METHODS,
    UNEQUAL_SHAPES,
    build,
    case,
    own_weights,
)

HAS_TERMS = [name for name, method in METHODS.items() if own_weights(method)]
TOKEN_METHODS = [name for name, method in METHODS.items() if method.needs]


def cases_of(name: str) -> list[Case]:
    """Equal widths, and other widths where the method takes them."""
    try:
        build(name, UNEQUAL_SHAPES)
    except MethodError:
        return [case(name)]
    return [case(name), case(name, UNEQUAL_SHAPES)]


def check(rule: Rule, name: str) -> None:
    for own in cases_of(name):
        rule(own)


@pytest.fixture
def _without_fallback() -> Iterator[None]:
    with no_vmap_fallback():
        yield


def test_no_plug_in_is_broken() -> None:
    assert registry().import_errors == {}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rule", CLASS_RULES, ids=lambda rule: rule.__name__)
def test_the_class_keeps_the_rules(name: str, rule: Callable[[type[Method]], None]) -> None:
    rule(METHODS[name])


@pytest.mark.parametrize("name", METHODS)
def test_a_study_may_start(name: str) -> None:
    check_at_start.__wrapped__(METHODS[name])


def test_every_rule_of_terms_is_a_test_of_this_file() -> None:
    """A rule that no test names would be checked in fp32 only."""
    text = Path(__file__).read_text()
    for rule in (*AT_START, *CONTRACT):
        assert f"check({rule.__module__.rpartition('.')[2]}.{rule.__name__}, name)" in text


@pytest.mark.parametrize("name", METHODS)
def test_terms_are_finite_scalars_with_a_weight_each(name: str) -> None:
    check(checks.terms_are_finite_scalars, name)
    check(checks.terms_and_weights_match, name)
    terms = case(name).terms(case(name).method())
    assert METHODS[name].matches_layers() == bool(set(terms) - {"logits"})


@pytest.mark.parametrize("name", METHODS)
def test_factors_are_scalars_of_terms(name: str) -> None:
    check(checks.factors_are_scalars_of_terms, name)


@pytest.mark.parametrize("name", METHODS)
def test_the_card_names_every_hyper_parameter(name: str) -> None:
    check(contract_rules.the_card_is_complete, name)
    assert set(card(METHODS[name]).hyper_parameters) == set(METHODS[name].space)


@pytest.mark.parametrize("name", HAS_TERMS)
def test_gradients_reach_the_student_and_every_parameter(name: str) -> None:
    check(checks.terms_move_the_student, name)
    check(contract_rules.every_parameter_is_trained, name)


@pytest.mark.parametrize("name", METHODS)
def test_the_objective_moves_the_logits(name: str) -> None:
    own = case(name)
    found = objective_gradient(own, own.shifted(), own.scalars())
    assert found[: EXAMPLES * EQUAL_SHAPES.outputs].abs().sum() > 0
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", METHODS)
def test_every_scalar_changes_the_gradient(name: str) -> None:
    check(contract_rules.every_scalar_has_an_effect, name)


@pytest.mark.parametrize("name", METHODS)
def test_every_choice_changes_the_gradient(name: str) -> None:
    check(contract_rules.every_choice_has_an_effect, name)


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_gives_one_state_and_one_value(name: str) -> None:
    check(checks.a_seed_gives_one_method, name)


@pytest.mark.parametrize("name", METHODS)
def test_terms_draw_nothing(name: str) -> None:
    check(checks.terms_draw_nothing, name)


@pytest.mark.parametrize("name", METHODS)
def test_inputs_are_not_written_to(name: str) -> None:
    check(checks.inputs_stay_as_they_are, name)


@pytest.mark.parametrize("name", METHODS)
def test_inspections_have_their_shapes(name: str) -> None:
    check(contract_rules.inspections_have_their_shapes, name)


@pytest.mark.parametrize("name", HAS_TERMS)
def test_the_order_of_a_batch_does_not_matter(name: str) -> None:
    check(checks.order_does_not_matter, name)


@pytest.mark.parametrize("name", TOKEN_METHODS)
def test_values_at_padded_tokens_do_not_count(name: str) -> None:
    check(checks.padding_does_not_count, name)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_that_is_doubled_has_the_same_terms_and_gradients(name: str) -> None:
    """Losses are means: nothing is divided later, or twice."""
    check(contract_rules.a_doubled_batch_has_the_same_terms, name)


@pytest.mark.usefixtures("_without_fallback")
def test_an_operation_without_a_batching_rule_is_found() -> None:
    with pytest.raises(RuntimeError, match="vmap fallback"):
        torch.func.vmap(torch.histc)(torch.rand(3, 4))


@pytest.mark.parametrize("name", METHODS)
def test_a_stacked_population_equals_a_loop_over_its_members(name: str) -> None:
    if not METHODS[name].supports_vmap:
        pytest.skip("its terms are computed member by member")
    check(checks.a_population_equals_a_loop, name)


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("weights", ["convex", "simplex"])
@pytest.mark.usefixtures("_without_fallback")
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
