"""Counter-based dropout inside of kernels: the factors of `harness.runtime.randomness`, bit by bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LEVELS = 256
"""A draw is a byte. A factor is 0 with probability levels/256, else 256/(256 − levels)."""
_WEYL = tl.constexpr(-0x61C8864680B583EB)
_FIRST_FACTOR = tl.constexpr(-0x40A7B892E31B1A47)
_SECOND_FACTOR = tl.constexpr(-0x6B2FB644ECCEEE15)
_BLOCK = 1024
SIZES_OF_BATCHES = (
    *("rows", "rows_each", "rows_of_example", "first_row"),
    *("length", "row_stride", "levels"),
)
"""Arguments that differ between batches. Otherwise Triton would compile a kernel again for sizes that 16
divides, and for the size 1."""
UNALIGNED = ("numbers",)
"""Arguments for whose alignment Triton shall compile nothing again: each site has another."""


@dataclass(frozen=True)
class Dropout:
    """What the mask of one site depends on.

    The factor in row r and column c of a member's mask is a function of the member's number and of the
    index (r + `first_row`) · `row_stride` + c.
    """

    numbers: Tensor
    """(members,) int64: the members' keys of this site and step."""
    levels: int
    """The rate in 256ths, 1 to 255."""
    row_stride: int
    first_row: int = 0

    @property
    def factor(self) -> float:
        """The factor of numbers that stay."""
        return LEVELS / (LEVELS - self.levels)


@triton.jit
def dropout_factors(index, number, levels, factor):  # noqa: D103
    # SplitMix64, with the same last step as `harness.runtime.randomness`. One word has eight draws.
    words = (index >> 3) * _WEYL + number
    words = (words ^ (words >> 30)) * _FIRST_FACTOR
    words = (words ^ (words >> 27)) * _SECOND_FACTOR
    words += words >> 31
    draws = (words >> ((index & 7) * 8)) & 255
    return tl.where(draws >= levels, factor, 0.0)


@triton.jit(do_not_specialize=SIZES_OF_BATCHES, do_not_specialize_on_alignment=UNALIGNED)
def _write_mask(
    masks, numbers, count, columns, first_row, row_stride, levels, factor, BLOCK: tl.constexpr
):
    member = tl.program_id(1).to(tl.int64)
    element = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    index = (element // columns + first_row) * row_stride + element % columns
    factors = dropout_factors(index, tl.load(numbers + member), levels, factor)
    tl.store(masks + member * count + element, factors, mask=element < count)


def dropout_mask(shape: Sequence[int], dropout: Dropout, dtype: torch.dtype) -> Tensor:
    """The mask of `shape` (members, ..., columns) in one kernel."""
    members, *sizes = shape
    masks = torch.empty(*shape, dtype=dtype, device=dropout.numbers.device)
    count = math.prod(sizes)
    _write_mask[(triton.cdiv(count, _BLOCK), members)](
        masks,
        dropout.numbers,
        count,
        sizes[-1],
        dropout.first_row,
        dropout.row_stride,
        dropout.levels,
        dropout.factor,
        BLOCK=_BLOCK,
    )
    return masks


def mask_arguments(dropout: Dropout | None) -> dict[str, Any]:
    """A kernel's arguments that tell a mask."""
    if dropout is None:
        return {"numbers": None, "levels": 0, "factor": 1.0, "row_stride": 0, "first_row": 0}
    return {
        "numbers": dropout.numbers,
        "levels": dropout.levels,
        "factor": dropout.factor,
        "row_stride": dropout.row_stride,
        "first_row": dropout.first_row,
    }
