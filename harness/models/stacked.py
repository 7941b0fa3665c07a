"""A stack of encoders of one shape: every weight has a leading member dimension, one forward for all.

The weights lie in a few flat tensors (members, numbers): a cast, a norm or an optimiser's step is then
one operation, and not one for each of a hundred weights. Names are those of Hugging Face's classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig
from transformers.activations import ACT2FN

from harness.method import Layers, Need, Pooling
from harness.models.attention import Held, finite_scores, masked_product
from harness.models.families import family_of
from harness.models.flat_weights import LAYER_WEIGHTS, layout
from harness.models.network import Leaf, pool
from harness.models.word_table import WordTable, looked_up, selected
from harness.pooling_table import pooling_row
from harness.runtime.randomness import DropoutKey, dropped_levels


class StackedClassifier:
    """Classifiers of one configuration, one for each of `weights`, as one network.

    With `vocabulary` (sorted token ids) only those rows of the word embeddings have gradients, and no
    other token may occur in training (`WordTable`).
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
        self.flats = layout(self.family, prefix, self.layers, shapes)
        for key, flat in self.flats.items():
            flat.load(weights, device)
            flat.values.requires_grad_(not (frozen_embeddings and key.startswith("embedding")))
        tables = [member[self.word_name] for member in weights]
        self.words = WordTable(tables, device, vocabulary, frozen_embeddings)

    @property
    def members(self) -> int:
        """The number of classifiers."""
        return self.words.members

    def leaves(self) -> list[Leaf]:
        """The tensors that are trained."""
        flats = [Leaf(flat.values, flat.decayed) for flat in self.flats.values()]
        return [*self.words.leaves(), *(leaf for leaf in flats if leaf.tensor.requires_grad)]

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Note a step's weight decay, 1 − rate · decay, of each member for its unused words."""
        self.words.decay_unused(factors)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some members only. The leaves are new tensors afterwards."""
        index = torch.tensor(rows, device=self.words.vectors.device)
        for flat in self.flats.values():
            flat.values = selected(flat.values, index)
        self.words.keep(rows)

    def weights(self, member: int) -> dict[str, Tensor]:
        """One member's weights on the CPU, by the names that Hugging Face's class has for them."""
        named = {self.word_name: self.words.table(member)}
        for flat in self.flats.values():
            named.update(flat.named(member))
        return {name: value.cpu().clone() for name, value in named.items()}

    def forward(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        pooling: Pooling | None,
        needs: frozenset[Need] = frozenset(),
    ) -> Layers:
        """As `Network.forward`."""
        held = Held(needs)
        first_only = not needs and (pooling is None or pooling_row(pooling).tokens == "first")
        states = self._encode(batch, key, first_only, held)
        logits = self._head(states[-1][:, :, 0], key)
        members, examples, _ = batch["input_ids"].shape
        pooled = logits.new_zeros(members, examples, 0, 0)
        if pooling is not None:
            mask = batch["attention_mask"].flatten(0, 1)
            flat = pool([own.flatten(0, 1) for own in states[1:]], mask, pooling)
            pooled = flat.view(members, examples, *flat.shape[1:])
        return Layers(
            logits,
            pooled,
            tuple(states) if "tokens" in needs else (),
            finite_scores(held.scores, batch["attention_mask"]),
            tuple(held.queries),
            tuple(held.keys),
            tuple(held.values),
        )

    def _encode(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        first_only: bool,
        held: Held,
    ) -> list[Tensor]:
        """States (members, B, T, width) of the embeddings and after every layer, in fp32.

        With `first_only` the last layer's are (members, B, 1, width), the first token's: no other is
        computed, as no logit depends on it.
        """
        members, examples, length = batch["input_ids"].shape
        kinds = {"products": self.dtype, "biases": self.dtype, "scales": torch.float32}
        weights = {
            key: value
            for kind, dtype in kinds.items()
            for key, value in self.flats[kind].split(dtype).items()
        }
        states = self._embed(batch, key, weights)
        padding = states.new_zeros(members * examples, 1, 1, length, dtype=self.dtype)
        padded = batch["attention_mask"].view_as(padding) == 0
        padding.masked_fill_(padded, torch.finfo(self.dtype).min)
        # A row for each head: what the product with the keys is added to.
        padding = padding.expand(-1, self.heads, -1, -1).reshape(-1, 1, length)
        all_states = [states]
        for layer in range(self.layers):
            first = first_only and layer == self.layers - 1
            own = {name: weights[f"{layer}.{name}"] for name in LAYER_WEIGHTS}
            states = self._layer(layer, states, padding, own, key, first, held)
            all_states.append(states)
        return all_states

    def _embed(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        weights: Mapping[str, Tensor],
    ) -> Tensor:
        tables = self.flats["embedding_tables"].split(torch.float32)
        norm = self.flats["embedding_scales"].split(torch.float32)
        positions = looked_up(tables["positions"], self._positions(batch["input_ids"]))
        words = self.words.look_up(batch["input_ids"], training=key is not None)
        summed = words + looked_up(tables["types"], batch["token_type_ids"]) + positions
        states = _normalised(summed, norm["scale"], norm["shift"], self.eps)
        states = self._dropped(states, key, 0, "hidden")
        if "projection" in weights:
            given = states.to(self.dtype)
            states = _linear(given, weights["projection"], weights["projection_bias"]).float()
        return states

    def _positions(self, ids: Tensor) -> Tensor:
        """Rows of the position embeddings; RoBERTa counts from its padding's row, and words only."""
        if self.family.positions_from == "zero":
            return torch.arange(ids.shape[-1], device=ids.device).expand(1, 1, -1)
        pad = int(self.config.pad_token_id)
        real = (ids != pad).long()
        return real.cumsum(-1) * real + pad

    def _layer(
        self,
        layer: int,
        states: Tensor,
        padding: Tensor,
        weights: Mapping[str, Tensor],
        key: DropoutKey | None,
        first: bool,
        held: Held,
    ) -> Tensor:
        """States (members, B, T, width) after a layer; with `first` (members, B, 1, width)."""
        of, site = states.shape[2] if first else None, 1 + 3 * layer
        context = self._attention(states, padding, weights, key, site, first, held)
        states = states[:, :, :1] if first else states
        mixed = _linear(context, weights["mix"], weights["mix_bias"])
        mixed = self._dropped(mixed, key, site + 1, "hidden", of=of) + states
        states = _normalised(mixed, weights["mix_scale"], weights["mix_shift"], self.eps)
        inner = _linear(states.to(self.dtype), weights["inner"], weights["inner_bias"])
        outer = _linear(self.activation(inner), weights["outer"], weights["outer_bias"])
        outer = self._dropped(outer, key, site + 2, "hidden", of=of) + states
        return _normalised(outer, weights["outer_scale"], weights["outer_shift"], self.eps)

    def _attention(
        self,
        states: Tensor,
        padding: Tensor,
        weights: Mapping[str, Tensor],
        key: DropoutKey | None,
        site: int,
        first: bool,
        held: Held,
    ) -> Tensor:
        """Contexts (members, B, T, width), or (members, B, 1, width) of the first token's."""
        members, examples, length, width = states.shape
        weight, bias = weights["attention"], weights["attention_bias"]
        if first:
            sizes = [width, 2 * width]
            (own, others), (own_bias, other_bias) = weight.split(sizes, 1), bias.split(sizes, 1)
            (queries,) = self._by_heads(_linear(states[:, :, :1].to(self.dtype), own, own_bias), 1)
            keys, values = self._by_heads(_linear(states.to(self.dtype), others, other_bias), 2)
        else:
            queries, keys, values = self._by_heads(_linear(states.to(self.dtype), weight, bias), 3)
        # One operation scales, masks and multiplies.
        scores = torch.baddbmm(
            padding, queries, keys.transpose(1, 2), alpha=queries.shape[-1] ** -0.5
        )
        by_heads = (members, examples, self.heads)
        if held.needs:
            held.add(*(own.unflatten(0, by_heads) for own in (scores, queries, keys, values)))
        shares, of = scores.softmax(dim=-1), length if first else None
        mask = self._mask((*by_heads, *shares.shape[1:]), shares.dtype, key, site, "attention", of)
        if mask is None:
            contexts = torch.bmm(shares, values)
        else:
            contexts = masked_product(shares, mask.flatten(0, 2), values)
        contexts = contexts.unflatten(0, by_heads)
        joined: Tensor = contexts.transpose(2, 3).reshape(members, examples, -1, width)
        return joined

    def _by_heads(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Parts (members · B · heads, T, head width) of projections (members, B, T, parts · width)."""
        heads = projected.unflatten(-1, (parts, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        split: Tensor = heads.reshape(parts, -1, projected.shape[2], heads.shape[-1])
        return split.unbind(0)

    def _head(self, first: Tensor, key: DropoutKey | None) -> Tensor:
        """Logits (members, B, outputs) of the last layer's first states (members, B, width), in fp32."""
        weights = self.flats["exact"].split(torch.float32)
        biases = self.flats["exact_biases"].split(torch.float32)
        site = 1 + 3 * self.layers
        head = self.family.head
        if head.drops_input:
            first = self._dropped(first, key, site, "head")
        dense = _linear(first, weights["dense"], biases["dense_bias"])
        active = self._dropped(head.activation(dense), key, site, "head")
        return _linear(active, weights["outputs"], biases["outputs_bias"])

    def _dropped(
        self, values: Tensor, key: DropoutKey | None, site: int, rate: str, of: int | None = None
    ) -> Tensor:
        """Dropout; with `of` the values are the first of so many, along the last dimension but one."""
        mask = self._mask(values.shape, values.dtype, key, site, rate, of)
        return values if mask is None else values * mask

    def _mask(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        key: DropoutKey | None,
        site: int,
        rate: str,
        of: int | None,
    ) -> Tensor | None:
        """What values of this shape are multiplied with; None where nothing is dropped."""
        if key is None or self.rates[rate] == 0:
            return None
        return key.mask(site, shape, self.rates[rate], dtype, of)


def _linear(states: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """states (members, ..., in) by weights (members, out, in) plus bias (members, out)."""
    if len(weights) == 1:
        return F.linear(states, weights[0], bias[0])
    flat = states.reshape(len(states), -1, states.shape[-1])
    product = torch.baddbmm(bias[:, None], flat, weights.transpose(1, 2))
    return product.view(*states.shape[:-1], -1)


def _normalised(states: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Layer normalisation of (members, B, T, width) with scale and shift (members, width)."""
    if len(scale) == 1:
        return F.layer_norm(states, states.shape[-1:], scale[0], shift[0], eps)
    plain = F.layer_norm(states, states.shape[-1:], eps=eps)
    return torch.addcmul(shift[:, None, None], plain, scale[:, None, None])
