"""The stacked engine: classifiers of one shape as one network, with one forward pass for all members.

Every weight has a leading member dimension. The weights lie in a few tensors (`flat_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from harness.kernels.support import has_kernels, lack_on_gpu
from harness.method import Layers, Need, Pooling
from harness.models.attention import AttentionRecord, finite_scores
from harness.models.families import family_of
from harness.models.flat_weights import LAYER_WEIGHTS, layout
from harness.models.network import Leaf, pool
from harness.models.operations import Operations, PlainOperations, Site, States, drop, linear
from harness.models.word_table import WordTable, look_up_rows, select_members, zero_gradient
from harness.pooling_table import pooling_row
from harness.runtime.progress import say
from harness.runtime.randomness import DropoutKey, dropped_levels


class StackedClassifier:
    """Classifiers of one configuration, one for each of `weights`, as one network.

    `weights` are the members' weights by their names in a checkpoint. With `vocabulary` (sorted token
    ids) only these rows of the word embeddings have gradients, and only these tokens may occur in
    training (`WordTable`).
    """

    def __init__(
        self,
        config: PretrainedConfig,
        weights: Sequence[Mapping[str, Tensor]],
        device: torch.device,
        dtype: torch.dtype,
        vocabulary: Tensor | None = None,
        frozen_embeddings: bool = False,
    ) -> None:
        self.config = config
        self.dtype = dtype
        self.layers = int(config.num_hidden_layers)
        self.heads = int(config.num_attention_heads)
        self.eps = float(config.layer_norm_eps)
        self.operations = _operations(device, dtype, self.eps, config.hidden_act)
        self.family = family_of(config)
        head_rate = getattr(config, "classifier_dropout", None)
        self.rates = {
            "hidden": dropped_levels(config.hidden_dropout_prob),
            "attention": dropped_levels(config.attention_probs_dropout_prob),
            "head": dropped_levels(
                config.hidden_dropout_prob if head_rate is None else float(head_rate)
            ),
        }
        words = f"{self.family.words}.weight"
        self.word_name = next(name for name in weights[0] if name.endswith(words))
        shapes = {name: tuple(value.shape) for name, value in weights[0].items()}
        prefix = self.word_name.removesuffix(words)
        self.blocks = layout(self.family, prefix, self.layers, shapes)
        for key, block in self.blocks.items():
            block.load(weights, device)
            block.values.requires_grad_(not (frozen_embeddings and key.startswith("embedding")))
        tables = [member[self.word_name] for member in weights]
        padding = config.pad_token_id
        self.words = WordTable(tables, device, vocabulary, frozen_embeddings, padding)
        self._zero_padded_position()

    @property
    def members(self) -> int:
        """The number of classifiers."""
        return self.words.members

    def leaves(self) -> list[Leaf]:
        """The tensors in training."""
        leaves = [Leaf(block.values, block.has_decay) for block in self.blocks.values()]
        return [*self.words.leaves(), *(leaf for leaf in leaves if leaf.tensor.requires_grad)]

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Note each member's factor of weight decay in a step, 1 − rate · decay, for unused words."""
        self.words.decay_unused(factors)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the members of some rows only. The leaves are new tensors afterwards."""
        index = torch.tensor(rows, device=self.words.vectors.device)
        for block in self.blocks.values():
            block.values = select_members(block.values, index)
        self.words.keep(rows)
        self._zero_padded_position()

    def _zero_padded_position(self) -> None:
        """Have the gradient of the padding's position be 0, as in Hugging Face's classes."""
        values = self.blocks["embedding_tables"].values
        if self.family.positions_from == "padding" and values.requires_grad:
            positions = self.blocks["embedding_tables"].pieces[0]
            assert positions.key == "positions"
            width, pad = positions.shape[1], int(self.config.pad_token_id)
            zero_gradient(values, (slice(None), slice(pad * width, (pad + 1) * width)))

    def weights(self, member: int) -> dict[str, Tensor]:
        """One member's weights on the CPU, by their names in Hugging Face's class."""
        weights = {self.word_name: self.words.table(member)}
        for block in self.blocks.values():
            weights.update(block.member_weights(member))
        return {name: value.cpu().clone() for name, value in weights.items()}

    def forward(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        pooling: Pooling | None,
        needs: frozenset[Need] = frozenset(),
    ) -> Layers:
        """The layers of all members, as `Network.forward` describes them."""
        attention = AttentionRecord(needs)
        first_only = not needs and (pooling is None or pooling_row(pooling).tokens == "first")
        all_states = self._encode(batch, key, first_only, attention)
        logits = self._head(all_states[-1].firsts[:, :, 0], key)
        members, examples, _ = batch["input_ids"].shape
        states = logits.new_zeros(members, examples, 0, 0)
        if pooling is not None:
            mask = batch["attention_mask"].flatten(0, 1)
            is_first = pooling_row(pooling).tokens == "first"
            layers = [
                (layer.firsts if is_first else layer.full).flatten(0, 1) for layer in all_states[1:]
            ]
            states = pool(layers, mask, pooling).unflatten(0, (members, examples))
        return Layers(
            logits,
            states,
            tuple(layer.full for layer in all_states) if "tokens" in needs else (),
            finite_scores(attention.scores, batch["attention_mask"]),
            tuple(attention.queries),
            tuple(attention.keys),
            tuple(attention.values),
        )

    def _encode(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        first_only: bool,
        attention: AttentionRecord,
    ) -> list[States]:
        """The states of the embeddings and after every layer.

        With `first_only` the last layer computes the first token's states only, (members, B, 1, width):
        no logit depends on other tokens' last states.
        """
        bias_dtype = self.operations.bias_dtype
        kinds = {"products": self.dtype, "biases": bias_dtype, "scales": torch.float32}
        weights = {
            key: value
            for kind, dtype in kinds.items()
            for key, value in self.blocks[kind].split(dtype).items()
        }
        states = self._embed(batch, key, weights)
        padding = self.operations.padding(batch["attention_mask"], self.heads)
        all_states = [states]
        for layer in range(self.layers):
            first = first_only and layer == self.layers - 1
            layer_weights = {name: weights[f"{layer}.{name}"] for name in LAYER_WEIGHTS}
            states = self._layer(layer, states, padding, layer_weights, key, first, attention)
            all_states.append(states)
        return all_states

    def _embed(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        weights: Mapping[str, Tensor],
    ) -> States:
        """The states of the embeddings."""
        tables = self.blocks["embedding_tables"].split(torch.float32)
        norm = self.blocks["embedding_scales"].split(torch.float32)
        positions = self._positions(tables["positions"], batch["input_ids"])
        words = self.words.look_up(batch["input_ids"], training=key is not None)
        sums = words + look_up_rows(tables["types"], batch["token_type_ids"]) + positions
        site = self._site(key, 0, "hidden")
        states = self.operations.norm(sums, (norm["scale"], norm["shift"]), site)
        if "projection" in weights:
            bias = weights["projection_bias"].to(self.dtype)
            half = linear(states.half, weights["projection"], bias)
            states = States(half.float(), self.dtype)
        return states

    def _positions(self, table: Tensor, ids: Tensor) -> Tensor:
        """Position embeddings (members, 1 or B, T, width) from a table, for token ids (members, B, T).

        From `zero` a token's row is its place in the sequence. From `padding` the rows count the tokens
        that are no padding, from the row after the padding id's.
        """
        if self.family.positions_from == "zero":
            return table[:, None, : ids.shape[-1]]
        pad = int(self.config.pad_token_id)
        is_token = (ids != pad).long()
        return look_up_rows(table, is_token.cumsum(-1) * is_token + pad)

    def _layer(
        self,
        layer: int,
        states: States,
        padding: Tensor,
        weights: Mapping[str, Tensor],
        key: DropoutKey | None,
        first: bool,
        attention: AttentionRecord,
    ) -> States:
        """The states after a layer; with `first` of the first tokens only."""
        length, site = states.full.shape[2] if first else None, 1 + 3 * layer
        attention_site = self._site(key, site, "attention", length)
        context = self._attention(states, padding, weights, attention_site, first, attention)
        states = self.operations.add_norm(
            context,
            (weights["mix"], weights["mix_bias"]),
            states.firsts if first else states.full,
            (weights["mix_scale"], weights["mix_shift"]),
            self._site(key, site + 1, "hidden", length),
        )
        features = self.operations.activate(states.half, weights["inner"], weights["inner_bias"])
        return self.operations.add_norm(
            features,
            (weights["outer"], weights["outer_bias"]),
            states.full,
            (weights["outer_scale"], weights["outer_shift"]),
            self._site(key, site + 2, "hidden", length),
        )

    def _attention(
        self,
        states: States,
        padding: Tensor,
        weights: Mapping[str, Tensor],
        site: Site | None,
        first: bool,
        attention: AttentionRecord,
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
            (queries, keys, values), padding, by_heads, site, attention
        )
        contexts = contexts.unflatten(0, by_heads).transpose(2, 3)
        output: Tensor = contexts.reshape(members, examples, -1, width)
        return output

    def _head(self, first: Tensor, key: DropoutKey | None) -> Tensor:
        """Logits (members, B, outputs) of the last layer's first states (members, B, width), in fp32."""
        weights = self.blocks["head_products"].split(torch.float32)
        biases = self.blocks["head_biases"].split(torch.float32)
        site = self._site(key, 1 + 3 * self.layers, "head")
        head = self.family.head
        if head.drops_input:
            first = drop(first, site)
        dense = linear(first, weights["dense"], biases["dense_bias"])
        features = drop(head.activation(dense), site)
        return linear(features, weights["outputs"], biases["outputs_bias"])

    def _site(
        self, key: DropoutKey | None, number: int, rate: str, length: int | None = None
    ) -> Site | None:
        """A site of dropout, or None where dropout changes no value."""
        if key is None or self.rates[rate] == 0:
            return None
        return Site(key, number, self.rates[rate], length)


def _operations(device: torch.device, *arguments: Any) -> Operations:
    if not has_kernels(device):
        if device.type == "cuda":
            _tell_lack(lack_on_gpu())
        return PlainOperations(*arguments)
    from harness.models.kernel_operations import KernelOperations

    return KernelOperations(*arguments)


@cache
def _tell_lack(lack: str | None) -> None:
    say(f"warning: no kernels: {lack}; training takes longer and more memory")
