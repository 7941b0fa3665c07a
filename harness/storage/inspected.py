"""Damages of stored inspections: what each kind must hold to be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.storage.checksums import Damage, UnreadableJson
from harness.storage.schema import INSPECTIONS

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


def _is_array(value: Any) -> bool:
    """Whether a value is a list of numbers, or lists of them of one shape. None is a missing number."""
    return isinstance(value, list) and _shape(value) is not None


def _shape(values: list[Any]) -> tuple[int, ...] | None:
    """The shape of nested lists of numbers, or None."""
    kinds = set(map(type, values))
    if kinds != {list}:
        return (len(values),) if kinds <= _NUMBERS else None
    first, *others = set(map(_shape, values))
    return None if others or first is None else (len(values), *first)


def _is_array_or_none(value: Any) -> bool:
    return value is None or _is_array(value)


def _is_change(value: Any) -> bool:
    """Whether a value has an array before training and one after it."""
    return isinstance(value, dict) and all(_is_array(value.get(time)) for time in TIMES)


def _is_change_or_none(value: Any) -> bool:
    return value is None or _is_change(value)


def _is_shares(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_array, value.values()))


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


_FACTS: Mapping[str, Callable[[Any], bool]] = {"split": _is(str), "examples": _is(int)}
_FIELDS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "targets": {
        **_FACTS,
        "target_length": _is_array,
        "target_variance_share": _is_array,
        "map?": _is_array,
        "entropy?": _is_array,
    },
    "epochs": {**_FACTS, "epochs": _is_array, "map": _is_array, "entropy": _is_array},
    "layers": {
        **_FACTS,
        "pooling": _is(str),
        "cka": _is_change,
        "cosine": _is_change_or_none,
        "angles": _is_change_or_none,
    },
    "projection": {
        **_FACTS,
        "pooling": _is(str),
        "joint": _is(bool),
        "labels": _is_array,
        "student": _is_array,
        "teacher": _is_array,
        "fused": _is_array_or_none,
        "explained": _is_shares,
    },
}
"""The keys of each inspection and what they hold; a key with a question mark may be missing."""
