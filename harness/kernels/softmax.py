"""The shares of attention as one kernel: scale, padding, softmax and dropout, forward and backward."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.kernels.dropout import (
    SIZES_OF_BATCHES,
    UNALIGNED,
    Dropout,
    dropout_factors,
    mask_arguments,
)

_NUMBERS = 1024
"""Numbers of one program: with more, the registers of a thread do not hold them."""


@triton.jit
def _shares(scores, padding, row, column, inside, length, rows_of_example, scale, LEAST):
    place = row.to(tl.int64) * length + column
    values = tl.load(scores + place, mask=inside, other=0.0).to(tl.float32) * scale
    example = row // rows_of_example
    is_padding = tl.load(padding + example * length + column, mask=inside, other=0)
    # As a sum with the least number: rows of padding alone have equal shares.
    values = tl.where(is_padding != 0, LEAST, values)
    values = tl.where(column < length, values, float("-inf"))
    values = tl.exp(values - tl.max(values, axis=1)[:, None])
    return values / tl.sum(values, axis=1)[:, None]


_SIZES = ("count", *(size for size in SIZES_OF_BATCHES if size != "length"))
"""Not the length: threads read eight neighbours at once where 16 divides it."""


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=UNALIGNED)
def _forward(
    scores,
    padding,
    numbers,
    outputs,
    count,
    length,
    rows,
    rows_of_example,
    first_row,
    row_stride,
    levels,
    factor,
    scale,
    LEAST: tl.constexpr,
    DROPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < count) & (column < length)
    values = _shares(scores, padding, row, column, inside, length, rows_of_example, scale, LEAST)
    if DROPS:
        number = tl.load(numbers + row // rows, mask=row < count, other=0)
        index = (row % rows + first_row).to(tl.int64) * row_stride + column
        values *= dropout_factors(index, number, levels, factor)
    place = row.to(tl.int64) * length + column
    tl.store(outputs + place, values.to(outputs.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=UNALIGNED)
def _backward(
    gradient,
    scores,
    padding,
    numbers,
    outputs,
    count,
    length,
    rows,
    rows_of_example,
    first_row,
    row_stride,
    levels,
    factor,
    scale,
    LEAST: tl.constexpr,
    DROPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < count) & (column < length)
    values = _shares(scores, padding, row, column, inside, length, rows_of_example, scale, LEAST)
    place = row.to(tl.int64) * length + column
    slopes = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
    if DROPS:
        number = tl.load(numbers + row // rows, mask=row < count, other=0)
        index = (row % rows + first_row).to(tl.int64) * row_stride + column
        slopes *= dropout_factors(index, number, levels, factor)
    slopes = values * (slopes - tl.sum(slopes * values, axis=1)[:, None]) * scale
    tl.store(outputs + place, slopes.to(outputs.dtype.element_ty), mask=inside)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        padding: Tensor,
        members: int,
        scale: float,
        dropout: Dropout | None,
    ) -> Tensor:
        shares = torch.empty_like(scores)
        ctx.save_for_backward(scores, padding)
        ctx.members, ctx.scale, ctx.dropout = members, scale, dropout
        _run(_forward, (), (scores, padding), shares, ctx)
        return shares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        to_scores = torch.empty_like(ctx.saved_tensors[0])
        _run(_backward, (gradient.contiguous(),), ctx.saved_tensors, to_scores, ctx)
        return to_scores, None, None, None, None


def _run(
    kernel: Any,
    gradients: tuple[Tensor, ...],
    inputs: tuple[Tensor, Tensor],
    output: Tensor,
    ctx: Any,
) -> None:
    scores, padding = inputs
    length = scores.shape[-1]
    count = scores.numel() // length
    block = triton.next_power_of_2(length)
    rows_of_block = max(1, _NUMBERS // block)
    kernel[(triton.cdiv(count, rows_of_block),)](
        *gradients,
        *(scores, padding),
        outputs=output,
        **mask_arguments(ctx.dropout),
        **{"count": count, "length": length, "scale": ctx.scale},
        **{"rows": count // ctx.members, "rows_of_example": count // len(padding)},
        LEAST=torch.finfo(scores.dtype).min,
        DROPS=ctx.dropout is not None,
        ROWS=rows_of_block,
        BLOCK=block,
    )


def softmax_dropout(
    scores: Tensor, padding: Tensor, members: int, scale: float, dropout: Dropout | None = None
) -> Tensor:
    """Dropout of the softmax of `scale` · scores, without shares for padding.

    Args:
        scores: (members · B · heads, rows, T), products of queries and keys.
        padding: (members · B, T) in uint8, not 0 at tokens of padding.
        members: the number of members.
        scale: the factor of the scores.
        dropout: the mask's site; None without dropout.

    Returns:
        The shares, like `scores`.
    """
    shares: Tensor = _Softmax.apply(scores.contiguous(), padding, members, scale, dropout)
    return shares
