"""The reference engine: Hugging Face's own classes, with counter-based dropout and pooled layers."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from harness.method import Layers

Pooling = Literal["cls", "mean"]
ATTENTION = "harness_explicit"


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


def layers_of(model: PreTrainedModel, batch: dict[str, Tensor], pooling: Pooling | None) -> Layers:
    """Run a classifier on a batch of (B, T) inputs; without pooling, `states` has no layers."""
    outputs = model(**batch, output_hidden_states=pooling is not None)
    logits = outputs.logits.float()
    if pooling is None:
        return Layers(logits, logits.new_zeros(len(logits), 0, 0))
    return Layers(logits, pool(outputs.hidden_states[1:], batch["attention_mask"], pooling))


def pool(hidden_states: tuple[Tensor, ...], mask: Tensor, pooling: Pooling) -> Tensor:
    """Pooled states (B, layers, width) in fp32 from layers of (B, T, width) and a mask (B, T)."""
    if pooling == "cls":
        return torch.stack([states[:, 0] for states in hidden_states], dim=1).float()
    share = (mask / mask.sum(dim=1, keepdim=True)).to(hidden_states[0].dtype)
    return torch.stack(
        [torch.einsum("bt,btd->bd", share, states) for states in hidden_states], dim=1
    ).float()
