"""The texts of a split's examples, as the ledger stores them."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class UnreadableTexts(ValueError):
    """Bytes that are no packed texts."""


def pack_texts(ids: npt.NDArray[np.int64], texts: Sequence[tuple[str, ...]]) -> bytes:
    """One gzipped JSON text of ids (examples,) and texts (examples,). Equal input gives equal bytes."""
    values = {"ids": ids.tolist(), "texts": list(texts)}
    return gzip.compress(json.dumps(values, ensure_ascii=False).encode(), mtime=0)


def unpack_texts(data: bytes) -> dict[int, tuple[str, ...]]:
    """The texts of each example, by its id. Raises `UnreadableTexts` for damaged bytes."""
    try:
        values = json.loads(gzip.decompress(data))
        pairs = zip(values["ids"], values["texts"], strict=True)
        return {id: tuple(texts) for id, texts in pairs}
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise UnreadableTexts(str(error)) from error


def are_readable(data: bytes) -> bool:
    """Whether packed texts can be unpacked."""
    try:
        unpack_texts(data)
    except UnreadableTexts:
        return False
    return True
