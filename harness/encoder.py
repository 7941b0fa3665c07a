"""The reference engine: Hugging Face's own classes, with counter-based dropout and pooled layers.

What a population trains is a `Network`; this one has a single member, of any kind of encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from harness.errors import MethodError
from harness.method import Layers, Need, Pooling
from harness.precision import Arithmetic
from harness.randomness import DropoutKey, key_dropout

ATTENTION = "harness_explicit"
CLOSED = frozenset({"megatron-bert"})
"""Kinds of encoders with an attention of their own, which cannot be looked into."""


@dataclass(frozen=True)
class Leaf:
    """A tensor that is trained: a row for each member, or, not `stacked`, one member's alone.

    `first` is the first member that it belongs to; the others follow.
    """

    tensor: Tensor
    decayed: bool
    first: int = 0
    stacked: bool = True

    @property
    def values(self) -> Tensor:
        """The numbers (members, ...), outside the graph, in the same memory."""
        own = self.tensor.detach()
        return own if self.stacked else own[None]

    @property
    def gradients(self) -> Tensor | None:
        """The gradients (members, ...), in the same memory."""
        own = self.tensor.grad
        return own if own is None or self.stacked else own[None]


class Network(Protocol):
    """Classifiers of one shape that are trained together."""

    @property
    def members(self) -> int:
        """How many there are."""

    def leaves(self) -> list[Leaf]:
        """The tensors that are trained."""

    def forward(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        pooling: Pooling | None,
        needs: frozenset[Need] = frozenset(),
    ) -> Layers:
        """What methods see, with a leading member dimension; with a key there is dropout.

        `batch` holds `input_ids`, `token_type_ids` and `attention_mask`, each (members, B, T). Without
        pooling `states` has no layers.
        """

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Note each member's weight decay of one step for what the step left out."""

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with some members only."""

    def weights(self, member: int) -> dict[str, Tensor]:
        """One member's weights by their names in a checkpoint."""


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
        if "qkv" in self.needs:
            for held, given in (
                (self.queries, queries),
                (self.keys, keys),
                (self.values, values),
            ):
                held.append(given)


_HELD: ContextVar[Held | None] = ContextVar("held", default=None)


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
    if (holding := _HELD.get()) is not None:
        holding.add(scores, query, key, value)
    weights = scores.softmax(dim=-1).to(value.dtype)
    keyed = module.get_submodule("dropout")
    return (keyed(weights) @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(ATTENTION, explicit_attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)


class ReferenceClassifier:
    """One classifier of Hugging Face's class as a network. The model is trained in place."""

    members = 1

    def __init__(
        self, model: PreTrainedModel, arithmetic: Arithmetic, frozen_embeddings: bool = False
    ) -> None:
        self.model = model
        self.arithmetic = arithmetic
        self.key = DropoutKey([0], arithmetic.device)
        key_dropout(model, self.key)
        if frozen_embeddings:
            model.base_model.embeddings.requires_grad_(False)

    def leaves(self) -> list[Leaf]:
        """Every parameter that is trained; no decay for biases and normalisations."""
        return [
            Leaf(parameter, parameter.ndim > 1, stacked=False)
            for parameter in self.model.parameters()
            if parameter.requires_grad
        ]

    def forward(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        pooling: Pooling | None,
        needs: frozenset[Need] = frozenset(),
    ) -> Layers:
        """As `Network.forward`, for one member."""
        self.model.train(key is not None)
        if key is not None:
            self.key.members, self.key.step = key.members, key.step
        with self.arithmetic.autocast():
            own = {name: values[0] for name, values in batch.items()}
            layers = layers_of(self.model, own, pooling, needs)
        one: Layers = tree_map(lambda values: values[None], layers)
        return one

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Nothing: every step decays all weights."""

    def keep(self, positions: Sequence[int]) -> None:
        """Nothing: the only member stays."""

    def weights(self, member: int) -> dict[str, Tensor]:
        """The model's weights on the CPU."""
        return {name: value.cpu().clone() for name, value in self.model.state_dict().items()}


def layers_of(
    model: PreTrainedModel,
    batch: Mapping[str, Tensor],
    pooling: Pooling | None,
    needs: frozenset[Need] = frozenset(),
) -> Layers:
    """Run a classifier on a batch of (B, T) inputs; without pooling, `states` has no layers.

    Raises:
        MethodError: its attention is needed, and its class does not hand it out.
    """
    check_needs(model.config, needs)
    held = Held(needs)
    token = _HELD.set(held if needs else None)
    try:
        wanted = pooling is not None or "tokens" in needs
        outputs = model(**batch, output_hidden_states=wanted)
    finally:
        _HELD.reset(token)
    logits, mask = outputs.logits.float(), batch["attention_mask"]
    states = logits.new_zeros(len(logits), 0, 0)
    if pooling is not None:
        states = pool(outputs.hidden_states[1:], mask, pooling)
    tokens = outputs.hidden_states if "tokens" in needs else ()
    return Layers(
        logits,
        states,
        tuple(own.float() for own in tokens),
        finite_scores(held.scores, mask),
        tuple(held.queries),
        tuple(held.keys),
        tuple(held.values),
    )


def check_needs(config: PretrainedConfig, needs: frozenset[Need]) -> None:
    """Refuse what an encoder cannot hand out. Raises `MethodError`."""
    if config.model_type in CLOSED and needs & {"scores", "qkv"}:
        raise MethodError(f"'{config.model_type}' encoders do not hand out their attention")


def finite_scores(scores: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, ...]:
    """Scores (..., B, heads, T, T) with 0 at the keys where the mask (..., B, T) is."""
    padded = mask[..., None, None, :] == 0
    return tuple(own.masked_fill(padded, 0.0) for own in scores)


def pool(hidden_states: Sequence[Tensor], mask: Tensor, pooling: Pooling) -> Tensor:
    """Pooled states (B, layers, width) in fp32 from layers of (B, T, width) and a mask (B, T)."""
    if pooling == "cls":
        return torch.stack([states[:, 0] for states in hidden_states], dim=1).float()
    share = (mask / mask.sum(dim=1, keepdim=True)).to(hidden_states[0].dtype)
    return torch.stack(
        [torch.einsum("bt,btd->bd", share, states) for states in hidden_states], dim=1
    ).float()
