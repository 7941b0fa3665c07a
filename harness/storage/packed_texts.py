"""The texts of a split's examples, as the ledger stores them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def pack_texts(ids: npt.NDArray[np.int64], texts: Sequence[tuple[str, ...]]) -> bytes:
    """One gzipped JSON text of ids (examples,) and texts (examples,). Equal input gives equal bytes."""
    values = {"ids": ids.tolist(), "texts": list(texts)}
    return gzip.compress(json.dumps(values, ensure_ascii=False).encode(), mtime=0)


def unpack_texts(data: bytes) -> dict[int, tuple[str, ...]]:
    """The texts of each example, by its id. Damaged bytes raise an error of gzip, zlib or JSON."""
    values = json.loads(gzip.decompress(data))
    return {id: tuple(texts) for id, texts in zip(values["ids"], values["texts"], strict=True)}
