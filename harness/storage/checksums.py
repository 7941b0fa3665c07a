"""Checksums of stored rows, field by field, and the damages that they find."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, Dialect
from sqlalchemy.types import TypeDecorator

DIGITS = 16
"""Hexadecimal digits of a field's checksum: equal by chance once in 10^19."""
SEAL = "checksum"
"""The key of a sealed object's checksum."""
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Damage:
    """A field of a stored row of a run that cannot be trusted. Results leave the row out."""

    table: str
    run: str
    """The run's fingerprint."""
    field: str
    reason: str

    @property
    def sentence(self) -> str:
        """The damage in words, for banners and messages."""
        return f"{self.table}, run {self.run[:16]}: {self.field} {self.reason}"


@dataclass(frozen=True)
class UnreadableJson:
    """Stands for a JSON value whose text is no JSON."""

    reason: str


class StoredJson(TypeDecorator[Any]):
    """JSON in a column. A damaged text is read as `UnreadableJson`, and the other rows stay readable."""

    impl = JSON
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """The parser of a column's texts."""
        parse = super().result_processor(dialect, coltype)

        def tolerant(value: Any) -> Any:
            try:
                return value if parse is None else parse(value)
            except (ValueError, RecursionError) as error:
                return UnreadableJson(str(error))

        return tolerant


def checksums(row: Mapping[str, Any]) -> str:
    """The checksums of a row's fields, in one text of `name:digits` with spaces between."""
    return " ".join(f"{name}:{_checksum(value)}" for name, value in sorted(row.items()))


def changed_fields(row: Mapping[str, Any], sums: str) -> list[str]:
    """The fields of a row that differ from their checksums."""
    stored = dict(part.partition(":")[::2] for part in sums.split())
    return [name for name, value in row.items() if stored.get(name) != _checksum(value)]


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its own checksum beside its keys."""
    return {**values, SEAL: _checksum(values)}


def is_sealed(values: Any) -> bool:
    """Whether a value of JSON is an object with its own checksum, right or wrong."""
    return isinstance(values, dict) and SEAL in values


def unsealed(values: Any) -> Any:
    """The object that was sealed. A value without a checksum, of an earlier version, stays as it is.

    Raises ValueError if the object has changed since it was sealed.
    """
    if not is_sealed(values):
        return values
    keys = {key: value for key, value in values.items() if key != SEAL}
    if values[SEAL] != _checksum(keys):
        raise ValueError("has changed since it was written (its checksum says so)")
    return keys


def _checksum(value: Any) -> str:
    data = value if isinstance(value, bytes | memoryview) else _json(value).encode()
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def _json(value: Any) -> str:
    """One text for equal values, with NaN and lone surrogates as they are."""
    return _ENCODER.encode(value)
