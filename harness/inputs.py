"""Tokenised splits: token ids kept flat, padded per batch and never to the maximum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.schedule import Batch
from harness.sources import Split


@dataclass(frozen=True)
class EncodedSplit:
    """A split as token ids: `ids` and `types` (tokens,), `offsets` (examples + 1,)."""

    ids: npt.NDArray[np.int32]
    types: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    pad_id: int

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each example (examples,)."""
        return np.diff(self.offsets)

    def batch(self, batch: Batch, device: torch.device) -> dict[str, Tensor]:
        """Padded `input_ids`, `token_type_ids` and `attention_mask`, each (B, width)."""
        starts = self.offsets[batch.rows][:, None]
        positions = np.arange(batch.width)[None, :]
        mask = positions < self.lengths[batch.rows][:, None]
        flat = np.where(mask, starts + positions, 0)
        ids = np.where(mask, self.ids[flat], self.pad_id)
        types = np.where(mask, self.types[flat], 0)
        arrays = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
        return {
            name: torch.from_numpy(array.astype(np.int64)).to(device, non_blocking=True)
            for name, array in arrays.items()
        }


def encode(split: Split, tokenizer: Any, max_length: int) -> EncodedSplit:
    """Tokenise a split once, pairs truncated from the longer sentence first."""
    columns: Sequence[list[str]] = [list(column) for column in zip(*split.texts, strict=True)]
    encoded = tokenizer(
        *columns,
        truncation=True,
        max_length=max_length,
        padding=False,
        return_token_type_ids=True,
        return_attention_mask=False,
    )
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return EncodedSplit(
        ids=np.concatenate(encoded["input_ids"]).astype(np.int32),
        types=np.concatenate(encoded["token_type_ids"]).astype(np.uint8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        pad_id=int(tokenizer.pad_token_id),
    )
