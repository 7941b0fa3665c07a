"""Attention as two products, with keyed dropout, that can be looked into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from harness.method import Need

ATTENTION = "harness_explicit"


@dataclass
class Held:
    """What the attention of a model's layers held in one forward pass, of what is needed."""

    needs: frozenset[Need]
    scores: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def add(self, scores: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> None:
        """Hold what is needed of the next layer."""
        if "scores" in self.needs:
            self.scores.append(scores)
        if self.needs & {"qkv", "last-qkv"}:
            if "qkv" not in self.needs:
                self._forget()
            self.queries.append(queries)
            self.keys.append(keys)
            self.values.append(values)

    def _forget(self) -> None:
        for held in (self.queries, self.keys, self.values):
            held.clear()


_HELD: ContextVar[Held | None] = ContextVar("held", default=None)


@contextmanager
def holding(needs: frozenset[Need]) -> Iterator[Held]:
    """Hold what the attention of a model does in here, where anything is needed of it."""
    held = Held(needs)
    token = _HELD.set(held if needs else None)
    try:
        yield held
    finally:
        _HELD.reset(token)


def explicit_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **unused: Any,
) -> tuple[Tensor, Tensor]:
    """Softmax attention as two products, with the module's own counter-based dropout.

    Query, key and value are (B, heads, T, width); returns the context (B, T, heads, width) and the
    weights (B, heads, T, T). Two plain products beat the fused kernel's bf16 backward on CPUs.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query * scale) @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = scores + attention_mask
    if (held := _HELD.get()) is not None:
        held.add(scores, query, key, value)
    weights = scores.softmax(dim=-1).to(value.dtype)
    keyed = module.get_submodule("dropout")
    return (keyed(weights) @ value).transpose(1, 2).contiguous(), weights


class _MaskedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shares: Tensor, mask: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(shares, mask, values)
        return torch.bmm(shares * mask, values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        shares, mask, values = ctx.saved_tensors
        to_values = torch.bmm((shares * mask).transpose(1, 2), gradient)
        return torch.bmm(gradient, values.transpose(1, 2)).mul_(mask), None, to_values


def masked_product(shares: Tensor, mask: Tensor, values: Tensor) -> Tensor:
    """(shares · mask) @ values, (N, rows, T) by (N, T, width), whose left factor is not kept.

    Shares of attention are the widest tensors of a layer. Softmax keeps them for its gradient anyway, so
    multiplying by the mask once more in the backward pass is cheaper than keeping a third such tensor.
    """
    product: Tensor = _MaskedProduct.apply(shares, mask, values)  # type: ignore[no-untyped-call]
    return product


AttentionInterface.register(ATTENTION, explicit_attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)


def finite_scores(scores: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, ...]:
    """Scores (..., B, heads, T, T) with 0 at the keys that the mask (..., B, T) leaves out."""
    padded = mask[..., None, None, :] == 0
    return tuple(own.masked_fill(padded, 0.0) for own in scores)
