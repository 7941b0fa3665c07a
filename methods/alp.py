"""Attention-based layer projection: every student layer attends over all teacher layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from optuna.distributions import CategoricalDistribution
from torch import Tensor, nn

from harness.losses import layer_attention, mean_squared_error, mix_layers
from harness.method import (
    DISTILLATION,
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    query_projection,
    require_equal_widths,
    weight,
)

_SPACE: dict[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(0.1, 100.0, "mean over width; less than PKD, states keep their length"),
    "scaled": Hyper(
        CategoricalDistribution([True, False]),
        "structural",
        "divide energies by the square root of the width; unscaled attention is nearly one-hot",
        default=True,
    ),
    "detach_attention": Hyper(
        CategoricalDistribution([False, True]),
        "structural",
        "keep the loss from moving the weights",
        default=False,
    ),
}


class Alp(Method):
    """LAYER = mean_j MSE(u_j, C_j), C_j = Σ_i ε_ji t_i, ε_j = softmax_i(⟨u_j, φ(t_i)⟩ / √d).

    Paper: Passban, Wu, Rezagholizadeh, Liu (2021), arXiv 2012.14022 (second-hand: the fused state is
    a weighted sum of raw teacher states). u_j is s_j, or W·s_j with W learned when the widths differ,
    so that the target stays the teacher's own. φ is a bias-free linear map that starts at the
    identity (ours). Reduction: mean over width, layers and examples.
    `value` = `projected` makes C_j = Σ ε φ(t_i), a learned target that can collapse: watch the
    target's length and variance in the report.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options scaled, detach_attention,
    value.
    """

    name = "alp"
    summary = "attention over all teacher layers, learned key projection"
    paper = "Passban et al. 2021, arXiv 2012.14022"
    space: ClassVar[dict[str, Hyper]] = {
        **_SPACE,
        "value": Hyper(
            CategoricalDistribution(["raw", "projected"]),
            "structural",
            "a projected target is learned, and can collapse",
            default="raw",
        ),
    }

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.scaled = bool(structure["scaled"])
        self.detached = bool(structure["detach_attention"])
        self.projected = structure["value"] == "projected"
        self.key = nn.Linear(shapes.teacher_width, shapes.teacher_width, bias=False)
        nn.init.eye_(self.key.weight)
        self.query = query_projection(shapes, generator)

    def _fuse(self, student: Layers, teacher: Layers) -> tuple[Tensor, Tensor, Tensor]:
        queries = self.query(student.states)
        keys = self.key(teacher.states)
        attention = layer_attention(queries, keys, self.scaled)
        if self.detached:
            attention = attention.detach()
        return queries, attention, mix_layers(attention, keys if self.projected else teacher.states)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: squared distance of each student layer to its own mixture of teacher layers."""
        queries, _, targets = self._fuse(student, teacher)
        return {"layer": mean_squared_error(queries, targets)}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """Attention (B, m, n) and fused teacher states (B, m, width)."""
        _, attention, targets = self._fuse(student, teacher)
        return {"attention": attention, "target": targets}


class AlpNp(Method):
    """`alp` without a projection: φ is the identity and the attention has no parameters.

    Paper: as `alp`; the reading of NP as "no projection" is ours, public reimplementations of ALP are
    of this form. Needs equal widths. Reduction: mean over width, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options scaled, detach_attention.
    """

    name = "alp-np"
    summary = "attention over all teacher layers, no parameters"
    paper = "Passban et al. 2021, arXiv 2012.14022"
    space: ClassVar[dict[str, Hyper]] = _SPACE

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_equal_widths(shapes, self.name, "alp")
        self.scaled = bool(structure["scaled"])
        self.detached = bool(structure["detach_attention"])

    def _fuse(self, student: Layers, teacher: Layers) -> tuple[Tensor, Tensor]:
        attention = layer_attention(student.states, teacher.states, self.scaled)
        if self.detached:
            attention = attention.detach()
        return attention, mix_layers(attention, teacher.states)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: squared distance of each student layer to its own mixture of teacher layers."""
        _, targets = self._fuse(student, teacher)
        return {"layer": mean_squared_error(student.states, targets)}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """Attention (B, m, n) and fused teacher states (B, m, width)."""
        attention, targets = self._fuse(student, teacher)
        return {"attention": attention, "target": targets}
