"""The operations of a stacked encoder's layer, in PyTorch: for CPUs, and where there are no kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.activations import ACT2FN

from harness.models.attention import AttentionRecord, masked_product
from harness.runtime.randomness import DropoutKey


@dataclass(frozen=True)
class Site:
    """A place of dropout in the network.

    With `full_length` the values are the first of that many tokens, and have the masks of these tokens.
    """

    key: DropoutKey
    number: int
    levels: int
    full_length: int | None = None


@dataclass(frozen=True)
class States:
    """States (members, B, T, width) of one layer, in fp32, and what operations hand out with them."""

    full: Tensor
    dtype: torch.dtype
    """The dtype of products."""
    cast: Tensor | None = None
    """The states in `dtype`."""
    apart: Tensor | None = None
    """(members, B, 1, width) in fp32: the first tokens' states. Their gradient then comes without zeros
    for all other tokens."""

    @property
    def half(self) -> Tensor:
        """The states in the dtype of products."""
        return self.full.to(self.dtype) if self.cast is None else self.cast

    @property
    def firsts(self) -> Tensor:
        """The first tokens' states (members, B, 1, width) in fp32."""
        return self.full[:, :, :1] if self.apart is None else self.apart


class Operations(Protocol):
    """What a layer computes. States and products are (members, B, T, ...) and `half` means `dtype`."""

    bias_dtype: torch.dtype

    def padding(self, mask: Tensor, heads: int) -> Tensor:
        """What `contexts` needs of a mask (members, B, T), which is 0 at padding."""

    def split_heads(
        self, states: Tensor, weight: Tensor, bias: Tensor, heads: int, parts: int
    ) -> tuple[Tensor, ...]:
        """The parts (members · B · heads, T, head width) of a linear layer of `states` in `dtype`."""

    def contexts(
        self,
        projections: tuple[Tensor, Tensor, Tensor],
        padding: Tensor,
        by_heads: tuple[int, int, int],
        site: Site | None,
        attention: AttentionRecord,
    ) -> Tensor:
        """Contexts (members · B · heads, rows, head width) of queries, keys and values by heads."""

    def activate(self, states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The activation of a linear layer of `states` in `dtype`."""

    def add_norm(
        self,
        states: Tensor,
        linear_weights: tuple[Tensor, Tensor],
        residual: Tensor,
        norm: tuple[Tensor, Tensor],
        site: Site | None,
    ) -> States:
        """Layer normalisation of dropout(linear layer) + residual."""

    def norm(self, sums: Tensor, norm: tuple[Tensor, Tensor], site: Site | None) -> States:
        """Dropout of the layer normalisation of sums (members, B, T, width)."""


class PlainOperations:
    """`Operations` in PyTorch, where each operation reads and writes tensors of its own."""

    def __init__(self, dtype: torch.dtype, eps: float, activation: str) -> None:
        self.dtype = self.bias_dtype = dtype
        self.eps = eps
        self.activation: Callable[[Tensor], Tensor] = ACT2FN[activation]

    def padding(self, mask: Tensor, heads: int) -> Tensor:
        """Numbers (members · B · heads, 1, T) to add to scores: the least number at padding, else 0."""
        padding = torch.zeros_like(mask, dtype=self.dtype).masked_fill_(
            mask == 0, torch.finfo(self.dtype).min
        )
        rows = padding.flatten(0, 1)[:, None].expand(-1, heads, -1)
        return rows.reshape(-1, 1, mask.shape[-1])

    def split_heads(
        self, states: Tensor, weight: Tensor, bias: Tensor | None, heads: int, parts: int
    ) -> tuple[Tensor, ...]:
        """The parts (members · B · heads, T, head width) of a linear layer of `states`."""
        projections = linear(states, weight, bias).unflatten(-1, (parts, heads, -1))
        by_heads = projections.permute(3, 0, 1, 4, 2, 5)
        split: Tensor = by_heads.reshape(parts, -1, states.shape[2], by_heads.shape[-1])
        return split.unbind(0)

    def contexts(
        self,
        projections: tuple[Tensor, Tensor, Tensor],
        padding: Tensor,
        by_heads: tuple[int, int, int],
        site: Site | None,
        attention: AttentionRecord,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """Contexts (members · B · heads, rows, head width), without the keys `hidden` (rows, T)."""
        queries, keys, values = projections
        # One operation scales, masks and multiplies.
        scale = queries.shape[-1] ** -0.5
        scores = torch.baddbmm(padding, queries, keys.transpose(1, 2), alpha=scale)
        if hidden is not None:
            scores.masked_fill_(hidden, torch.finfo(scores.dtype).min)
        if attention.needs:
            attention.add(*(t.unflatten(0, by_heads) for t in (scores, *projections)))
        shares = scores.softmax(dim=-1)
        if site is None:
            return torch.bmm(shares, values)
        mask = _mask((*by_heads, *shares.shape[1:]), shares.dtype, site)
        return masked_product(shares, mask.flatten(0, 2), values)

    def activate(self, states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The activation of a linear layer of `states`."""
        return self.activation(linear(states, weight, bias))

    def add_norm(
        self,
        states: Tensor,
        linear_weights: tuple[Tensor, Tensor],
        residual: Tensor,
        norm: tuple[Tensor, Tensor],
        site: Site | None,
    ) -> States:
        """Layer normalisation of dropout(linear layer) + residual."""
        sums = drop(linear(states, *linear_weights), site) + residual
        return States(layer_norm(sums, *norm, self.eps), self.dtype)

    def norm(self, sums: Tensor, norm: tuple[Tensor, Tensor], site: Site | None) -> States:
        """Dropout of the layer normalisation of sums."""
        return States(drop(layer_norm(sums, *norm, self.eps), site), self.dtype)


def drop(values: Tensor, site: Site | None) -> Tensor:
    """Dropout of values (members, ...) at a site; without a site the values themselves."""
    return values if site is None else values * _mask(values.shape, values.dtype, site)


def _mask(shape: Sequence[int], dtype: torch.dtype, site: Site) -> Tensor:
    return site.key.mask(site.number, shape, site.levels, dtype, site.full_length)


def linear(states: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
    """States (members, ..., in) times weights (members, out, in), plus bias (members, out)."""
    if len(weights) == 1:
        return F.linear(states, weights.squeeze(0), None if bias is None else bias.squeeze(0))
    rows = states.reshape(len(states), -1, states.shape[-1])
    columns = weights.transpose(1, 2)
    product = (
        torch.bmm(rows, columns) if bias is None else torch.baddbmm(bias[:, None], rows, columns)
    )
    return product.view(*states.shape[:-1], -1)


def layer_norm(states: Tensor, scale: Tensor, shift: Tensor | None, eps: float) -> Tensor:
    """Layer normalisation of (members, ..., width) with scale and, if given, shift (members, width)."""
    if len(scale) == 1:
        own_shift = None if shift is None else shift.squeeze(0)
        return F.layer_norm(states, states.shape[-1:], scale.squeeze(0), own_shift, eps)
    unit_states = F.layer_norm(states, states.shape[-1:], eps=eps)
    shape = (len(scale), *[1] * (states.ndim - 2), -1)
    if shift is None:
        return unit_states * scale.view(shape)
    return torch.addcmul(shift.view(shape), unit_states, scale.view(shape))
