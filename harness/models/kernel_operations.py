"""The operations of a stacked encoder's layer on a GPU: products, and kernels between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.activations import ACT2FN

from harness.kernels.bias import bias_gelu, bias_heads
from harness.kernels.dropout import Dropout
from harness.kernels.normalisation import Form, add_norm, norm_dropout
from harness.kernels.softmax import softmax_dropout
from harness.models.attention import AttentionRecord
from harness.models.operations import Site, States, linear


class KernelOperations:
    """`Operations` of which each is a product and one kernel. Biases stay in fp32."""

    bias_dtype = torch.float32

    def __init__(self, dtype: torch.dtype, eps: float, activation: str) -> None:
        self.dtype = dtype
        self.half_dtype = None if dtype == torch.float32 else dtype
        self.eps = eps
        self.activation = None if activation == "gelu" else ACT2FN[activation]

    def padding(self, mask: Tensor, heads: int) -> Tensor:
        """Which tokens are padding (members · B, T), in uint8."""
        return (mask == 0).flatten(0, 1).view(torch.uint8)

    def split_heads(
        self, states: Tensor, weight: Tensor, bias: Tensor, heads: int, parts: int
    ) -> tuple[Tensor, ...]:
        """The parts (members · B · heads, T, head width) of a linear layer of `states`."""
        return bias_heads(_product(states, weight), bias, heads, parts)

    def contexts(
        self,
        projections: tuple[Tensor, Tensor, Tensor],
        padding: Tensor,
        by_heads: tuple[int, int, int],
        site: Site | None,
        attention: AttentionRecord,
    ) -> Tensor:
        """Contexts (members · B · heads, rows, head width)."""
        queries, keys, values = projections
        members, examples, _ = by_heads
        scale = queries.shape[-1] ** -0.5
        scores = times_transposed(queries, keys)
        if attention.needs:
            recorded = scores.unflatten(0, by_heads)
            if "scores" in attention.needs:
                rows = padding.view(members, examples, 1, 1, -1) * torch.finfo(self.dtype).min
                recorded = recorded * scale + rows.to(self.dtype)
            attention.add(recorded, *(t.unflatten(0, by_heads) for t in projections))
        dropout = _dropout((*by_heads, *scores.shape[1:]), site)
        return torch.bmm(softmax_dropout(scores, padding, members, scale, dropout), values)

    def activate(self, states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The activation of a linear layer of `states`."""
        if self.activation is None:
            return bias_gelu(_product(states, weight), bias)
        outputs: Tensor = self.activation(linear(states, weight, bias.to(self.dtype)))
        return outputs

    def add_norm(
        self,
        states: Tensor,
        linear_weights: tuple[Tensor, Tensor],
        residual: Tensor,
        norm: tuple[Tensor, Tensor],
        site: Site | None,
    ) -> States:
        """Layer normalisation of dropout(linear layer) + residual."""
        weight, bias = linear_weights
        product = _product(states, weight)
        form = self._form(product, site)
        return self._states(add_norm(product, bias, residual, *norm, form))

    def norm(self, sums: Tensor, norm: tuple[Tensor, Tensor], site: Site | None) -> States:
        """Dropout of the layer normalisation of sums."""
        return self._states(norm_dropout(sums, *norm, self._form(sums, site)))

    def _form(self, sums: Tensor, site: Site | None) -> Form:
        has_firsts = sums.shape[2] > 1
        return Form(self.eps, _dropout(sums.shape, site), self.half_dtype, has_firsts)

    def _states(self, results: tuple[Tensor, Tensor | None, Tensor | None]) -> States:
        full, half, firsts = results
        return States(full, self.dtype, half, firsts)


def _product(states: Tensor, weights: Tensor) -> Tensor:
    """States (members, B, T, in) times weights (members, out, in)."""
    product = times_transposed(states.flatten(1, 2), weights)
    return product.view(*states.shape[:3], -1)


class _TimesTransposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return torch.bmm(left, right.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        return torch.bmm(gradient, right), torch.bmm(gradient.transpose(1, 2), left)


def times_transposed(left: Tensor, right: Tensor) -> Tensor:
    """The products left @ rightᵀ (N, rows, columns), from (N, rows, k) and (N, columns, k).

    Unlike that of `torch.bmm`, the gradient of `right` has the layout of `right`: no copy turns it.
    """
    product: Tensor = _TimesTransposed.apply(left, right)  # type: ignore[no-untyped-call]
    return product


def _dropout(shape: tuple[int, ...], site: Site | None) -> Dropout | None:
    if site is None:
        return None
    dropout: Dropout = site.key.dropout(site.number, shape, site.levels, site.full_length)
    return dropout
