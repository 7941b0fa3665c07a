"""Tokenised splits: token ids kept flat, padded per batch and never to the maximum."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.data.sources import Split
from harness.storage.folders import cached

ARRAYS = ("ids", "types", "offsets")


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

    def tokens(self, device: torch.device) -> Tokens:
        """The split on a device: on the CPU in the same memory."""
        ids, types, offsets = (
            torch.from_numpy(array).to(device) for array in (self.ids, self.types, self.offsets)
        )
        return Tokens(ids, types, offsets, self.pad_id)

    def part(self, rows: npt.NDArray[np.int64]) -> EncodedSplit:
        """Some examples as a split of their own."""
        pieces = [slice(self.offsets[row], self.offsets[row + 1]) for row in rows]
        return EncodedSplit(
            ids=np.concatenate([self.ids[piece] for piece in pieces]),
            types=np.concatenate([self.types[piece] for piece in pieces]),
            offsets=np.concatenate([[0], np.cumsum(self.lengths[rows])]),
            pad_id=self.pad_id,
        )

    def vocabulary(self) -> Tensor:
        """The token ids that occur, the padding's among them, sorted (words,)."""
        return torch.from_numpy(np.union1d(self.ids, [self.pad_id]).astype(np.int64))


@dataclass(frozen=True)
class Tokens:
    """A split as flat tensors on a device, from which batches are gathered."""

    ids: Tensor
    types: Tensor
    offsets: Tensor
    pad_id: int

    def batch(self, rows: Tensor, width: int) -> dict[str, Tensor]:
        """Padded `input_ids`, `token_type_ids` and `attention_mask`, each (*rows, width)."""
        rows = rows.to(self.ids.device, non_blocking=True)
        starts, ends = self.offsets[rows][..., None], self.offsets[rows + 1][..., None]
        flat = starts + torch.arange(width, device=rows.device)
        mask = flat < ends
        flat = torch.where(mask, flat, 0)
        return {
            "input_ids": torch.where(mask, self.ids[flat], self.pad_id).long(),
            "token_type_ids": torch.where(mask, self.types[flat], 0).long(),
            "attention_mask": mask.long(),
        }


def tokenised(folder: Path, split: Split, tokenizer: Any, max_length: int) -> EncodedSplit:
    """A split's tokens, made once and mapped into memory from a folder."""

    def build(fresh: Path) -> dict[str, Any]:
        encoded = encode(split, tokenizer, max_length)
        for name in ARRAYS:
            written = io.BytesIO()  # numpy's own writes do not say that a disk is full
            np.save(written, getattr(encoded, name), allow_pickle=False)
            (fresh / f"{name}.npy").write_bytes(written.getbuffer())
        return {"examples": len(split)}

    cached(folder, build)
    # Copy-on-write: what torch calls writable, and the files stay as they are.
    ids, types, offsets = (
        np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in ARRAYS
    )
    return EncodedSplit(ids, types, offsets, int(tokenizer.pad_token_id))


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
