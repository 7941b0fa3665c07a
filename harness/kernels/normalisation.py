"""Bias, dropout, residual and layer normalisation as one kernel, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
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

_MOST_ROWS = 32
"""Rows of one program of the backward kernel. Fewer where there are too few programs for a GPU."""
_PROGRAMS = 512


@dataclass(frozen=True)
class Form:
    """The form of a normalisation: `eps` is added to the variance, None is no dropout.

    `half_dtype` is a dtype of fewer bits in which the states are wanted too. With `has_firsts` the first
    tokens' states are wanted apart: then their gradient comes without zeros for all other tokens.
    """

    eps: float
    dropout: Dropout | None = None
    half_dtype: torch.dtype | None = None
    has_firsts: bool = False


@triton.jit(do_not_specialize=SIZES_OF_BATCHES, do_not_specialize_on_alignment=UNALIGNED)
def _forward(
    values_in,
    bias,
    residual,
    scale,
    shift,
    numbers,
    sums,
    states,
    half,
    firsts,
    rows,
    width,
    length,
    bias_stride,
    weight_stride,
    first_row,
    row_stride,
    levels,
    factor,
    eps,
    ADDS: tl.constexpr,
    DROPS: tl.constexpr,
    DROPS_AFTER: tl.constexpr,
    HAS_HALF: tl.constexpr,
    HAS_FIRSTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    member = row // rows
    column = tl.arange(0, BLOCK)
    inside = column < width
    values = tl.load(values_in + row * width + column, mask=inside, other=0.0).to(tl.float32)
    weight = member * weight_stride + column
    if DROPS or DROPS_AFTER:
        index = (row % rows + first_row) * row_stride + column
        factors = dropout_factors(index, tl.load(numbers + member), levels, factor)
    if ADDS:
        values += tl.load(bias + member * bias_stride + column, mask=inside, other=0.0).to(
            tl.float32
        )
        if DROPS:
            values *= factors
        values += tl.load(residual + row * width + column, mask=inside, other=0.0)
        tl.store(sums + row * width + column, values, mask=inside)
    mean = tl.sum(values, axis=0) / width
    centred = tl.where(inside, values - mean, 0.0)
    unit = centred * tl.rsqrt(tl.sum(centred * centred, axis=0) / width + eps)
    outputs = unit * tl.load(scale + weight, mask=inside, other=0.0)
    outputs += tl.load(shift + weight, mask=inside, other=0.0)
    if DROPS_AFTER:
        outputs *= factors
    tl.store(states + row * width + column, outputs, mask=inside)
    if HAS_HALF:
        tl.store(half + row * width + column, outputs.to(half.dtype.element_ty), mask=inside)
    if HAS_FIRSTS:
        is_first = inside & (row % length == 0)
        tl.store(firsts + row // length * width + column, outputs, mask=is_first)


@triton.jit(do_not_specialize=SIZES_OF_BATCHES, do_not_specialize_on_alignment=UNALIGNED)
def _backward(
    gradient,
    half_gradient,
    firsts_gradient,
    sums,
    scale,
    numbers,
    to_values,
    to_residual,
    partial,
    rows,
    width,
    length,
    bias_stride,
    weight_stride,
    first_row,
    row_stride,
    levels,
    factor,
    eps,
    rows_each,
    HAS_GRADIENT: tl.constexpr,
    HAS_HALF: tl.constexpr,
    HAS_FIRSTS: tl.constexpr,
    ADDS: tl.constexpr,
    DROPS: tl.constexpr,
    DROPS_AFTER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    chunk, member = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    column = tl.arange(0, BLOCK)
    scales = tl.load(scale + member * weight_stride + column, mask=column < width, other=0.0)
    to_scale = tl.zeros((BLOCK,), tl.float32)
    to_shift = tl.zeros((BLOCK,), tl.float32)
    to_bias = tl.zeros((BLOCK,), tl.float32)
    for turn in range(rows_each):
        row = chunk * rows_each + turn
        place = (member * rows + row) * width + column
        inside = (column < width) & (row < rows)
        if HAS_GRADIENT:
            slopes = tl.load(gradient + place, mask=inside, other=0.0)
        else:
            slopes = tl.zeros((BLOCK,), tl.float32)
        if HAS_HALF:
            slopes += tl.load(half_gradient + place, mask=inside, other=0.0).to(tl.float32)
        if HAS_FIRSTS:
            example = (member * rows + row) // length
            is_first = inside & (row % length == 0)
            slopes += tl.load(firsts_gradient + example * width + column, mask=is_first, other=0.0)
        if DROPS or DROPS_AFTER:
            index = (row + first_row) * row_stride + column
            factors = dropout_factors(index, tl.load(numbers + member), levels, factor)
        if DROPS_AFTER:
            slopes *= factors
        values = tl.load(sums + place, mask=inside, other=0.0)
        mean = tl.sum(values, axis=0) / width
        centred = tl.where(inside, values - mean, 0.0)
        inverse = tl.rsqrt(tl.sum(centred * centred, axis=0) / width + eps)
        unit = centred * inverse
        to_scale += slopes * unit
        to_shift += slopes
        slopes *= scales
        along = tl.sum(slopes * unit, axis=0) / width
        slopes = inverse * (slopes - tl.sum(slopes, axis=0) / width - unit * along)
        if ADDS:
            tl.store(to_residual + place, slopes, mask=inside)
            if DROPS:
                slopes *= factors
            to_bias += slopes
        tl.store(to_values + place, slopes.to(to_values.dtype.element_ty), mask=inside)
    sums_each = 3 if ADDS else 2
    place = ((member * tl.num_programs(0) + chunk) * sums_each) * width + column
    tl.store(partial + place, to_scale, mask=column < width)
    tl.store(partial + place + width, to_shift, mask=column < width)
    if ADDS:
        tl.store(partial + place + 2 * width, to_bias, mask=column < width)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        bias: Tensor | None,
        residual: Tensor | None,
        scale: Tensor,
        shift: Tensor,
        form: Form,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        ctx.set_materialize_grads(False)
        adds = residual is not None
        members, examples, length, width = values.shape
        states = torch.empty_like(values, dtype=torch.float32)
        half = None
        if form.half_dtype is not None:
            half = torch.empty_like(values, dtype=form.half_dtype)
        firsts = states.new_empty(members, examples, 1, width) if form.has_firsts else None
        sums = torch.empty_like(states) if adds else values
        _forward[(members * examples * length,)](
            *(values, bias, residual, scale, shift),
            **{"sums": sums, "states": states, "half": half, "firsts": firsts},
            **_shared_arguments(sums, bias, scale, form),
            HAS_HALF=half is not None,
            HAS_FIRSTS=firsts is not None,
        )
        ctx.save_for_backward(sums, bias, scale)
        ctx.form, ctx.dtype = form, values.dtype
        return states, half, firsts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        sums, bias, scale = ctx.saved_tensors
        adds = bias is not None
        members, examples, length, width = sums.shape
        rows = examples * length
        rows_each = rows_of_program(members * rows)
        chunks = triton.cdiv(rows, rows_each)
        to_values = torch.empty_like(sums, dtype=ctx.dtype)
        to_residual = torch.empty_like(sums) if adds else None
        partial = torch.empty(members, chunks, 3 if adds else 2, width, device=sums.device)
        _backward[(chunks, members)](
            *(None if gradient is None else gradient.contiguous() for gradient in gradients),
            *(sums, scale),
            **{"to_values": to_values, "to_residual": to_residual, "partial": partial},
            **_shared_arguments(sums, bias, scale, ctx.form),
            HAS_GRADIENT=gradients[0] is not None,
            HAS_HALF=gradients[1] is not None,
            HAS_FIRSTS=gradients[2] is not None,
            rows_each=rows_each,
        )
        to_scale, to_shift, *to_bias = partial.sum(1).unbind(1)
        return to_values, to_bias[0] if adds else None, to_residual, to_scale, to_shift, None


def _shared_arguments(
    sums: Tensor, bias: Tensor | None, scale: Tensor, form: Form
) -> dict[str, Any]:
    _, examples, length, width = sums.shape
    adds, drops = bias is not None, form.dropout is not None
    return {
        **mask_arguments(form.dropout),
        "rows": examples * length,
        "width": width,
        "length": length,
        "bias_stride": 0 if bias is None else bias.stride(0),
        "weight_stride": scale.stride(0),
        "eps": form.eps,
        "ADDS": adds,
        "DROPS": adds and drops,
        "DROPS_AFTER": not adds and drops,
        "BLOCK": triton.next_power_of_2(width),
    }


def rows_of_program(rows: int) -> int:
    """Rows that one program adds up: a power of 2, at most 32, fewer where programs would be too few."""
    return min(_MOST_ROWS, triton.next_power_of_2(max(1, rows // _PROGRAMS)))


def add_norm(
    product: Tensor,
    bias: Tensor,
    residual: Tensor,
    scale: Tensor,
    shift: Tensor,
    form: Form,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Layer normalisation of dropout(product + bias) + residual.

    Args:
        product: (members, B, T, width), in any floating dtype.
        bias: (members, width) in fp32.
        residual: like `product`, in fp32.
        scale: (members, width) in fp32, with the strides of `shift`.
        shift: likewise.
        form: the dropout, and which results are wanted.

    Returns:
        The states (members, B, T, width) in fp32; the same in the form's `half_dtype`; and the first
        tokens' states (members, B, 1, width) in fp32. None stands for results that are not wanted.
    """
    arguments = (product.contiguous(), bias, residual.contiguous(), scale, shift, form)
    results: tuple[Tensor, Tensor | None, Tensor | None] = _Norm.apply(*arguments)
    return results


def norm_dropout(
    values: Tensor, scale: Tensor, shift: Tensor, form: Form
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Dropout of the layer normalisation of `values` (members, B, T, width) in fp32; as `add_norm`."""
    arguments = (values.contiguous(), None, None, scale, shift, form)
    results: tuple[Tensor, Tensor | None, Tensor | None] = _Norm.apply(*arguments)
    return results
