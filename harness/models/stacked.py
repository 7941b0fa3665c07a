"""The stacked engine: classifiers of one shape as one network, with one forward pass for all members.

Every weight has a leading member dimension. The weights lie in a few tensors (`flat_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig
from transformers.activations import ACT2FN

from harness.method import Layers, Need, Pooling
from harness.models.attention import AttentionRecord, finite_scores, masked_product
from harness.models.families import family_of
from harness.models.flat_weights import LAYER_WEIGHTS, layout
from harness.models.network import Leaf, pool
from harness.models.word_table import WordTable, look_up_rows, select_members
from harness.pooling_table import pooling_row
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
        self.activation = ACT2FN[config.hidden_act]
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
        self.words = WordTable(tables, device, vocabulary, frozen_embeddings)

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
        tokens = self._encode(batch, key, first_only, attention)
        logits = self._head(tokens[-1][:, :, 0], key)
        members, examples, _ = batch["input_ids"].shape
        states = logits.new_zeros(members, examples, 0, 0)
        if pooling is not None:
            mask = batch["attention_mask"].flatten(0, 1)
            layers = [layer_tokens.flatten(0, 1) for layer_tokens in tokens[1:]]
            states = pool(layers, mask, pooling).unflatten(0, (members, examples))
        return Layers(
            logits,
            states,
            tuple(tokens) if "tokens" in needs else (),
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
    ) -> list[Tensor]:
        """States (members, B, T, width) of the embeddings and after every layer, in fp32.

        With `first_only` the last layer computes the first token's states only, (members, B, 1, width):
        no logit depends on other tokens' last states.
        """
        members, examples, length = batch["input_ids"].shape
        kinds = {"products": self.dtype, "biases": self.dtype, "scales": torch.float32}
        weights = {
            key: value
            for kind, dtype in kinds.items()
            for key, value in self.blocks[kind].split(dtype).items()
        }
        states = self._embed(batch, key, weights)
        padding = states.new_zeros(members * examples, 1, 1, length, dtype=self.dtype)
        is_padding = batch["attention_mask"].view_as(padding) == 0
        padding.masked_fill_(is_padding, torch.finfo(self.dtype).min)
        # One row for each head. `_attention` adds the rows to the products of queries and keys.
        padding = padding.expand(-1, self.heads, -1, -1).reshape(-1, 1, length)
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
    ) -> Tensor:
        """States (members, B, T, width) of the embeddings, in fp32."""
        tables = self.blocks["embedding_tables"].split(torch.float32)
        norm = self.blocks["embedding_scales"].split(torch.float32)
        positions = look_up_rows(tables["positions"], self._positions(batch["input_ids"]))
        words = self.words.look_up(batch["input_ids"], training=key is not None)
        sums = words + look_up_rows(tables["types"], batch["token_type_ids"]) + positions
        states = _layer_norm(sums, norm["scale"], norm["shift"], self.eps)
        states = self._dropout(states, key, 0, "hidden")
        if "projection" in weights:
            projection, bias = weights["projection"], weights["projection_bias"]
            states = _linear(states.to(self.dtype), projection, bias).float()
        return states

    def _positions(self, ids: Tensor) -> Tensor:
        """Rows of the position embeddings, (1 or members, 1 or B, T), for token ids (members, B, T).

        From `zero` a token's row is its place in the sequence. From `padding` the rows count the tokens
        that are no padding, from the row after the padding id's.
        """
        if self.family.positions_from == "zero":
            return torch.arange(ids.shape[-1], device=ids.device).expand(1, 1, -1)
        pad = int(self.config.pad_token_id)
        is_token = (ids != pad).long()
        return is_token.cumsum(-1) * is_token + pad

    def _layer(
        self,
        layer: int,
        states: Tensor,
        padding: Tensor,
        weights: Mapping[str, Tensor],
        key: DropoutKey | None,
        first: bool,
        attention: AttentionRecord,
    ) -> Tensor:
        """States (members, B, T, width) after a layer; with `first` (members, B, 1, width)."""
        length, site = states.shape[2] if first else None, 1 + 3 * layer
        context = self._attention(states, padding, weights, key, site, first, attention)
        states = states[:, :, :1] if first else states
        sums = _linear(context, weights["mix"], weights["mix_bias"])
        sums = self._dropout(sums, key, site + 1, "hidden", length) + states
        states = _layer_norm(sums, weights["mix_scale"], weights["mix_shift"], self.eps)
        features = _linear(states.to(self.dtype), weights["inner"], weights["inner_bias"])
        sums = _linear(self.activation(features), weights["outer"], weights["outer_bias"])
        sums = self._dropout(sums, key, site + 2, "hidden", length) + states
        return _layer_norm(sums, weights["outer_scale"], weights["outer_shift"], self.eps)

    def _attention(
        self,
        states: Tensor,
        padding: Tensor,
        weights: Mapping[str, Tensor],
        key: DropoutKey | None,
        site: int,
        first: bool,
        attention: AttentionRecord,
    ) -> Tensor:
        """Contexts (members, B, T, width); with `first` the first token's, (members, B, 1, width)."""
        members, examples, length, width = states.shape
        weight, bias = weights["attention"], weights["attention_bias"]
        if first:
            sizes = [width, 2 * width]
            query_weight, key_value_weight = weight.split(sizes, 1)
            query_bias, key_value_bias = bias.split(sizes, 1)
            first_states, all_states = states[:, :, :1].to(self.dtype), states.to(self.dtype)
            (queries,) = self._by_heads(_linear(first_states, query_weight, query_bias), 1)
            projections = _linear(all_states, key_value_weight, key_value_bias)
            keys, values = self._by_heads(projections, 2)
        else:
            queries, keys, values = self._by_heads(_linear(states.to(self.dtype), weight, bias), 3)
        # One operation scales, masks and multiplies.
        scores = torch.baddbmm(
            padding, queries, keys.transpose(1, 2), alpha=queries.shape[-1] ** -0.5
        )
        by_heads = (members, examples, self.heads)
        if attention.needs:
            tensors = (scores, queries, keys, values)
            attention.add(*(tensor.unflatten(0, by_heads) for tensor in tensors))
        shares = scores.softmax(dim=-1)
        shape, full_length = (*by_heads, *shares.shape[1:]), length if first else None
        mask = self._mask(shape, shares.dtype, key, site, "attention", full_length)
        if mask is None:
            contexts = torch.bmm(shares, values)
        else:
            contexts = masked_product(shares, mask.flatten(0, 2), values)
        contexts = contexts.unflatten(0, by_heads).transpose(2, 3)
        output: Tensor = contexts.reshape(members, examples, -1, width)
        return output

    def _by_heads(self, projections: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Parts (members · B · heads, T, head width) of projections (members, B, T, parts · width)."""
        heads = projections.unflatten(-1, (parts, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        split: Tensor = heads.reshape(parts, -1, projections.shape[2], heads.shape[-1])
        return split.unbind(0)

    def _head(self, first: Tensor, key: DropoutKey | None) -> Tensor:
        """Logits (members, B, outputs) of the last layer's first states (members, B, width), in fp32."""
        weights = self.blocks["head_products"].split(torch.float32)
        biases = self.blocks["head_biases"].split(torch.float32)
        site = 1 + 3 * self.layers
        head = self.family.head
        if head.drops_input:
            first = self._dropout(first, key, site, "head")
        dense = _linear(first, weights["dense"], biases["dense_bias"])
        features = self._dropout(head.activation(dense), key, site, "head")
        return _linear(features, weights["outputs"], biases["outputs_bias"])

    def _dropout(
        self,
        values: Tensor,
        key: DropoutKey | None,
        site: int,
        rate: str,
        length: int | None = None,
    ) -> Tensor:
        """Dropout of values (members, ..., T, width).

        With `length` the values are the first T of that many tokens, and have the masks of these tokens.
        """
        mask = self._mask(values.shape, values.dtype, key, site, rate, length)
        return values if mask is None else values * mask

    def _mask(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        key: DropoutKey | None,
        site: int,
        rate: str,
        length: int | None,
    ) -> Tensor | None:
        """The factors of dropout for values of this shape, or None where dropout changes no value."""
        if key is None or self.rates[rate] == 0:
            return None
        return key.mask(site, shape, self.rates[rate], dtype, length)


def _linear(states: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """States (members, ..., in) times weights (members, out, in), plus bias (members, out)."""
    if len(weights) == 1:
        return F.linear(states, weights[0], bias[0])
    rows = states.reshape(len(states), -1, states.shape[-1])
    product = torch.baddbmm(bias[:, None], rows, weights.transpose(1, 2))
    return product.view(*states.shape[:-1], -1)


def _layer_norm(states: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Layer normalisation of (members, B, T, width) with scale and shift (members, width)."""
    if len(scale) == 1:
        return F.layer_norm(states, states.shape[-1:], scale[0], shift[0], eps)
    unit_states = F.layer_norm(states, states.shape[-1:], eps=eps)
    return torch.addcmul(shift[:, None, None], unit_states, scale[:, None, None])
