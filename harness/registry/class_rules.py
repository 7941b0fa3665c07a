"""The rules of a method's class that need no tensors: names, needs, pooling, and the search space."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import get_args

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.method import Hyper, Method, Need
from harness.pooling_table import POOLINGS
from harness.registry.faults import fault, place_of

NAME = re.compile(r"[^\W_][\w.+-]*")
"""A name, which `--method` lists between commas, and which folders have in theirs."""


def is_concrete(kind: type[Method]) -> None:
    """Every abstract function is defined."""
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise fault(
            kind, f"has a name, but does not define {missing}; define it, or leave `name` out"
        )


def is_named(kind: type[Method]) -> None:
    """`name`, `summary` and `paper` are texts, and the name is the class's own."""
    for attribute in ("name", "summary", "paper"):
        value = getattr(kind, attribute, None)
        if not isinstance(value, str) or not value.strip():
            raise fault(kind, f'has no {attribute}; write {attribute} = "..." into the class')
    if "name" not in vars(kind):
        raise fault(kind, 'has no name of its own; write name = "..." into the class')


def names_can_be_given(kind: type[Method]) -> None:
    """`name` and `aliases` can be given on a command line and in the name of a folder."""
    aliases = vars(kind).get("aliases", ())
    if not isinstance(aliases, tuple) or not all(isinstance(alias, str) for alias in aliases):
        words = f'`aliases` is {aliases!r}; write a tuple of names, as ("other",)'
        raise fault(kind, words, place_of(kind, "aliases"))
    for name in (kind.name, *aliases):
        if not NAME.fullmatch(name):
            words = f"the name {name!r} has other characters than letters, digits and -_.+"
            raise fault(kind, words, place_of(kind, "name" if name == kind.name else "aliases"))


def options_are_booleans(kind: type[Method]) -> None:
    """`supports_vmap` and `supports_graphs` are True or False."""
    for attribute in ("supports_vmap", "supports_graphs"):
        value = getattr(kind, attribute)
        if not isinstance(value, bool):
            words = f"`{attribute}` is {value!r}; write True or False"
            raise fault(kind, words, place_of(kind, attribute))


def needs_are_known(kind: type[Method]) -> None:
    """`needs` is a frozenset of known needs."""
    place = place_of(kind, "needs")
    if not isinstance(kind.needs, frozenset):
        names = [kind.needs] if isinstance(kind.needs, str) else sorted(map(str, kind.needs))
        written = ", ".join(f'"{name}"' for name in names)
        type_name = type(kind.needs).__name__
        raise fault(kind, f"`needs` is a {type_name}; write frozenset({{{written}}})", place)
    for need in sorted(map(str, kind.needs - set(get_args(Need)))):
        known = ", ".join(get_args(Need))
        raise fault(kind, f"unknown need {need!r}; known are {known}", place)


def pooling_is_known(kind: type[Method]) -> None:
    """`pooling` is None or a row of the table."""
    if kind.pooling is not None and kind.pooling not in POOLINGS:
        known = ", ".join(POOLINGS)
        words = f"unknown pooling {kind.pooling!r}; known are {known}"
        raise fault(kind, words, place_of(kind, "pooling"))


def space_is_made_of_hypers(kind: type[Method]) -> None:
    """`space` maps names to `Hyper`s whose parts fit each other."""
    place = place_of(kind, "space")
    if not isinstance(kind.space, Mapping):
        words = f"`space` is a {type(kind.space).__name__}; write {{name: Hyper(...), ...}}"
        raise fault(kind, words, place)
    for name, hyper in kind.space.items():
        if (words := _fault_of(name, hyper)) is not None:
            raise fault(kind, f"space[{name!r}] {words}", place)


def _fault_of(name: object, hyper: object) -> str | None:
    """What is wrong with an entry of `space`, and what to write."""
    if not isinstance(name, str):
        return f"has a {type(name).__name__} for a name; write a text"
    if not isinstance(hyper, Hyper):
        form = (
            "weight(low, high, why)"
            if name.endswith("_weight")
            else "Hyper(distribution, kind, why)"
        )
        return f"is a {type(hyper).__name__}; write {form}"
    distribution = hyper.distribution
    if not isinstance(distribution, FloatDistribution | IntDistribution | CategoricalDistribution):
        return (
            f"has a {type(distribution).__name__} for a distribution; write Optuna's FloatDistribution, "
            "IntDistribution or CategoricalDistribution"
        )
    if hyper.kind not in ("scalar", "structural"):
        return f'has the kind {hyper.kind!r}; write "scalar" or "structural"'
    is_categorical = isinstance(distribution, CategoricalDistribution)
    if hyper.kind == "scalar" and is_categorical:
        return 'is a scalar with choices; write "structural", or a FloatDistribution'
    if name.endswith("_weight") and hyper.kind != "scalar":
        return "is the weight of a term, but structural; write weight(low, high, why)"
    if not isinstance(hyper.why, str) or not hyper.why.strip():
        return "has no `why`; write the reason for its range"
    if hyper.default is not None and not _is_in(hyper.default, distribution):
        return f"has the default {hyper.default!r}, which its distribution does not have"
    return None


def _is_in(
    value: object, distribution: FloatDistribution | IntDistribution | CategoricalDistribution
) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high


CLASS_RULES: tuple[Callable[[type[Method]], None], ...] = (
    is_concrete,
    is_named,
    names_can_be_given,
    options_are_booleans,
    needs_are_known,
    pooling_is_known,
    space_is_made_of_hypers,
)


def check_class(kind: type[Method]) -> None:
    """Check all rules of the class. Raises `MethodError` for the first that is broken."""
    for rule in CLASS_RULES:
        rule(kind)
