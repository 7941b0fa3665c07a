"""Search spaces: the method's, and its narrowing by the task and the user."""

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.config import SearchConfig
from harness.errors import ConfigError, MethodError
from harness.method import Hyper, Method, weight
from harness.registry.discovery import registry
from harness.registry.space import Space, any_setting, check_names, space_of

ALP = registry().resolve("alp")
PKD = registry().resolve("pkd-skip")


def made(
    method: type[Method] = ALP, regression: bool = False, weights: str = "convex", **space: Any
) -> Space:
    search = SearchConfig(weights=weights, space={k: tuple(v) for k, v in space.items()})
    return space_of(method, search, regression)


def test_without_narrowing_ranges_are_searched_and_options_are_at_their_defaults() -> None:
    space = made()
    assert space.distributions == {
        "learning_rate": FloatDistribution(1e-5, 1e-4, log=True),
        "temperature": FloatDistribution(1.0, 10.0),
        "kd_weight": FloatDistribution(0.1, 1.0),
        "layer_weight": FloatDistribution(1.0, 1000.0, log=True),
    }
    assert space.constants == {"scaled": True, "detach_attention": False, "value": "raw"}


@pytest.mark.parametrize("name", registry().methods)
def test_every_method_is_searched_or_fixed_in_all_it_declares(name: str) -> None:
    method = registry().methods[name]
    space = made(method)
    assert {*space.distributions, *space.constants} == {"learning_rate", *method.space}


@pytest.mark.parametrize("name", registry().methods)
def test_regression_drops_the_temperature(name: str) -> None:
    space = made(registry().methods[name], regression=True, temperature=[2.0])
    assert "temperature" not in {*space.distributions, *space.constants}


def test_one_value_fixes() -> None:
    space = made(temperature=[20], kd_weight=[0.0], value=["projected"])
    assert {"temperature", "kd_weight", "value"}.isdisjoint(space.distributions)
    assert (space.constants["temperature"], space.constants["kd_weight"]) == (20, 0.0)
    assert space.constants["value"] == "projected"
    assert space.setting({"learning_rate": 1e-4, "layer_weight": 3.0}) == {
        "detach_attention": False,
        "kd_weight": 0.0,
        "layer_weight": 3.0,
        "learning_rate": 1e-4,
        "scaled": True,
        "temperature": 20,
        "value": "projected",
    }


def test_two_values_bound_and_keep_the_scale() -> None:
    space = made(layer_weight=[0.5, 2], temperature=[2, 5], learning_rate=[1e-3, 1e-2])
    assert space.distributions["layer_weight"] == FloatDistribution(0.5, 2, log=True)
    assert space.distributions["temperature"] == FloatDistribution(2, 5)
    assert space.distributions["learning_rate"] == FloatDistribution(1e-3, 1e-2, log=True)


def test_an_option_is_opened_by_naming_choices() -> None:
    space = made(scaled=[True, False], value=["projected", "raw"])
    assert space.distributions["scaled"] == CategoricalDistribution([True, False])
    assert space.distributions["value"] == CategoricalDistribution(["projected", "raw"])
    assert set(space.constants) == {"detach_attention"}


