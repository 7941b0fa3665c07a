"""Tokenised splits: token ids in flat arrays, which each batch pads to its own length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.data.splits import Split
from harness.data.texts import CHUNK, Texts
from harness.storage.arrays import ArrayWriter, map_array
from harness.storage.folders import build_once

ARRAYS = ("ids", "types", "offsets")
MOST_INDICES = 2**20
"""Token ids that are looked up at once: numpy copies indices to 64 bits."""


@dataclass(frozen=True)
class TokenCounts:
    """What a tokenizer made of texts."""

    truncated: int = 0
    """Examples that are longer than the limit."""
    words: int = 0
    """Tokens without those that the tokenizer adds to every example."""
    unknown: int = 0
    """The words among them that stand for text outside the vocabulary."""

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            self.truncated + other.truncated,
            self.words + other.words,
            self.unknown + other.unknown,
        )


@dataclass(frozen=True)
class EncodedSplit:
    """A split as token ids: `ids` and `types` (tokens,), `offsets` (examples + 1,)."""

    ids: npt.NDArray[np.int32]
    types: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    pad_id: int
    counts: TokenCounts = TokenCounts()
    """Counts of the whole split; zeros for parts of a split."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each example (examples,)."""
        return np.diff(self.offsets)

    def tokens(self, device: torch.device) -> Tokens:
        """The split on a device. On the CPU the tensors share the arrays' memory."""
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

    def repeated(self, examples: int) -> EncodedSplit:
        """The examples in their order, again and again, until they are as many as `examples`."""
        rounds, rest = divmod(examples, len(self.lengths))
        lengths = np.resize(self.lengths, examples)
        tokens = self.offsets[rest]
        return EncodedSplit(
            ids=np.concatenate([*[self.ids] * rounds, self.ids[:tokens]]),
            types=np.concatenate([*[self.types] * rounds, self.types[:tokens]]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            pad_id=self.pad_id,
        )

    def followed_by(self, other: EncodedSplit) -> EncodedSplit:
        """The examples of this split and then those of another one, in memory."""
        return EncodedSplit(
            ids=np.concatenate([self.ids, other.ids]),
            types=np.concatenate([self.types, other.types]),
            offsets=np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
            pad_id=self.pad_id,
        )

    def vocabulary(self) -> Tensor:
        """The token ids that occur, with the padding's id, sorted (words,)."""
        occurs = np.zeros(max(int(self.ids.max()), self.pad_id) + 1, dtype=bool)
        occurs[self.pad_id] = True
        for start in range(0, len(self.ids), MOST_INDICES):
            occurs[self.ids[start : start + MOST_INDICES]] = True
        return torch.from_numpy(np.flatnonzero(occurs))


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
        positions = starts + torch.arange(width, device=rows.device)
        mask = positions < ends
        positions = torch.where(mask, positions, 0)
        return {
            "input_ids": torch.where(mask, self.ids[positions], self.pad_id).long(),
            "token_type_ids": torch.where(mask, self.types[positions], 0).long(),
            "attention_mask": mask.long(),
        }


def encoded_split(folder: Path, split: Split, tokenizer: Any, max_length: int) -> EncodedSplit:
    """A split's tokens, which a folder keeps and maps into memory. A missing folder is made."""

    def build(new_folder: Path) -> dict[str, Any]:
        with (
            ArrayWriter(new_folder / "ids.npy", np.int32) as ids,
            ArrayWriter(new_folder / "types.npy", np.uint8) as types,
            ArrayWriter(new_folder / "offsets.npy", np.int64) as offsets,
        ):
            counts = TokenCounts()
            offsets.append([0])
            for part in _encoded_parts(split, tokenizer, max_length):
                offsets.append(ids.length + part.offsets[1:])
                ids.append(part.ids)
                types.append(part.types)
                counts += part.counts
        return {"examples": len(split), "counts": asdict(counts)}

    facts = build_once(folder, build)
    ids, types, offsets = (map_array(folder / f"{name}.npy") for name in ARRAYS)
    counts = TokenCounts(**facts["counts"])
    return EncodedSplit(ids, types, offsets, int(tokenizer.pad_token_id), counts)


def _encoded_parts(split: Split, tokenizer: Any, max_length: int) -> Iterator[EncodedSplit]:
    """The tokens of `CHUNK` examples after the other: a tokenizer's own objects are large."""
    texts = iter(split.texts)
    while examples := list(islice(texts, CHUNK)):
        yield encode(examples, tokenizer, max_length)


def encode(texts: Texts, tokenizer: Any, max_length: int) -> EncodedSplit:
    """Tokenise examples. Truncation of a pair takes tokens from the longer sentence first."""
    columns: Sequence[list[str]] = [list(column) for column in zip(*texts, strict=True)]
    encoding = tokenizer(
        *columns,
        truncation=True,
        max_length=max_length,
        padding=False,
        return_token_type_ids=True,
        return_attention_mask=False,
    )
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in encoding["input_ids"]])])
    tokens = EncodedSplit(
        ids=np.concatenate(encoding["input_ids"]).astype(np.int32),
        types=np.concatenate(encoding["token_type_ids"]).astype(np.uint8),
        offsets=offsets.astype(np.int64),
        pad_id=int(tokenizer.pad_token_id),
    )
    return replace(tokens, counts=_counts(tokens, columns, tokenizer, max_length))


def _counts(
    tokens: EncodedSplit, columns: Sequence[Sequence[str]], tokenizer: Any, max_length: int
) -> TokenCounts:
    """Counts of tokenised examples, whose sentences are in `columns`."""
    truncated = 0
    # Only examples of the greatest length may have been cut; whole they are longer.
    if len(full := np.flatnonzero(tokens.lengths == max_length).tolist()):
        texts = [[column[row] for row in full] for column in columns]
        whole = tokenizer(*texts, truncation=False, padding=False, verbose=False)
        truncated = sum(len(ids) > max_length for ids in whole["input_ids"])
    unknown_id = tokenizer.unk_token_id
    additions = sorted(set(tokenizer.all_special_ids) - {unknown_id})
    return TokenCounts(
        truncated=truncated,
        words=int((~np.isin(tokens.ids, additions)).sum()),
        unknown=0 if unknown_id is None else int((tokens.ids == unknown_id).sum()),
    )
