"""The layers of stacked encoders: BERT's, which normalise after each part, and ModernBERT's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.models.modernbert.modeling_modernbert import ModernBertRotaryEmbedding

from harness.models.architectures import Place
from harness.models.attention import AttentionRecord
from harness.models.operations import (
    Operations,
    PlainOperations,
    Site,
    States,
    drop,
    layer_norm,
    linear,
)


@dataclass(frozen=True)
class Step:
    """One forward pass, as its layers see it."""

    padding: Tensor
    """What the operations need of the mask of padding."""
    attention: AttentionRecord
    first_only: bool
    """Whether the last layer computes the first tokens' states only."""
    site: Callable[[int, Place], Site | None]
    """site(layer, place): the place of dropout in a layer."""


class StackedLayers(Protocol):
    """The layers of a stacked encoder."""

    @property
    def operations(self) -> Operations:
        """What the layers compute with."""

    def states(
        self, layer: int, states: States, weights: Mapping[str, Tensor], step: Step
    ) -> States:
        """The states (members, B, T, width) after a layer, from those before it.

        `weights` are the layer's, by their keys in a block. Where the step wants the first tokens
        only, the last layer's states are (members, B, 1, width).
        """

    def last(self, states: States, weights: Mapping[str, Tensor]) -> States:
        """The encoder's output, from the states after the last layer."""


class PostNormLayers:
    """BERT's layers: attention and a feed-forward part, each with a normalisation after its residual."""

    def __init__(
        self, operations: Operations, config: PretrainedConfig, dtype: torch.dtype
    ) -> None:
        self.operations = operations
        self.heads = int(config.num_attention_heads)
        self.count = int(config.num_hidden_layers)
        self.dtype = dtype

    def states(
        self, layer: int, states: States, weights: Mapping[str, Tensor], step: Step
    ) -> States:
        """The states after a layer."""
        first = step.first_only and layer == self.count - 1
        context = self._attention(states, weights, step, step.site(layer, "attention"), first)
        states = self.operations.add_norm(
            context,
            (weights["mix"], weights["mix_bias"]),
            states.firsts if first else states.full,
            (weights["mix_scale"], weights["mix_shift"]),
            step.site(layer, "mix"),
        )
        features = self.operations.activate(states.half, weights["inner"], weights["inner_bias"])
        return self.operations.add_norm(
            features,
            (weights["outer"], weights["outer_bias"]),
            states.full,
            (weights["outer_scale"], weights["outer_shift"]),
            step.site(layer, "outer"),
        )

    def last(self, states: States, weights: Mapping[str, Tensor]) -> States:
        """The states themselves: the last layer has normalised them."""
        return states

    def _attention(
        self,
        states: States,
        weights: Mapping[str, Tensor],
        step: Step,
        site: Site | None,
        first: bool,
    ) -> Tensor:
        """Contexts (members, B, T, width); with `first` the first token's, (members, B, 1, width)."""
        members, examples, _, width = states.full.shape
        weight, bias, split = weights["attention"], weights["attention_bias"], self.operations
        if first:
            sizes = [width, 2 * width]
            query_weight, key_value_weight = weight.split(sizes, 1)
            query_bias, key_value_bias = bias.split(sizes, 1)
            first_states = states.firsts.to(self.dtype)
            (queries,) = split.split_heads(first_states, query_weight, query_bias, self.heads, 1)
            keys, values = split.split_heads(
                states.half, key_value_weight, key_value_bias, self.heads, 2
            )
        else:
            queries, keys, values = split.split_heads(states.half, weight, bias, self.heads, 3)
        by_heads = (members, examples, self.heads)
        contexts = self.operations.contexts(
            (queries, keys, values), step.padding, by_heads, site, step.attention
        )
        return joined(contexts, by_heads)