def test_an_integer_range_stays_one() -> None:
    class Counted(Method):
        name, summary, paper = "counted", "an integer", "-"
        space = {  # noqa: RUF012
            "heads": Hyper(IntDistribution(1, 8), "structural", "any")
        }

    assert made(Counted, heads=[2, 4]).distributions["heads"] == IntDistribution(2, 4)
    assert made(Counted, heads=[3]).constants["heads"] == 3


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"value": ["rwa"]}, "search.space.value: 'rwa' is not one of ['raw', 'projected']"),
        ({"scaled": ["yes"]}, "search.space.scaled: 'yes' is not one of [True, False]"),
        ({"temperature": ["hot"]}, "search.space.temperature: give [value] or [low, high]"),
        ({"temperature": [True]}, "search.space.temperature: give [value] or [low, high]"),
        ({"temperature": [1, 2, 3]}, "search.space.temperature: give [value] or [low, high]"),
        ({"temperature": [0]}, "search.space.temperature: 0 must be above 0"),
        ({"temperature": [-2, 3]}, "search.space.temperature: -2 must be above 0"),
        ({"temperature": [5, 2]}, "search.space.temperature: [low, high] needs low < high"),
        ({"temperature": [2, 2]}, "search.space.temperature: [low, high] needs low < high"),
        ({"layer_weight": [0, 1]}, "search.space.layer_weight: 0 must be above 0"),
        ({"layer_weight": [float("nan")]}, "search.space.layer_weight: nan must be above 0"),
        ({"kd_weight": [1.5]}, "search.space.kd_weight: 1.5 must be from 0 to 1"),
        ({"kd_weight": [-0.1, 1]}, "search.space.kd_weight: -0.1 must be from 0 to 1"),
        ({"learning_rate": [0]}, "search.space.learning_rate: 0 must be above 0 and at most 1"),
        ({"learning_rate": [2]}, "search.space.learning_rate: 2 must be above 0 and at most 1"),
    ],
)
def test_a_bad_narrowing_is_refused(space: dict[str, list[Any]], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(**space)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("kd_weight", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_simplex_weights_sum_to_one_with_a_label_weight_of_at_least_zero(
    kd_weight: float, share: float
) -> None:
    space = made(weights="simplex")
    assert space.distributions["layer_share"] == FloatDistribution(0.0, 1.0)
    assert "layer_weight" not in space.distributions
    setting = space.setting({"kd_weight": kd_weight, "layer_share": share, "temperature": 2.0})
    assert "layer_share" not in setting
    layer_weight = setting["layer_weight"]
    assert isinstance(layer_weight, float)
    label_weight = 1 - kd_weight - layer_weight
    assert label_weight >= 0
    assert layer_weight == pytest.approx((1 - kd_weight) * share)
    assert label_weight == pytest.approx((1 - kd_weight) * (1 - share))


def test_simplex_shares_can_be_narrowed_and_bad_ones_are_refused() -> None:
    assert made(weights="simplex", layer_share=[0.5]).constants["layer_share"] == 0.5
    with pytest.raises(ConfigError, match=r"layer_share: 1\.2 must be from 0 to 1"):
        made(weights="simplex", layer_share=[1.2])


@pytest.mark.parametrize("name", ["kd", "finetune"])
def test_simplex_changes_nothing_for_methods_without_a_layer_term(name: str) -> None:
    method = registry().resolve(name)
    assert made(method, weights="simplex") == made(method)


def test_simplex_refuses_a_method_with_a_second_weight_of_its_own() -> None:
    space = {**ALP.space, "angle_weight": weight(1.0, 100.0, "an example")}
    two = type("Two", (ALP,), {"name": "two", "space": space})
    with pytest.raises(MethodError, match="two, with its angle_weight, needs convex ones"):
        made(two, weights="simplex")
    assert "angle_weight" in made(two).distributions


def names_checked(weights: str, **space: Any) -> None:
    search = SearchConfig(weights=weights, space={k: tuple(v) for k, v in space.items()})
    check_names([ALP, PKD], search)


def test_a_narrowing_needs_one_method_that_reads_it() -> None:
    names_checked("convex", value=["raw"], layer_weight=[1], learning_rate=[1e-4])
    names_checked("simplex", layer_share=[0.5])
    for weights, name in (
        ("convex", "layer_share"),
        ("simplex", "layer_weight"),
        ("convex", "heat"),
    ):
        with pytest.raises(ConfigError, match=f"search.space.{name}: none of the methods has it"):
            names_checked(weights, **{name: [0.5]})


@pytest.mark.parametrize("weights", ["convex", "simplex"])
def test_any_setting_is_a_setting_that_a_search_could_ask_for(weights: str) -> None:
    space = made(weights=weights, kd_weight=[0.25], temperature=[3.0, 9.0])
    setting = any_setting(space)
    assert setting.keys() == {"learning_rate", *ALP.space}
    assert (setting["kd_weight"], setting["temperature"]) == (0.25, 3.0)
    assert setting["layer_weight"] == (1.0 if weights == "convex" else 0.0)
