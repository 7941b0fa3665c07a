"""AdamW for all members of a stacked tensor in one kernel, and the norms of their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024
_NUMBERS = 16_384
"""Numbers of one partial sum of squares."""
_FIRST_BETA, _SECOND_BETA, _EPS = 0.9, 0.999, 1e-8
"""AdamW's decay of the moments, and what is added to the root: the defaults of `torch.optim.AdamW`."""


@triton.jit
def _squares(gradients, partial, count, first, width, NUMBERS: tl.constexpr, BLOCK: tl.constexpr):
    member, chunk = tl.program_id(1).to(tl.int64), tl.program_id(0).to(tl.int64)
    total = tl.zeros((BLOCK,), tl.float32)
    for turn in range(NUMBERS // BLOCK):
        element = chunk * NUMBERS + turn * BLOCK + tl.arange(0, BLOCK)
        place = gradients + member * count + element
        values = tl.load(place, mask=element < count, other=0.0).to(tl.float32)
        total += values * values
    tl.store(partial + member * width + first + chunk, tl.sum(total, axis=0))


def squared_norms(gradients: Sequence[tuple[int, Tensor]], members: int) -> Tensor:
    """The sum of squares of each member's gradients (members,).

    Args:
        gradients: tensors (k, ...) in fp32 or bf16, each with the member that its first row belongs
            to; the other rows belong to the members after that one.
        members: the number of members.
    """
    chunks = [triton.cdiv(values[0].numel(), _NUMBERS) for _, values in gradients]
    partial = torch.zeros(members, sum(chunks), device=gradients[0][1].device)
    start = 0
    for (first, values), width in zip(gradients, chunks, strict=True):
        _squares[(width, len(values))](
            values.contiguous(),
            partial[first:],
            values[0].numel(),
            start,
            partial.shape[1],
            NUMBERS=_NUMBERS,
            BLOCK=_BLOCK,
        )
        start += width
    return partial.sum(1)


_PARTS = ("squared_norms", "rates", "corrections")
"""Parts of tensors, for whose alignment Triton shall compile nothing again."""


@triton.jit(do_not_specialize_on_alignment=_PARTS)
def _update(
    weights,
    gradients,
    means,
    squares,
    squared_norms,
    rates,
    corrections,
    count,
    clip_norm,
    decay,
    first_share,
    second_beta,
    second_share,
    eps,
    BLOCK: tl.constexpr,
):
    member = tl.program_id(1).to(tl.int64)
    element = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = element < count
    place = member * count + element
    clip = clip_norm / (tl.sqrt(tl.load(squared_norms + member)) + 1e-6)
    clip = tl.where(clip > 1.0, 1.0, clip)  # tl.minimum would make 1 of NaN
    rate = tl.load(rates + member)
    first_correction, root_correction = tl.load(corrections), tl.load(corrections + 1)
    slopes = tl.load(gradients + place, mask=inside, other=0.0).to(tl.float32) * clip
    mean = tl.load(means + place, mask=inside, other=0.0)
    square = tl.load(squares + place, mask=inside, other=0.0)
    mean += (slopes - mean) * first_share
    square = square * second_beta + slopes * slopes * second_share
    values = tl.load(weights + place, mask=inside, other=0.0)
    change = mean / first_correction / (tl.sqrt(square) / root_correction + eps)
    # As a difference: 1 - rate * decay, rounded to fp32, would have another decay.
    values -= rate * (decay * values + change)
    tl.store(means + place, mean, mask=inside)
    tl.store(squares + place, square, mask=inside)
    tl.store(weights + place, values, mask=inside)


def bias_corrections(step: int) -> tuple[float, float]:
    """The divisors of the mean and of the mean square's root in a step (0-based)."""
    return 1.0 - _FIRST_BETA ** (step + 1), (1.0 - _SECOND_BETA ** (step + 1)) ** 0.5


def adamw_update(
    weights: Tensor,
    gradients: Tensor,
    means: Tensor,
    squares: Tensor,
    squared_norms: Tensor,
    rates: Tensor,
    corrections: Tensor,
    decay: float,
    clip_norm: float,
) -> None:
    """One step of AdamW (Loshchilov and Hutter 2019) in place, with each member's clip and rate.

    Args:
        weights: (members, ...) in fp32, contiguous; `means` and `squares` likewise.
        gradients: of the same shape, in fp32 or bf16.
        squared_norms: (members,): the sums of squares of all gradients of a member.
        rates: (members,): the members' learning rates in this step.
        corrections: (2,) in fp32: the step's `bias_corrections`.
        decay: the weight decay.
        clip_norm: the greatest norm of a member's gradients.
    """
    count = weights[0].numel()
    _update[(triton.cdiv(count, _BLOCK), len(weights))](
        *(weights, gradients.contiguous(), means, squares, squared_norms, rates, corrections),
        *(count, clip_norm, decay),
        # The shares in double precision: 1 - 0.999 in fp32 is off by 1e-5.
        *(1.0 - _FIRST_BETA, _SECOND_BETA, 1.0 - _SECOND_BETA, _EPS),
        BLOCK=_BLOCK,
    )
