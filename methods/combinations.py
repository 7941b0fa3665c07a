"""Combinations of all teacher layers without attention: what ALP has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from harness.losses import mean_squared_error
from harness.method import (
    DISTILLATION,
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    query_projection,
    weight,
)

_SPACE: dict[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(0.1, 100.0, "as for alp, so that only the combination differs"),
}


class Uniform(Method):
    """LAYER = mean_j MSE(u_j, C), C = 1/n Σ_i t_i: every layer with the same weight.

    Paper: the control of Passban et al. (2021), arXiv 2012.14022, in which attention is replaced by
    equal weights (the form is ours). What attention must beat to matter. Reduction: mean over width,
    layers and examples. Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "uniform"
    summary = "mean of all teacher layers (control)"
    paper = "control, after arXiv 2012.14022"
    space: ClassVar[dict[str, Hyper]] = _SPACE

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.query = query_projection(shapes, generator)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: squared distance of each student layer to the mean teacher layer."""
        targets = teacher.states.mean(dim=1, keepdim=True)
        return {"layer": mean_squared_error(self.query(student.states), targets)}


class RandomProjection(Method):
    """LAYER = mean_j MSE(u_j, R_j·concat(t_1..t_n)), R_j fixed, Gaussian with variance 1/(n·d).

    Paper: none; a control (ours): what any learned combination must beat. R_j is drawn once from
    the run's seed. Reduction: mean over width, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "random-projection"
    summary = "fixed random projection of all teacher layers (control)"
    paper = "control"
    space: ClassVar[dict[str, Hyper]] = _SPACE

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
        targets = torch.einsum("bi,mid->bmd", teacher.states.flatten(1), self.projection)
        return {"layer": mean_squared_error(self.query(student.states), targets)}
