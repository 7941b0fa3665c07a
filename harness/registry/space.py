"""Search spaces: a method's hyper-parameters, the shared ones, and the user's narrowing of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from harness.config import Choice, SearchConfig
from harness.errors import ConfigError, MethodError
from harness.method import Hyper, Method, Value

BOUNDS = {"kd_weight": (0.0, 1.0), "layer_share": (0.0, 1.0), "learning_rate": (0.0, 1.0)}
SHARE = Hyper(
    FloatDistribution(0.0, 1.0),
    "scalar",
    "the layer term's share of the weight that the logit term leaves",
)


@dataclass(frozen=True)
class Space:
    """A search space: distributions of hyper-parameters, and constants for the others, by name."""

    distributions: dict[str, BaseDistribution]
    constants: dict[str, Value]

    def setting(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """The setting that a trial's parameters stand for.

        With simplex weights the trial's `layer_share` s becomes layer_weight = (1 − kd_weight)·s.
        """
        setting = {**self.constants, **params}
        if "layer_share" in setting:
            share = float(setting.pop("layer_share"))
            setting["layer_weight"] = (1.0 - float(setting["kd_weight"])) * share
        return dict(sorted(setting.items()))


def space_of(method: type[Method], search: SearchConfig, regression: bool) -> Space:
    """A method's space under a search configuration.

    Raises:
        ConfigError: an invalid narrowing.
        MethodError: the method cannot be used with simplex weights.
    """
    low, high = search.learning_rate
    hypers = {
        "learning_rate": Hyper(FloatDistribution(low, high, log=True), "scalar", "by preset"),
        **method.space,
    }
    if regression:
        hypers.pop("temperature", None)
    if search.weights == "simplex":
        _check_simplex(method)
    if search.weights == "simplex" and "layer_weight" in hypers:
        hypers.pop("layer_weight")
        hypers["layer_share"] = SHARE
    distributions: dict[str, BaseDistribution] = {}
    constants: dict[str, Value] = {}
    for name, hyper in hypers.items():
        domain = _domain(name, hyper, search.space.get(name))
        if isinstance(domain, BaseDistribution):
            distributions[name] = domain
        else:
            constants[name] = domain
    return Space(distributions, constants)


def _check_simplex(method: type[Method]) -> None:
    weights = {name for name in method.space if name.endswith("_weight")}
    other_weights = sorted(weights - {"kd_weight", "layer_weight"})
    if other_weights:
        raise MethodError(
            f"search.weights=simplex shares weights between labels, logits and layers: {method.name}, "
            f"with its {other_weights[0]}, needs convex ones"
        )


def any_value(hyper: Hyper) -> Value:
    """A value of a hyper-parameter: its default, its first choice, or its lowest."""
    return _any_of(hyper.distribution) if hyper.default is None else hyper.default


def any_setting(space: Space) -> dict[str, Value]:
    """A setting of a space: the fixed values, and the first choice or the lowest value of the others."""
    return space.setting({name: _any_of(domain) for name, domain in space.distributions.items()})


def _any_of(distribution: BaseDistribution) -> Value:
    if isinstance(distribution, CategoricalDistribution):
        choice = distribution.choices[0]
        assert isinstance(choice, bool | int | float | str)
        return choice
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low


def check_names(methods: Sequence[type[Method]], search: SearchConfig) -> None:
    """Refuse a narrowing that no chosen method reads. Raises `ConfigError`."""
    names = {"learning_rate"}.union(*(method.space for method in methods))
    if search.weights == "simplex":
        names = (names - {"layer_weight"}) | {"layer_share"}
    unknown_names = sorted(set(search.space) - names)
    if unknown_names:
        raise ConfigError(
            f"search.space.{unknown_names[0]}: none of the methods has it (they have "
            f"{', '.join(sorted(names))})"
        )


def _domain(name: str, hyper: Hyper, choices: Sequence[Choice] | None) -> BaseDistribution | Value:
    if choices is None:
        return hyper.distribution if hyper.default is None else hyper.default
    distribution = hyper.distribution
    if isinstance(distribution, CategoricalDistribution):
        unknown_choices = [choice for choice in choices if choice not in distribution.choices]
        if unknown_choices:
            raise ConfigError(
                f"search.space.{name}: {unknown_choices[0]!r} is not one of {list(distribution.choices)}"
            )
        return choices[0] if len(choices) == 1 else CategoricalDistribution(list(choices))
    numbers = [c for c in choices if isinstance(c, int | float) and not isinstance(c, bool)]
    if len(numbers) != len(choices) or len(choices) > 2:
        raise ConfigError(f"search.space.{name}: give [value] or [low, high], not {list(choices)}")
    _check_numbers(name, numbers)
    if len(numbers) == 1:
        return numbers[0]
    if isinstance(distribution, IntDistribution):
        return IntDistribution(int(numbers[0]), int(numbers[1]), log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return FloatDistribution(numbers[0], numbers[1], log=distribution.log)


def _check_numbers(name: str, numbers: Sequence[float]) -> None:
    low, high = BOUNDS.get(name, (0.0, float("inf")))
    for number in numbers:
        excludes_zero = name not in BOUNDS or name == "learning_rate"
        if not low <= number <= high or (excludes_zero and number == 0):
            interval = f"above 0{'' if high == float('inf') else f' and at most {high:g}'}"
            limits = interval if excludes_zero else f"from {low:g} to {high:g}"
            raise ConfigError(f"search.space.{name}: {number:g} must be {limits}")
    if len(numbers) == 2 and numbers[0] >= numbers[1]:
        raise ConfigError(f"search.space.{name}: [low, high] needs low < high, not {list(numbers)}")
