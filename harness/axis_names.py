"""The names of axes, of their values and of cells, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue


def short_names(keys: Sequence[str]) -> list[str]:
    """The last parts of dotted keys; the whole keys where two have the same last part."""
    parts = [key.rpartition(".")[2] for key in keys]
    return parts if len(set(parts)) == len(parts) else list(keys)


def value_text(value: JsonValue) -> str:
    """A value of an axis as text: a name as it is, anything else as JSON without spaces."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def values_in_words(values: Mapping[str, JsonValue]) -> str:
    """Values by key in words, such as `layers=6, epochs=3`."""
    names = short_names(list(values))
    return ", ".join(
        f"{name}={value_text(value)}" for name, value in zip(names, values.values(), strict=True)
    )


def task_in_cell(task: str, cell: str) -> str:
    """The name of a task in a cell, such as `rte (layers=6)`; the task's own in a nameless cell."""
    return f"{task} ({cell})" if cell else task
