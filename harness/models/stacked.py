"""The stacked engine: classifiers of one shape as one network, with one forward pass for all members.

Every weight has a leading member dimension. The weights lie in a few tensors (`flat_weights`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.activations import ACT2FN

from harness.kernels.support import has_kernels, lack_on_gpu
from harness.method import Layers, Need, Pooling
from harness.models.architectures import Architecture, Facts, Place
from harness.models.attention import AttentionRecord, finite_scores
from harness.models.families import family_of
from harness.models.flat_weights import layout
from harness.models.network import Leaf, pool
from harness.models.operations import PlainOperations, Site, States, drop, layer_norm, linear
from harness.models.stacked_layers import PostNormLayers, PreNormLayers, StackedLayers, Step
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
        self.count = int(config.num_hidden_layers)
        self.heads = int(config.num_attention_heads)
        self.family = family_of(config)
        architecture = self.family.architecture
        assert architecture is not None, f"'{config.model_type}' encoders cannot be stacked"
        self.facts, self.head_norm = architecture.read(config), architecture.head_norm
        self.levels = {place: dropped_levels(rate) for place, rate in self.facts.rates.items()}
        self.layers = _layers(architecture, self.facts, config, dtype, device)
        self.operations = self.layers.operations
        activation = self.family.head.activation
        self.head_activation: Callable[[Tensor], Tensor] = (
            ACT2FN[getattr(config, activation)] if isinstance(activation, str) else activation
        )
        words = f"{self.family.words}.weight"
        self.word_name = next(name for name in weights[0] if name.endswith(words))
        shapes = {name: tuple(value.shape) for name, value in weights[0].items()}
        prefix = self.word_name.removesuffix(words)
        self.blocks = layout(self.family, prefix, self.count, shapes)
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
        if self.family.positions_from != "padding":
            return
        values = self.blocks["embedding_tables"].values
        if values.requires_grad:
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
        reads_first = pooling is None or pooling_row(pooling).tokens == "first"
        first_only = not needs and reads_first and self.facts.head_reads == "first"
        all_states = self._encode(batch, key, first_only, attention)
        logits = self._head(self._read_by_head(all_states[-1], batch["attention_mask"]), key)
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
        weights = self._layer_weights()
        states = self._embed(batch, key, weights)
        length = states.full.shape[2]

        def site(layer: int, place: Place) -> Site | None:
            rows = length if first_only and layer == self.count - 1 else None
            return self._site(key, layer, place, rows)

        mask = batch["attention_mask"]
        padding = self.operations.padding(mask, self.heads)
        step = Step(padding, attention, first_only, site)
        all_states = [states]
        for layer in range(self.count):
            states = self.layers.states(layer, states, weights[str(layer)], step)
            all_states.append(states)
        all_states[-1] = self.layers.last(states, weights[""])
        return all_states

    def _layer_weights(self) -> dict[str, dict[str, Tensor]]:
        """The encoder's weights by key, for each layer's number, and for "" those outside the layers."""
        bias_dtype = self.operations.bias_dtype
        kinds = {"products": self.dtype, "biases": bias_dtype, "scales": torch.float32}
        weights: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for kind, dtype in kinds.items():
            if kind in self.blocks:
                for key, value in self.blocks[kind].split(dtype).items():
                    layer, _, name = key.rpartition(".")
                    weights[layer][name] = value
        return weights

    def _embed(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        weights: Mapping[str, Mapping[str, Tensor]],
    ) -> States:
        """The states of the embeddings."""
        tables = {}
        if "embedding_tables" in self.blocks:
            tables = self.blocks["embedding_tables"].split(torch.float32)
        norm = self.blocks["embedding_scales"].split(torch.float32)
        sums = self.words.look_up(batch["input_ids"], training=key is not None)
        if "types" in tables:
            sums = sums + look_up_rows(tables["types"], batch["token_type_ids"])
        if "positions" in tables:
            sums = sums + self._positions(tables["positions"], batch["input_ids"])
        shift = norm["shift"] if "shift" in norm else torch.zeros_like(norm["scale"])
        site = self._site(key, None, "embedding")
        states = self.operations.norm(sums, (norm["scale"], shift), site)
        if "projection" in weights[""]:
            bias = weights[""]["projection_bias"].to(self.dtype)
            half = linear(states.half, weights[""]["projection"], bias)
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

    def _read_by_head(self, states: States, mask: Tensor) -> Tensor:
        """What the head reads (members, B, width) of the last states, in fp32."""
        if self.facts.head_reads == "first":
            return states.firsts[:, :, 0]
        sums = (states.full * mask[..., None]).sum(dim=2)
        means: Tensor = sums / mask.sum(dim=2)[..., None]
        return means

    def _head(self, states: Tensor, key: DropoutKey | None) -> Tensor:
        """Logits (members, B, outputs) of what the head reads (members, B, width), in fp32."""
        weights = self.blocks["head_products"].split(torch.float32)
        biases = self.blocks["head_biases"].split(torch.float32)
        site = self._site(key, None, "head")
        if self.family.head.drops_input:
            states = drop(states, site)
        features = self.head_activation(linear(states, weights["dense"], biases.get("dense_bias")))
        if self.head_norm is not None:
            scale = self.blocks["scales"].split(torch.float32)["head_scale"]
            features = layer_norm(features, scale, None, self.facts.eps)
        return linear(drop(features, site), weights["outputs"], biases["outputs_bias"])

    def _site(
        self, key: DropoutKey | None, layer: int | None, place: Place, length: int | None = None
    ) -> Site | None:
        """A site of dropout, or None where dropout changes no value.

        Sites have numbers in the order of the class's modules: the embeddings', the layers', the head's.
        """
        sites, levels = self.facts.sites, self.levels.get(place, 0)
        if key is None or levels == 0:
            return None
        if layer is not None:
            number = 1 + len(sites) * layer + sites.index(place)
        else:
            number = 0 if place == "embedding" else 1 + len(sites) * self.count
        return Site(key, number, levels, length)


def _layers(
    architecture: Architecture,
    facts: Facts,
    config: PretrainedConfig,
    dtype: torch.dtype,
    device: torch.device,
) -> StackedLayers:
    """The layers of an architecture, with the operations that the device has for them."""
    if has_kernels(device) and architecture.has_kernels:
        from harness.models.kernel_operations import KernelOperations

        kernels = KernelOperations(dtype, facts.eps, facts.activation)
        return PostNormLayers(kernels, config, dtype)
    if device.type == "cuda":
        own_lack = f"'{config.model_type}' encoders have none"
        _tell_lack(lack_on_gpu() if architecture.has_kernels else own_lack)
    plain = PlainOperations(dtype, facts.eps, facts.activation)
    if architecture.order == "pre-norm":
        return PreNormLayers(plain, config, dtype, device)
    return PostNormLayers(plain, config, dtype)


@cache
def _tell_lack(lack: str | None) -> None:
    say(f"warning: no kernels: {lack}; training takes longer and more memory")
