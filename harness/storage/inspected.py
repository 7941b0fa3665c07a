"""Damages of stored inspections: what each kind must hold to be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from harness.storage.checksums import Damage, UnreadableJson
from harness.storage.schema import INSPECTIONS

Test = Callable[[Any], bool]
_NUMBERS = {int, float, type(None)}
TIMES = ("before", "after")
"""Of a training: when the layers of student and teacher are compared."""


def inspection_damage(run: str, name: str, value: Any) -> Damage | None:
    """The first damage of a run's inspection `name`, or None."""
    fault = _fault(name, value)
    return None if fault is None else Damage(INSPECTIONS.name, run, name, fault)


def _fault(name: str, value: Any) -> str | None:
    if isinstance(value, UnreadableJson):
        return f"is not JSON ({value.reason})"
    fields = _FIELDS.get(name, {})
    if fields and not isinstance(value, dict):
        return "is no object"
    for field, fits in fields.items():
        optional = field.endswith("?")
        key = field.removesuffix("?")
        if key not in value and not optional:
            return f"lacks '{key}'"
        if key in value and not fits(value[key]):
            return f"has no readable '{key}'"
    return None


def _array(dimensions: int) -> Test:
    """Whether a value is nested lists of numbers of one shape. None is a missing number."""

    def fits(value: Any) -> bool:
        if not isinstance(value, list):
            return False
        for _ in range(dimensions - 1):
            if set(map(type, value)) != {list} or len(set(map(len, value))) > 1:
                return False
            value = list(chain.from_iterable(value))
        return set(map(type, value)) <= _NUMBERS

    return fits


def _change(dimensions: int) -> Test:
    """Whether a value has an array before training and one after it."""
    fits = _array(dimensions)
    return lambda value: isinstance(value, dict) and all(fits(value.get(time)) for time in TIMES)


def _optional(fits: Test) -> Test:
    return lambda value: value is None or fits(value)


def _shares(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_array(1), value.values()))


def _is(kind: type) -> Test:
    return lambda value: isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


_FACTS: Mapping[str, Test] = {"split": _is(str), "examples": _is(int)}
_FIELDS: Mapping[str, Mapping[str, Test]] = {
    "targets": {
        **_FACTS,
        "target_length": _array(1),
        "target_variance_share": _array(1),
        "map?": _array(2),
        "entropy?": _array(1),
    },
    "epochs": {**_FACTS, "epochs": _array(1), "map": _array(3), "entropy": _array(2)},
    "layers": {
        **_FACTS,
        "pooling": _is(str),
        "cka": _change(2),
        "cosine": _optional(_change(2)),
        "angles": _optional(_change(3)),
    },
    "projection": {
        **_FACTS,
        "pooling": _is(str),
        "joint": _is(bool),
        "labels": _array(1),
        "student": _array(3),
        "teacher": _array(3),
        "fused": _optional(_array(3)),
        "explained": _shares,
    },
}
"""The keys of each inspection and what they hold; a key with a question mark may be missing."""
