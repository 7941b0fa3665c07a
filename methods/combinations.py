"""Combinations of all teacher layers without attention: controls that ALP has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.method import (
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    query_projection,
)
from harness.method.losses import mean_squared_error
from harness.method.matching import MIXTURE_SPACE, MixedLayers

LOGIT_SCALE = 100.0
"""Factor of `static-mix`'s logits: a learning rate for encoders would hardly move bare logits."""


class Uniform(MixedLayers):
    """LAYER = mean_j MSE(u_j, C), C = 1/n Σ_i t_i: every teacher layer has the same weight.

    Paper: a control of Passban et al. (2021), arXiv 2012.14022, with equal weights instead of attention
    (the form is ours). Attention matters only if `alp` is better than `uniform`. Reduction: mean over
    width, layers and examples. Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "uniform"
    summary = "mean of all teacher layers (control)"
    paper = "control, after arXiv 2012.14022"
    form = "ours"

    def mixture(self, queries: Tensor, states: Tensor) -> Tensor:
        """Weights 1/n (m, n)."""
        sizes = self.shapes.student_layers, self.shapes.teacher_layers
        return states.new_full(sizes, 1.0 / self.shapes.teacher_layers)


class RandomMix(MixedLayers):
    """LAYER = mean_j MSE(u_j, Σ_i ε_ji t_i) with fixed random weights ε_j.

    Paper: none; a control (ours). If `random-mix` is as good as `alp`, the choice of the weights does
    not matter. The run's seed draws ε_j once, uniformly from the simplex (Dirichlet(1)). Reduction:
    mean over width, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "random-mix"
    summary = "fixed random weights of all teacher layers (control)"
    paper = "control"
    form = "ours"

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        draws = torch.empty(shapes.student_layers, shapes.teacher_layers)
        draws.exponential_(generator=generator)
        self.register_buffer("weights", draws / draws.sum(dim=1, keepdim=True))
        self.weights: Tensor

    def mixture(self, queries: Tensor, states: Tensor) -> Tensor:
        """The weights (m, n) of the draw."""
        return self.weights


class StaticMix(MixedLayers):
    """LAYER = mean_j MSE(u_j, Σ_i ε_ji t_i) with learned weights ε_j = softmax_i(100·a_ji).

    Paper: none; a control (ours). The weights are the same for every example: if `static-mix` is as
    good as `alp`, weights need not depend on the example. a starts at 0, which gives equal weights. The
    factor 100 lets a learning rate for encoders move the weights. Reduction: mean over width, layers and
    examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "static-mix"
    summary = "learned weights of all teacher layers, the same for every example (control)"
    paper = "control"
    form = "ours"

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.logits = nn.Parameter(torch.zeros(shapes.student_layers, shapes.teacher_layers))

    def mixture(self, queries: Tensor, states: Tensor) -> Tensor:
        """The learned weights (m, n)."""
        return (LOGIT_SCALE * self.logits).softmax(dim=-1)


class RandomProjection(Method):
    """LAYER = mean_j MSE(u_j, R_j·concat(t_1..t_n)), R_j fixed, Gaussian with variance 1/(n·d).

    Paper: none; a control (ours) that any learned combination must beat. The run's seed draws R_j
    once. Reduction: mean over width, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "random-projection"
    summary = "fixed random projection of all teacher layers (control)"
    paper = "control"
    form = "ours"
    space: ClassVar[Mapping[str, Hyper]] = MIXTURE_SPACE

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.query = query_projection(shapes, generator)
        inputs = shapes.teacher_layers * shapes.teacher_width
        draws = torch.randn(
            shapes.student_layers, inputs, shapes.teacher_width, generator=generator
        )
        self.register_buffer("projection", draws / inputs**0.5)
        self.projection: Tensor

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the squared distance of each student layer to its random projection."""
        return {"layer": mean_squared_error(self.query(student.states), self._targets(teacher))}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """`target`: the projections (B, m, width)."""
        return {"target": self._targets(teacher)}

    def _targets(self, teacher: Layers) -> Tensor:
        return torch.einsum("bi,mid->bmd", teacher.states.flatten(1), self.projection)
