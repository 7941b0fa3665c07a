"""Values as databases can store them: texts without NUL and lone surrogates, JSON without NaN."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

MARK = "$float"
"""The only key of an object that stands for a number which JSON lacks: NaN or an infinity."""


def storable(value: Any) -> Any:
    """A plain value in whose texts the characters that no database takes are escaped.

    PostgreSQL takes no NUL, and no database a lone surrogate, as in a file's name that is not UTF-8.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if isinstance(value, dict):
        return {storable(key): storable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [storable(entry) for entry in value]
    return value


def to_json(value: Any) -> str:
    """JSON of plain values. PostgreSQL refuses Python's words for numbers that JSON lacks."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_marked(value), allow_nan=False)


def from_json(data: str | bytes) -> Any:
    """The values of a text of `to_json`."""
    text = data if isinstance(data, str) else data.decode()
    if MARK not in text:  # a hook for each object takes time
        return parse_json(text)
    return json.loads(text, object_hook=_restored)


def parse_json(text: str | bytes) -> Any:
    """What `json.loads` gives, in half the time, and its errors.

    msgspec refuses NaN, infinities and lone surrogates, which Python's module writes and reads.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return json.loads(text)


def _marked(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {MARK: str(value)}
    if isinstance(value, dict):
        return {key: _marked(entry) for key, entry in value.items()}
    return [_marked(entry) for entry in value] if isinstance(value, list | tuple) else value


def _restored(found: dict[str, Any]) -> Any:
    return float(found[MARK]) if found.keys() == {MARK} else found
