"""The faults that pydantic finds in values from outside, in the words of the command line."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

_REPR = reprlib.Repr()
_REPR.maxlevel = 4
_REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxdict = 20
_REPR.maxstring = _REPR.maxother = 200
MOST_SHOWN = 300
"""Characters of a value in a message."""


def fault_lines(error: ValidationError, labels: Mapping[str, str] | None = None) -> list[str]:
    """The faults in an error of pydantic: one line a fault, with the dotted key or the key's label.

    pydantic leaves a wrong item out and then counts too few: such a list has one fault.
    """
    details = error.errors()
    inner = {detail["loc"][:end] for detail in details for end in range(len(detail["loc"]))}
    return [
        _fault_line(detail, labels or {})
        for detail in details
        if not (detail["type"] == "too_short" and detail["loc"] in inner)
    ]


def _fault_line(detail: Any, labels: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "unexpected_keyword_argument":
        return f"unknown key '{key}'"
    if detail["type"] == "missing":
        return f"'{key}' is missing"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:].replace("tuple", "list")
    value = "" if detail["type"] == "value_error" else f" (got {_shown(detail['input'])})"
    return f"{labels.get(key, key)}: {message}{value}" if key else message


def _shown(value: object) -> str:
    """A value as Python writes it, but for what is long or deep."""
    text = _REPR.repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
