"""The rules of a method's class: names, needs, pooling, options and the search space."""

import inspect
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from harness.errors import MethodError
from harness.method import Hyper, weight
from harness.registry.class_rules import check_class
from methods.baselines import Kd


def floats() -> FloatDistribution:
    return FloatDistribution(0.1, 1.0)


CLASS_MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"name": None}, 'has no name; write name = "..." into the class'),
    ({"summary": ""}, 'has no summary; write summary = "..." into the class'),
    ({"name": "my method"}, "the name 'my method' has other characters than letters, digits and"),
    ({"name": "a/b"}, "the name 'a/b' has other characters"),
    ({"aliases": ("b,c",)}, "the name 'b,c' has other characters"),
    ({"aliases": "other"}, "`aliases` is 'other'; write a tuple of names"),
    ({"supports_vmap": "no"}, "`supports_vmap` is 'no'; write True or False"),
    ({"supports_graphs": None}, "`supports_graphs` is None; write True or False"),
    ({"needs": {"tokens"}}, '`needs` is a set; write frozenset({"tokens"})'),
    ({"needs": "tokens"}, '`needs` is a str; write frozenset({"tokens"})'),
    ({"needs": ["qkv", "tokens"]}, '`needs` is a list; write frozenset({"qkv", "tokens"})'),
    (
        {"needs": frozenset({"token"})},
        "unknown need 'token'; known are tokens, words, scores, qkv, last-qkv",
    ),
    ({"pooling": "largest"}, "unknown pooling 'largest'; known are "),
    ({"space": ["layer_weight"]}, "`space` is a list; write {name: Hyper(...), ...}"),
    ({"space": {1: weight(0.1, 1.0, "any")}}, "space[1] has a int for a name; write a text"),
    ({"space": {"layer_weight": 0.5}}, "space['layer_weight'] is a float; write weight(low, high,"),
    ({"space": {"margin": floats()}}, "space['margin'] is a FloatDistribution; write Hyper("),
    (
        {"space": {"margin": Hyper((0, 1), "scalar", "any")}},
        "has a tuple for a distribution; write",
    ),  # type: ignore[arg-type]
    (
        {"space": {"margin": Hyper(floats(), "number", "any")}},
        "has the kind 'number'; write \"scalar\"",
    ),  # type: ignore[arg-type]
    (
        {"space": {"form": Hyper(CategoricalDistribution(["a", "b"]), "scalar", "any")}},
        "space['form'] is a scalar with choices; write \"structural\", or a FloatDistribution",
    ),
    (
        {"space": {"layer_weight": Hyper(floats(), "structural", "any")}},
        "space['layer_weight'] is the weight of a term, but structural; write weight(",
    ),
    ({"space": {"margin": Hyper(floats(), "scalar", "")}}, "has no `why`; write the reason"),
    (
        {"space": {"margin": Hyper(floats(), "scalar", "any", 2.0)}},
        "has the default 2.0, which its",
    ),
]


@pytest.mark.parametrize(("attributes", "words"), CLASS_MISTAKES)
def test_a_mistake_of_the_class_is_told_when_the_method_is_found(
    attributes: dict[str, Any], words: str
) -> None:
    kind = type("Wrong", (Kd,), {"name": "wrong", **attributes})
    with pytest.raises(MethodError) as caught:
        check_class(kind)
    assert str(caught.value).startswith("Wrong (")
    assert words in str(caught.value)


def test_the_line_of_a_class_mistake_is_that_of_the_attribute() -> None:
    class Wrong(Kd):
        name = "wrong"
        needs = {"tokens"}  # type: ignore[assignment]  # noqa: RUF012  # the mistake

    lines, start = inspect.getsourcelines(Wrong)
    (offset,) = [number for number, line in enumerate(lines) if "# the mistake" in line]
    with pytest.raises(MethodError, match=rf"test_class_rules\.py, line {start + offset}\)"):
        check_class(Wrong)
