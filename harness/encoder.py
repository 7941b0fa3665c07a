"""The reference engine: Hugging Face's own classes, with counter-based dropout and pooled layers.

What a population trains is a `Network`; this one has a single member, of any kind of encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from harness.method import Layers
from harness.precision import Arithmetic
from harness.randomness import DropoutKey, key_dropout

Pooling = Literal["cls", "mean"]
ATTENTION = "harness_explicit"


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
        self, batch: Mapping[str, Tensor], key: DropoutKey | None, pooling: Pooling | None
    ) -> Layers:
        """Logits (members, B, outputs) and pooled states (members, B, layers, width) in fp32."""

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Note each member's weight decay of one step for what the step left out."""

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with some members only."""

    def weights(self, member: int) -> dict[str, Tensor]:
        """One member's weights by their names in a checkpoint."""


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
        self, batch: Mapping[str, Tensor], key: DropoutKey | None, pooling: Pooling | None
    ) -> Layers:
        """As `Network.forward`, for one member."""
        self.model.train(key is not None)
        if key is not None:
            self.key.members, self.key.step = key.members, key.step
        with self.arithmetic.autocast():
            layers = layers_of(self.model, {name: own[0] for name, own in batch.items()}, pooling)
        return Layers(layers.logits[None], layers.states[None])

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Nothing: every step decays all weights."""

    def keep(self, positions: Sequence[int]) -> None:
        """Nothing: the only member stays."""

    def weights(self, member: int) -> dict[str, Tensor]:
        """The model's weights on the CPU."""
        return {name: value.cpu().clone() for name, value in self.model.state_dict().items()}


def layers_of(
    model: PreTrainedModel, batch: Mapping[str, Tensor], pooling: Pooling | None
) -> Layers:
    """Run a classifier on a batch of (B, T) inputs; without pooling, `states` has no layers."""
    outputs = model(**batch, output_hidden_states=pooling is not None)
    logits = outputs.logits.float()
    if pooling is None:
        return Layers(logits, logits.new_zeros(len(logits), 0, 0))
    return Layers(logits, pool(outputs.hidden_states[1:], batch["attention_mask"], pooling))


def pool(hidden_states: Sequence[Tensor], mask: Tensor, pooling: Pooling) -> Tensor:
    """Pooled states (B, layers, width) in fp32 from layers of (B, T, width) and a mask (B, T)."""
    if pooling == "cls":
        return torch.stack([states[:, 0] for states in hidden_states], dim=1).float()
    share = (mask / mask.sum(dim=1, keepdim=True)).to(hidden_states[0].dtype)
    return torch.stack(
        [torch.einsum("bt,btd->bd", share, states) for states in hidden_states], dim=1
    ).float()
