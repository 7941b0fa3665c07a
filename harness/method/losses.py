"""Loss terms as pure functions of tensors; each states its reduction over classes and width."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def label_loss(logits: Tensor, labels: Tensor, regression: bool) -> Tensor:
    """Cross-entropy of logits (B, C), or squared error of scores (B, 1); mean over examples."""
    if regression:
        return (logits[:, 0] - labels).square().mean()
    log_probabilities = F.log_softmax(logits, dim=-1)
    return -log_probabilities.gather(1, labels[:, None]).mean()


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Tensor, regression: bool
) -> Tensor:
    """T²·KL(teacher ‖ student) at temperature T over logits (B, C), after Hinton et al. (2015).

    Summed over classes, mean over examples. For regression: squared error to the teacher's output.
    """
    if regression:
        return (student_logits - teacher_logits).square().mean()
    teacher_log = F.log_softmax(teacher_logits / temperature, dim=-1)
    student_log = F.log_softmax(student_logits / temperature, dim=-1)
    return temperature.square() * divergence(teacher_log, student_log).mean()


def objective(terms: Mapping[str, Tensor], scalars: Mapping[str, Tensor], weights: str) -> Tensor:
    """The weighted sum of `label`, `kd` and the method's own terms (scalars).

    `convex`: (1 − η)·label + η·kd + Σ λ·term; `simplex`: the label's weight is 1 − η − Σ λ.
    """
    own = {name: scalars[f"{name}_weight"] for name in terms if name not in ("label", "kd")}
    label_weight = torch.ones_like(terms["label"])
    total = torch.zeros_like(terms["label"])
    if "kd" in terms:
        label_weight = label_weight - scalars["kd_weight"]
        total = total + scalars["kd_weight"] * terms["kd"]
    for name, value in own.items():
        total = total + value * terms[name]
        if weights == "simplex":
            label_weight = label_weight - value
    return total + label_weight * terms["label"]


def mean_squared_error(states: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of (B, m, width) tensors: mean over width, layers and examples."""
    return (states - targets).square().mean()


def normalised_squared_error(states: Tensor, targets: Tensor) -> Tensor:
    """`mean_squared_error` after scaling each state to unit length (Sun et al., 2019)."""
    return mean_squared_error(F.normalize(states, dim=-1), F.normalize(targets, dim=-1))


def layer_energies(
    queries: Tensor, keys: Tensor, scaled: bool, allowed: Tensor | None = None
) -> Tensor:
    """What the attention of student layers over teacher layers is the softmax of.

    Args:
        queries: student states (B, m, width).
        keys: teacher states (B, n, width).
        scaled: divide the energies by the square root of the width.
        allowed: which teacher layers a student layer may attend to (m, n); without it all.

    Returns:
        Energies (B, m, n), minus infinity where a layer is not allowed.
    """
    energies = queries @ keys.transpose(-1, -2)
    if scaled:
        energies = energies / math.sqrt(keys.shape[-1])
    if allowed is not None:
        energies = energies.masked_fill(~allowed, -torch.inf)
    return energies


def layer_attention(
    queries: Tensor, keys: Tensor, scaled: bool, allowed: Tensor | None = None
) -> Tensor:
    """Weights (B, m, n) that sum to 1 over the teacher's layers; arguments as `layer_energies`."""
    return F.softmax(layer_energies(queries, keys, scaled, allowed), dim=-1)


def widened(values: Tensor) -> Tensor:
    """16-bit numbers as fp32; others as they are."""
    return values.float() if values.itemsize < 4 else values


def divergence(target_log: Tensor, log: Tensor) -> Tensor:
    """KL(target ‖ given) of log-probabilities (..., C), summed over the last dimension."""
    return (target_log.exp() * (target_log - log)).sum(dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of those values where the mask, of a shape that broadcasts to theirs, is true."""
    counted = mask.expand_as(values)
    return torch.where(counted, values, 0.0).sum() / counted.sum()


def mix_layers(weights: Tensor, states: Tensor) -> Tensor:
    """Weighted sums of teacher layers: weights (…, m, n) by states (B, n, width) to (B, m, width)."""
    return weights @ states
