"""Combinations of all teacher layers without attention: what ALP has to beat."""

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
from harness.method.matching import MIXED, MixedLayers

GAIN = 100.0
"""Of static weights: a learning rate made for encoders would hardly move bare logits."""


class Uniform(MixedLayers):
    """LAYER = mean_j MSE(u_j, C), C = 1/n Σ_i t_i: every layer with the same weight.

    Paper: the control of Passban et al. (2021), arXiv 2012.14022, in which attention is replaced by
    equal weights (the form is ours). What attention must beat to matter. Reduction: mean over width,
    layers and examples. Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "uniform"
    summary = "mean of all teacher layers (control)"
    paper = "control, after arXiv 2012.14022"
    form = "ours"

    def mixture(self, queries: Tensor, states: Tensor) -> Tensor:
        """1/n."""
        sizes = self.shapes.student_layers, self.shapes.teacher_layers
        return states.new_full(sizes, 1.0 / self.shapes.teacher_layers)


class RandomMix(MixedLayers):
    """Weights ε_j that are drawn once from the run's seed, uniformly from the simplex, and stay.

    Paper: none; a control (ours). If it does as well as `alp`, it does not matter which weights there
    are. ε_j is Dirichlet(1). Reduction: mean over width, layers and examples.
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
        drawn = torch.empty(shapes.student_layers, shapes.teacher_layers)
        drawn.exponential_(generator=generator)
        self.register_buffer("weights", drawn / drawn.sum(dim=1, keepdim=True))
        self.weights: Tensor

    def mixture(self, queries: Tensor, states: Tensor) -> Tensor:
        """As drawn."""
        return self.weights


class StaticMix(MixedLayers):
    """Weights ε_j = softmax_i(100·a_ji) that are learned, and the same for every example.

    Paper: none; a control (ours). If it does as well as `alp`, weights need not depend on the example.
    a starts at 0, the uniform combination. The factor 100 lets a learning rate that is made for
    encoders move the weights. Reduction: mean over width, layers and examples.
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
        """As learned."""
        return (GAIN * self.logits).softmax(dim=-1)


class RandomProjection(Method):
    """LAYER = mean_j MSE(u_j, R_j·concat(t_1..t_n)), R_j fixed, Gaussian with variance 1/(n·d).

    Paper: none; a control (ours): what any learned combination must beat. R_j is drawn once from
    the run's seed. Reduction: mean over width, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "random-projection"
    summary = "fixed random projection of all teacher layers (control)"
    paper = "control"
    form = "ours"
    space: ClassVar[Mapping[str, Hyper]] = MIXED

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.query = query_projection(shapes, generator)
        inputs = shapes.teacher_layers * shapes.teacher_width
        drawn = torch.randn(
            shapes.student_layers, inputs, shapes.teacher_width, generator=generator
        )
        self.register_buffer("projection", drawn / inputs**0.5)
        self.projection: Tensor

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: squared distance of each student layer to its random projection."""
        return {"layer": mean_squared_error(self.query(student.states), self._targets(teacher))}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """The projections (B, m, width)."""
        return {"target": self._targets(teacher)}

    def _targets(self, teacher: Layers) -> Tensor:
        return torch.einsum("bi,mid->bmd", teacher.states.flatten(1), self.projection)
