"""The texts of a split as the ledger keeps them: one gzipped JSON text. Never imports torch."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def packed(ids: npt.NDArray[np.int64], texts: Sequence[tuple[str, ...]]) -> bytes:
    """The texts (examples,), tuples of sentences, with their ids (examples,); always the same bytes."""
    values = {"ids": ids.tolist(), "texts": texts}
    return gzip.compress(json.dumps(values, ensure_ascii=False).encode(), mtime=0)


def unpacked(data: bytes) -> dict[int, tuple[str, ...]]:
    """The texts of each example, by its id."""
    values = json.loads(gzip.decompress(data))
    return {id: tuple(texts) for id, texts in zip(values["ids"], values["texts"], strict=True)}
