"""What follows a product, with its bias, as one kernel: GELU, and the split into heads."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.kernels.dropout import SIZES_OF_BATCHES
from harness.kernels.normalisation import rows_of_program

_COLUMNS = 256
"""Columns of one program, with one warp: each thread reads eight neighbours at once."""
_ROOT_HALF = tl.constexpr(0.7071067811865476)
_DENSITY = tl.constexpr(0.3989422804014327)
"""The density of the normal distribution at 0."""


@triton.jit(do_not_specialize=SIZES_OF_BATCHES)
def _gelu(product, bias, outputs, rows, width, bias_stride, COLUMNS: tl.constexpr):
    row, member = tl.program_id(0), tl.program_id(2).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    place = (member * rows + row) * width + column
    values = tl.load(product + place, mask=inside, other=0.0).to(tl.float32)
    values += tl.load(bias + member * bias_stride + column, mask=inside, other=0.0)
    values *= 0.5 * (1.0 + tl.erf(values * _ROOT_HALF))
    tl.store(outputs + place, values.to(outputs.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=SIZES_OF_BATCHES)
def _gelu_backward(
    gradient,
    product,
    bias,
    to_product,
    partial,
    rows,
    width,
    bias_stride,
    rows_each,
    COLUMNS: tl.constexpr,
):
    chunk, member = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    biases = tl.load(bias + member * bias_stride + column, mask=column < width, other=0.0)
    to_bias = tl.zeros((COLUMNS,), tl.float32)
    for turn in range(rows_each):
        row = chunk * rows_each + turn
        inside = (column < width) & (row < rows)
        place = (member * rows + row) * width + column
        values = tl.load(product + place, mask=inside, other=0.0).to(tl.float32) + biases
        slopes = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
        density = _DENSITY * tl.exp(-0.5 * values * values)
        slopes *= 0.5 * (1.0 + tl.erf(values * _ROOT_HALF)) + values * density
        to_bias += slopes
        tl.store(to_product + place, slopes.to(to_product.dtype.element_ty), mask=inside)
    place = (member * tl.num_programs(0) + chunk) * width + column
    tl.store(partial + place, to_bias, mask=column < width)


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, product: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(product, bias)
        outputs = torch.empty_like(product)
        members, width = bias.shape
        rows = product[0].numel() // width
        _gelu[(rows, triton.cdiv(width, _COLUMNS), members)](
            *(product, bias, outputs, rows, width, bias.stride(0)),
            COLUMNS=_COLUMNS,
            num_warps=1,
        )
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        product, bias = ctx.saved_tensors
        members, width = bias.shape
        rows = product[0].numel() // width
        rows_each = rows_of_program(members * rows)
        to_product = torch.empty_like(product)
        partial = bias.new_empty(members, triton.cdiv(rows, rows_each), width)
        _gelu_backward[(partial.shape[1], triton.cdiv(width, _COLUMNS), members)](
            *(gradient.contiguous(), product, bias, to_product, partial),
            *(rows, width, bias.stride(0), rows_each),
            COLUMNS=_COLUMNS,
            num_warps=1,
        )
        return to_product, partial.sum(1)


def bias_gelu(product: Tensor, bias: Tensor) -> Tensor:
    """GELU of a product (members, ..., width) + bias (members, width), by the normal distribution.

    The bias is in fp32. The result has the product's dtype.
    """
    outputs: Tensor = _Gelu.apply(product.contiguous(), bias)
    return outputs


@triton.jit(do_not_specialize=SIZES_OF_BATCHES)
def _split_heads(
    product,
    bias,
    first,
    second,
    third,
    rows,
    length,
    heads,
    bias_stride,
    SIZE: tl.constexpr,
    PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row, member = tl.program_id(0), tl.program_id(2).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    width = heads * SIZE
    inside = column < width
    example, token = member * (rows // length) + row // length, row % length
    place = ((example * heads + column // SIZE) * length + token) * SIZE + column % SIZE
    for part in tl.static_range(PARTS):
        source = ((member * rows + row) * PARTS + part) * width + column
        values = tl.load(product + source, mask=inside, other=0.0).to(tl.float32)
        biases = bias + member * bias_stride + part * width + column
        values += tl.load(biases, mask=inside, other=0.0)
        target = first if part == 0 else second if part == 1 else third
        tl.store(target + place, values.to(first.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=SIZES_OF_BATCHES)
def _split_heads_backward(
    first,
    second,
    third,
    to_product,
    partial,
    rows,
    length,
    heads,
    rows_each,
    SIZE: tl.constexpr,
    PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    chunk, member = tl.program_id(0), tl.program_id(2).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    width = heads * SIZE
    for part in tl.static_range(PARTS):
        gradient = first if part == 0 else second if part == 1 else third
        to_bias = tl.zeros((COLUMNS,), tl.float32)
        for turn in range(rows_each):
            row = chunk * rows_each + turn
            inside = (column < width) & (row < rows)
            example, token = member * (rows // length) + row // length, row % length
            source = ((example * heads + column // SIZE) * length + token) * SIZE + column % SIZE
            slopes = tl.load(gradient + source, mask=inside, other=0.0).to(tl.float32)
            to_bias += slopes
            place = ((member * rows + row) * PARTS + part) * width + column
            tl.store(to_product + place, slopes.to(to_product.dtype.element_ty), mask=inside)
        place = ((member * tl.num_programs(0) + chunk) * PARTS + part) * width + column
        tl.store(partial + place, to_bias, mask=column < width)


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, product: Tensor, bias: Tensor, heads: int, parts: int
    ) -> tuple[Tensor, ...]:
        members, examples, length, columns = product.shape
        size = columns // parts // heads
        shape = (members * examples * heads, length, size)
        outputs = [product.new_empty(shape) for _ in range(parts)]
        ctx.sizes = members, examples, length, heads, size
        rows = examples * length
        first, second, third = (*outputs, None, None)[:3]
        _split_heads[(rows, triton.cdiv(heads * size, _COLUMNS), members)](
            *(product, bias, first, second, third),
            *(rows, length, heads, bias.stride(0)),
            SIZE=size,
            PARTS=parts,
            COLUMNS=_COLUMNS,
            num_warps=1,
        )
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        members, examples, length, heads, size = ctx.sizes
        parts, width, rows = len(gradients), heads * size, examples * length
        to_product = gradients[0].new_empty(members, examples, length, parts * width)
        rows_each = rows_of_program(members * rows)
        chunks = triton.cdiv(rows, rows_each)
        partial = to_product.new_empty(members, chunks, parts * width, dtype=torch.float32)
        first, second, third = (*(g.contiguous() for g in gradients), None, None)[:3]
        _split_heads_backward[(chunks, triton.cdiv(width, _COLUMNS), members)](
            *(first, second, third, to_product, partial),
            *(rows, length, heads, rows_each),
            SIZE=size,
            PARTS=parts,
            COLUMNS=_COLUMNS,
            num_warps=1,
        )
        return to_product, partial.sum(1), None, None


def bias_heads(product: Tensor, bias: Tensor, heads: int, parts: int) -> tuple[Tensor, ...]:
    """The parts of product + bias, head by head.

    Args:
        product: (members, B, T, parts · width), at most three parts.
        bias: (members, parts · width) in fp32.
        heads: the number of heads; each has width / heads columns of a part.
        parts: the number of parts: queries, keys and values, or some of them.

    Returns:
        For each part a tensor (members · B · heads, T, width / heads).
    """
    outputs: tuple[Tensor, ...] = _Heads.apply(product.contiguous(), bias, heads, parts)
    return outputs
