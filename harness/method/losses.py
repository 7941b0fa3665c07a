"""Loss terms as pure functions of tensors; each docstring states the reduction."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def label_loss(logits: Tensor, labels: Tensor, regression: bool) -> Tensor:
    """Cross-entropy of logits (B, C), or squared error of scores (B, 1): mean over examples."""
    if regression:
        return (logits[:, 0] - labels).square().mean()
    log_probabilities = F.log_softmax(logits, dim=-1)
    return -log_probabilities.gather(1, labels[:, None]).mean()


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Tensor, regression: bool
) -> Tensor:
    """T²·KL(teacher ‖ student) of logits (B, C) at temperature T, after Hinton et al. (2015).

    Sum over classes, mean over examples. In regression: squared error to the teacher's output.
    """
    if regression:
        return (student_logits - teacher_logits).square().mean()
    teacher_log = F.log_softmax(teacher_logits / temperature, dim=-1)
    student_log = F.log_softmax(student_logits / temperature, dim=-1)
    return temperature.square() * divergence(teacher_log, student_log).mean()


def factored(terms: Mapping[str, Tensor], factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms (scalars) times their factors (scalars), by name; the others as they are."""
    return {name: term * factors[name] if name in factors else term for name, term in terms.items()}


def objective(terms: Mapping[str, Tensor], scalars: Mapping[str, Tensor], weights: str) -> Tensor:
    """The weighted sum of the terms (scalars): `label`, `kd` and the method's terms.

    `weights` = `convex`: (1 − η)·label + η·kd + Σ λ·term; `simplex`: the label's weight is 1 − η − Σ λ.
    """
    term_weights = {
        name: scalars[f"{name}_weight"] for name in terms if name not in ("label", "kd")
    }
    label_weight = torch.ones_like(terms["label"])
    total = torch.zeros_like(terms["label"])
    if "kd" in terms:
        label_weight = label_weight - scalars["kd_weight"]
        total = total + scalars["kd_weight"] * terms["kd"]
    for name, value in term_weights.items():
        total = total + value * terms[name]
        if weights == "simplex":
            label_weight = label_weight - value
    return total + label_weight * terms["label"]


def mean_squared_error(states: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of two tensors (B, m, width): mean over width, layers and examples."""
    return (states - targets).square().mean()


def normalised_squared_error(states: Tensor, targets: Tensor) -> Tensor:
    """`mean_squared_error` of states (B, m, width) scaled to unit length (Sun et al., 2019)."""
    return mean_squared_error(F.normalize(states, dim=-1), F.normalize(targets, dim=-1))


def layer_energies(
    queries: Tensor, keys: Tensor, scale_by_width: bool, layer_mask: Tensor | None = None
) -> Tensor:
    """Attention energies of student layers over teacher layers, before the softmax.

    Args:
        queries: student states (B, m, width).
        keys: teacher states (B, n, width).
        scale_by_width: divide the energies by the square root of the width.
        layer_mask: true (m, n) where student layer j may attend to teacher layer i; None allows all.

    Returns:
        Energies (B, m, n), minus infinity where the mask is false.
    """
    energies = queries @ keys.transpose(-1, -2)
    if scale_by_width:
        energies = energies / math.sqrt(keys.shape[-1])
    if layer_mask is not None:
        energies = energies.masked_fill(~layer_mask, -torch.inf)
    return energies


def layer_attention(
    queries: Tensor, keys: Tensor, scale_by_width: bool, layer_mask: Tensor | None = None
) -> Tensor:
    """Softmax of `layer_energies`: weights (B, m, n) that sum to 1 over the teacher's layers."""
    return F.softmax(layer_energies(queries, keys, scale_by_width, layer_mask), dim=-1)


def to_fp32(values: Tensor) -> Tensor:
    """16-bit values as fp32, other values unchanged; any shape."""
    return values.float() if values.itemsize < 4 else values


def divergence(target_log: Tensor, log: Tensor) -> Tensor:
    """KL(target ‖ other) of two log-probabilities (..., C), summed over the last dimension."""
    return (target_log.exp() * (target_log - log)).sum(dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values where the mask is true; the mask's shape broadcasts to the values'."""
    selection = mask.expand_as(values)
    return torch.where(selection, values, 0.0).sum() / selection.sum()


def mean_of_examples(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over examples of each example's mean of values (B, ...) where the mask is true.

    The mask's shape broadcasts to the values'. Long and short examples weigh the same.
    """
    selection = mask.expand_as(values)
    sums = torch.where(selection, values, 0.0).flatten(1).sum(dim=1)
    return (sums / selection.flatten(1).sum(dim=1)).mean()


def cosine_distance(states: Tensor, targets: Tensor) -> Tensor:
    """1 − cos of two tensors (..., width), over the last dimension: from 0 to 2."""
    return 1 - (F.normalize(states, dim=-1) * F.normalize(targets, dim=-1)).sum(dim=-1)


def mix_layers(weights: Tensor, states: Tensor) -> Tensor:
    """Weighted sums (B, m, width) of teacher layers (B, n, width), by weights (B, m, n) or (m, n)."""
    return weights @ states