class PreNormLayers:
    """ModernBERT's layers: normalisation before each part, rotary positions, gated units, no biases.

    Layers with local attention see the keys up to half a window away. The operations are PyTorch's on
    every device.
    """

    def __init__(
        self,
        operations: PlainOperations,
        config: PretrainedConfig,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.operations = operations
        self.heads = int(config.num_attention_heads)
        self.count = int(config.num_hidden_layers)
        self.dtype = dtype
        self.kinds: list[str] = list(config.layer_types)
        self.reach = int(config.local_attention) // 2
        rotary = ModernBertRotaryEmbedding(config).to(device)
        places = torch.arange(int(config.max_position_embeddings), device=device)[None]
        like = torch.empty(0, device=device)
        self.rotations: dict[str, tuple[Tensor, Tensor]] = {
            kind: tuple(table[0] for table in rotary(like, places, kind))
            for kind in set(self.kinds)
        }
        """By kind of attention: cosines and sines (positions, head width) of the angles."""

    def states(
        self, layer: int, states: States, weights: Mapping[str, Tensor], step: Step
    ) -> States:
        """The states after a layer."""
        first = step.first_only and layer == self.count - 1
        context = self._attention(layer, states, weights, step, first)
        sums = (states.firsts if first else states.full) + drop(
            linear(context, weights["mix"]), step.site(layer, "mix")
        )
        unit = self._norm(sums, weights, "outer").to(self.dtype)
        values, gates = linear(unit, weights["inner"]).chunk(2, dim=-1)
        features = drop(self.operations.activation(values) * gates, step.site(layer, "outer"))
        return States(sums + linear(features, weights["outer"]), self.dtype)

    def last(self, states: States, weights: Mapping[str, Tensor]) -> States:
        """The normalised states."""
        return States(self._norm(states.full, weights, "last"), self.dtype)

    def _norm(self, states: Tensor, weights: Mapping[str, Tensor], key: str) -> Tensor:
        return layer_norm(states, weights[f"{key}_scale"], None, self.operations.eps)

    def _attention(
        self,
        layer: int,
        states: States,
        weights: Mapping[str, Tensor],
        step: Step,
        first: bool,
    ) -> Tensor:
        """Contexts (members, B, T, width); with `first` the first token's, (members, B, 1, width)."""
        members, examples, tokens, width = states.full.shape
        unit = states.full if layer == 0 else self._norm(states.full, weights, "mix")
        half, weight, split = unit.to(self.dtype), weights["attention"], self.operations.split_heads
        if first:
            query_weight, key_value_weight = weight.split([width, 2 * width], 1)
            (queries,) = split(half[:, :, :1], query_weight, None, self.heads, 1)
            keys, values = split(half, key_value_weight, None, self.heads, 2)
        else:
            queries, keys, values = split(half, weight, None, self.heads, 3)
        kind = self.kinds[layer]
        queries, keys = (rotated(part, *self.rotations[kind]) for part in (queries, keys))
        hidden = None
        if kind == "sliding_attention":
            places = torch.arange(tokens, device=half.device)
            rows = places[:1] if first else places
            hidden = (rows[:, None] - places).abs() > self.reach
        by_heads = (members, examples, self.heads)
        contexts = self.operations.contexts(
            (queries, keys, values),
            step.padding,
            by_heads,
            step.site(layer, "attention"),
            step.attention,
            hidden,
        )
        return joined(contexts, by_heads)


def rotated(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Vectors (N, rows, head width) of the first positions, turned by their angles in fp32."""
    rows = vectors.shape[1]
    left, right = vectors.float().chunk(2, dim=-1)
    turned = torch.cat((-right, left), dim=-1)
    return (vectors.float() * cosines[:rows] + turned * sines[:rows]).to(vectors.dtype)


def joined(contexts: Tensor, by_heads: tuple[int, int, int]) -> Tensor:
    """Contexts (members, B, rows, width) from those by heads (members · B · heads, rows, head width)."""
    members, examples, _ = by_heads
    parts = contexts.unflatten(0, by_heads).transpose(2, 3)
    output: Tensor = parts.reshape(members, examples, parts.shape[2], -1)
    return output
