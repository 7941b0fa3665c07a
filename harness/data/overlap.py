"""Texts that two splits of a task have in common."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from harness.data.texts import Texts

Keys = npt.NDArray[np.uint64]


def text_keys(texts: Texts) -> Keys:
    """A hash (examples,) of each example's texts, whatever their case and white space."""
    return np.fromiter(map(_key, texts), np.uint64, len(texts))


def _key(texts: tuple[str, ...]) -> int:
    text = "\x1f".join(" ".join(sentence.split()).casefold() for sentence in texts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def count_common(keys: Keys, others: Keys) -> int:
    """The number of `keys` (examples,) that are among the `others`."""
    return int(np.isin(keys, others).sum())
