"""Attention as two products, with counter-based dropout. Methods can read its tensors."""

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
class AttentionRecord:
    """The tensors of a model's attention in one forward pass, layer by layer, as far as needed.

    `scores` are (..., heads, T, T) before the softmax. `queries`, `keys` and `values` are (..., heads,
    T, head width). A list stays empty where `needs` does not name its tensors.
    """

    needs: frozenset[Need]
    scores: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def add(self, scores: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> None:
        """Record the needed tensors of the next layer."""
        if "scores" in self.needs:
            self.scores.append(scores)
        if self.needs & {"qkv", "last-qkv"}:
            if "qkv" not in self.needs:
                self._forget()
            self.queries.append(queries)
            self.keys.append(keys)
            self.values.append(values)

    def _forget(self) -> None:
        for tensors in (self.queries, self.keys, self.values):
            tensors.clear()


_RECORD: ContextVar[AttentionRecord | None] = ContextVar("record", default=None)


@contextmanager
def record_attention(needs: frozenset[Need]) -> Iterator[AttentionRecord]:
    """Record the attention of a model that runs in the context. Without needs the record stays empty."""
    record = AttentionRecord(needs)
    token = _RECORD.set(record if needs else None)
    try:
        yield record
    finally:
        _RECORD.reset(token)


def explicit_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Softmax attention as two products, with the module's own counter-based dropout.

    Query, key and value are (B, heads, T, width). The function returns the context (B, T, heads, width)
    and the weights (B, heads, T, T). Two products beat the fused kernel's bf16 backward on CPUs.
    transformers passes `dropout` and `options` to every attention function; this one ignores `options`.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query * scale) @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = scores + attention_mask
    if (record := _RECORD.get()) is not None:
        record.add(scores, query, key, value)
    weights = scores.softmax(dim=-1).to(value.dtype)
    dropped = _dropout_of(module, dropout)(weights)
    return (dropped @ value).transpose(1, 2).contiguous(), weights


DROPOUTS = ("dropout", "attention_dropout")
"""Names of the dropout of attention in Hugging Face's modules of attention."""


def _dropout_of(module: nn.Module, rate: float) -> nn.Module:
    """The dropout of a module of attention. The identity where the module has none and the rate is 0."""
    for name in DROPOUTS:
        if isinstance(own := getattr(module, name, None), nn.Module):
            return own
    if rate > 0:
        raise RuntimeError(f"{type(module).__name__} has no module for its dropout of attention")
    return nn.Identity()


def add_attention_dropout(model: nn.Module) -> None:
    """Give a module of attention its dropout as a module, where the class has a number (ModernBERT).

    Only a module's dropout can be keyed. The new modules have no weights.
    """
    for module in [*model.modules()]:
        rate = getattr(module, "attention_dropout", 0.0)
        if isinstance(rate, int | float) and rate > 0:
            module.add_module("dropout", nn.Dropout(rate))


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
    """The product (shares · mask) @ values, (N, rows, width), from (N, rows, T) and (N, T, width).

    Shares of attention are the widest tensors of a layer. Softmax keeps the shares for its gradient
    anyway. So the backward pass multiplies by the mask once more, which is cheaper than memory for a
    third such tensor.
    """
    product: Tensor = _MaskedProduct.apply(shares, mask, values)  # type: ignore[no-untyped-call]
    return product


def explicit_mask(attention_mask: Tensor | None, **options: Any) -> Tensor | None:
    """transformers' additive mask (B, 1, T, T), from a mask of padding (B, T).

    transformers gives no mask to a batch without padding, which saves the CPU a sum in each layer. To
    know such a batch it looks at the values, and for that a GPU must finish its work first. So other
    devices always get the mask, with the same outputs. transformers passes `options` to every mask
    function.
    """
    if attention_mask is not None and attention_mask.device.type != "cpu":
        options["allow_is_bidirectional_skip"] = False
    mask: Tensor | None = eager_mask(attention_mask=attention_mask, **options)
    return mask


AttentionInterface.register(ATTENTION, explicit_attention)
AttentionMaskInterface.register(ATTENTION, explicit_mask)


def finite_scores(scores: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, ...]:
    """Each layer's scores (..., B, heads, T, T), with 0 at keys that the mask (..., B, T) excludes."""
    padding = mask[..., None, None, :] == 0
    return tuple(layer_scores.masked_fill(padding, 0.0) for layer_scores in scores)
