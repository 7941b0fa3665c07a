"""Which tokens make up a word, as the pieces of a tokenizer's vocabulary mark it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

CONTINUES, BEGINS, SPECIAL = 0, 1, 2
"""Kinds of tokens: a word goes on, a word begins, or no word: tokens that the tokenizer adds."""
GOES_ON = "##"
"""The prefix of WordPiece's pieces with which a word goes on."""
SPACE_MARKS = ("Ġ", "▁")
"""What stands for the space before a word, in byte-level and in SentencePiece's vocabularies."""


@dataclass(frozen=True)
class WordMarks:
    """The kind of each token of a vocabulary: `kinds` (tokens,), in uint8."""

    kinds: Tensor

    def words(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The number of each token's word in its text (..., T), counted from 0; -1 without a word.

        Padding and tokens that the tokenizer adds belong to no word. The token after such a token
        begins a word.

        Args:
            ids: token ids (..., T).
            mask: true (..., T) where a token is.
        """
        kinds = torch.where(mask, self.kinds[ids], SPECIAL)
        is_word = kinds != SPECIAL
        follows_word = torch.cat([torch.zeros_like(is_word[..., :1]), is_word[..., :-1]], dim=-1)
        begins = is_word & ((kinds == BEGINS) | ~follows_word)
        return torch.where(is_word, begins.cumsum(-1) - 1, -1)


def word_marks(tokenizer: Any) -> WordMarks:
    """The marks of a tokenizer's vocabulary, on the CPU.

    In WordPiece a piece that goes on has a prefix. Elsewhere a piece that begins a word has the mark of
    a space, so that a word is what stands between two spaces. In a vocabulary without such marks each
    token is a word.
    """
    pieces: list[str] = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    counts = {mark: sum(map(_has(mark), pieces)) for mark in (GOES_ON, *SPACE_MARKS)}
    mark = max(counts, key=counts.__getitem__)
    if counts[mark] == 0:
        begins = [True] * len(pieces)
    else:
        begins = [piece.startswith(mark) != (mark == GOES_ON) for piece in pieces]
    kinds = np.array(begins, dtype=np.uint8)
    kinds[sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})] = SPECIAL
    return WordMarks(torch.from_numpy(kinds))


def _has(mark: str) -> Callable[[str], bool]:
    """Whether a piece has a mark and more: a vocabulary may have the marks of others as characters."""
    return lambda piece: piece.startswith(mark) and piece != mark
