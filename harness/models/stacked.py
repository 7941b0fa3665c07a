"""A stack of encoders of one shape: every weight has a leading member dimension, one forward for all.

The weights lie in a few flat tensors (members, numbers): a cast, a norm or an optimiser's step is then
one operation, and not one for each of a hundred weights. Names are those of Hugging Face's classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig
from transformers.activations import ACT2FN

from harness.method import Layers, Need, Pooling
from harness.models.attention import Held, finite_scores, masked_product
from harness.models.flat_weights import LAYER_WEIGHTS, layout
from harness.models.network import Leaf, pool
from harness.pooling_table import pooling_row
from harness.runtime.randomness import DropoutKey, dropped_levels

HEADS: Mapping[str, Literal["pooler", "dense"]] = {
    **dict.fromkeys(("bert", "ernie"), "pooler"),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "data2vec-text", "electra"), "dense"),
}
"""The kinds of encoders that can be stacked, with their heads: on a pooler, or of two layers."""
WORDS = "embeddings.word_embeddings.weight"


def stackable(config: PretrainedConfig) -> bool:
    """Whether a classifier of this configuration can be stacked; others train one at a time."""
    return config.model_type in HEADS and not getattr(config, "use_task_id", False)


class StackedClassifier:
    """Classifiers of one configuration, one for each of `weights`, as one network.

    With `vocabulary` (sorted token ids) only those rows of the word embeddings have gradients. No
    other row may occur in training: weight decay is all that happens to it, and is applied as one
    factor, which `decay_unused` keeps. So a step costs no more than the training split's words.
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
        self.prefix = next(name for name in weights[0] if name.endswith(WORDS))[: -len(WORDS)]
        head_rate = getattr(config, "classifier_dropout", None)
        self.rates = {
            "hidden": dropped_levels(config.hidden_dropout_prob),
            "attention": dropped_levels(config.attention_probs_dropout_prob),
            "head": dropped_levels(
                config.hidden_dropout_prob if head_rate is None else float(head_rate)
            ),
        }
        self._load(weights, device, vocabulary, frozen_embeddings)

    def _load(
        self,
        weights: Sequence[Mapping[str, Tensor]],
        device: torch.device,
        vocabulary: Tensor | None,
        frozen: bool,
    ) -> None:
        shapes = {name: tuple(value.shape) for name, value in weights[0].items()}
        self.flats = layout(self.prefix, self.layers, shapes)
        for flat in self.flats.values():
            flat.load(weights, device)
        tables = [own[self.prefix + WORDS] for own in weights]
        # Students that start from one encoder share its table: then there is one row for all.
        shared = all(table.data_ptr() == tables[0].data_ptr() for table in tables)
        self.table = torch.stack(tables[:1] if shared else tables).to(device, torch.float32)
        rows = self.table.shape[1]
        used = torch.arange(rows) if vocabulary is None else vocabulary
        used = used[:0] if frozen else used
        self.place = torch.full((rows,), -1, device=device)
        self.place[used.to(device)] = torch.arange(len(used), device=device)
        self.used = used.to(device)
        self.words = self.table[:, self.used].repeat(len(weights) // len(self.table), 1, 1)
        self.unused_factor = [1.0] * len(weights)
        for key, flat in self.flats.items():
            flat.values.requires_grad_(not (frozen and key.startswith("embedding")))
        self.words.requires_grad_(not frozen)

    @property
    def members(self) -> int:
        """How many classifiers there are."""
        return len(self.words)

    def leaves(self) -> list[Leaf]:
        """The tensors that are trained."""
        own = [Leaf(flat.values, flat.decayed) for flat in self.flats.values()]
        return [leaf for leaf in [Leaf(self.words, True), *own] if leaf.tensor.requires_grad]

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Note a step's weight decay, 1 − rate · decay, of each member for its unused rows."""
        if self.words.requires_grad:
            pairs = zip(self.unused_factor, factors, strict=True)
            self.unused_factor = [done * factor for done, factor in pairs]

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with some members only. The leaves are new tensors afterwards."""
        index = torch.tensor(positions, device=self.words.device)
        for flat in self.flats.values():
            flat.values = _selected(flat.values, index)
        self.words = _selected(self.words, index)
        if len(self.table) > 1:
            self.table = self.table[index]
        self.unused_factor = [self.unused_factor[position] for position in positions]

    def weights(self, member: int) -> dict[str, Tensor]:
        """One member's weights on the CPU, by the names that Hugging Face's class has for them."""
        table = self.table[member % len(self.table)] * self.unused_factor[member]
        table[self.used] = self.words[member].detach()
        named = {self.prefix + WORDS: table}
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
        positions = _looked_up(tables["positions"], self._positions(batch["input_ids"]))
        words = self._words(batch["input_ids"], trained=key is not None)
        summed = words + _looked_up(tables["types"], batch["token_type_ids"]) + positions
        states = _normalised(summed, norm["scale"], norm["shift"], self.eps)
        states = self._dropped(states, key, 0, "hidden")
        if "projection" in weights:
            given = states.to(self.dtype)
            states = _linear(given, weights["projection"], weights["projection_bias"]).float()
        return states

    def _words(self, ids: Tensor, trained: bool) -> Tensor:
        """Word vectors (members, B, T, width); `trained`: all ids are of the vocabulary."""
        if not len(self.used):
            return _looked_up(self.table, ids)
        place = self.place[ids]
        if trained:
            return _looked_up(self.words, place)
        found = _looked_up(self.words, place.clamp(min=0))
        factor = torch.tensor(self.unused_factor, device=ids.device)[:, None, None, None]
        return torch.where((place >= 0)[..., None], found, _looked_up(self.table, ids) * factor)

    def _positions(self, ids: Tensor) -> Tensor:
        """Rows of the position embeddings; RoBERTa counts from its padding's row, and words only."""
        if HEADS[self.config.model_type] == "pooler" or self.config.model_type == "electra":
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
        if HEADS[self.config.model_type] == "dense":
            first = self._dropped(first, key, site, "head")
        dense = _linear(first, weights["dense"], biases["dense_bias"])
        active = F.gelu(dense) if self.config.model_type == "electra" else torch.tanh(dense)
        active = self._dropped(active, key, site, "head")
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


def _selected(values: Tensor, index: Tensor) -> Tensor:
    return values.detach()[index].requires_grad_(values.requires_grad)


def _looked_up(tables: Tensor, ids: Tensor) -> Tensor:
    """Rows (members, ..., width) of tables (members or 1, rows, width) by ids (members or 1, ...)."""
    members, rows, width = tables.shape
    if members > 1:
        offsets = torch.arange(members, device=ids.device) * rows
        ids = ids + offsets.view(-1, *[1] * (ids.ndim - 1))
    return F.embedding(ids, tables.reshape(members * rows, width))


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
