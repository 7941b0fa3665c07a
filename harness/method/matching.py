"""Bases of two families: layers matched one to one, and layers matched to mixtures of layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from optuna.distributions import CategoricalDistribution
from torch import Tensor

from harness.method import (
    DISTILLATION,
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    query_projection,
    require_depth,
    require_equal_widths,
    require_pair,
    weight,
)
from harness.method.losses import mean_squared_error, mix_layers, normalised_squared_error

MAPPED: Mapping[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(10.0, 1000.0, "published grid; mean over width makes it large"),
    "normalised": Hyper(
        CategoricalDistribution([True, False]),
        "structural",
        "states of unit length, as published; the authors' grid also turns it off",
        default=True,
    ),
}
"""Hyper-parameters of methods that match layers one to one."""
MIXED: Mapping[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(1.0, 1000.0, "mean over width makes it large; a public default is 100"),
}
"""Hyper-parameters of methods that match mixtures: the same, so that only the weights differ."""


class MappedLayers(Method):
    """LAYER = mean_j MSE(ŝ_j, t̂_A(j)), states of unit length; a subclass says what the map A is.

    Reduction: mean over width, layers and examples; with simplex weights, which end at 1, the term is
    summed over the width, as PKD's equation 7 is.
    """

    space = MAPPED

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_equal_widths(shapes, self.name, "alp")
        require_depth(shapes, self.name)
        self.normalised = bool(structure["normalised"])
        self.simplex_scale = float(shapes.student_width)
        layers = self.layer_map(shapes.student_layers, shapes.teacher_layers, generator)
        if not layers:
            require_pair(shapes, self.name)
        self.register_buffer("matched", torch.tensor(layers) - 1)
        self.matched: Tensor

    @abstractmethod
    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """Teacher layers, counted from 1, of student layers 1, 2, ...; those beyond are not matched."""

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: squared distance of the matched pairs."""
        states = student.states[:, : self.matched.shape[0]]
        targets = teacher.states.index_select(1, self.matched)
        distance = normalised_squared_error if self.normalised else mean_squared_error
        return {"layer": distance(states, targets)}


class MixedLayers(Method):
    """LAYER = mean_j MSE(u_j, C_j), C_j = Σ_i ε_ji t_i; a subclass says what the weights ε are.

    u_j is s_j, or W·s_j with W learned when the widths differ, so that the target stays the teacher's
    own. Reduction: mean over width, layers and examples.
    """

    space = MIXED

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.query = query_projection(shapes, generator)

    @abstractmethod
    def mixture(self, queries: Tensor, states: Tensor) -> Tensor:
        """Weights ε (B, m, n) or (m, n), which sum to 1 over the teacher's layers.

        `queries` (B, m, width) are the student's side u, `states` (B, n, width) the teacher's.
        """

    def values(self, states: Tensor) -> Tensor:
        """What is mixed, from the teacher's states (B, n, width): the states themselves."""
        return states

    def fused(self, student: Layers, teacher: Layers) -> tuple[Tensor, Tensor, Tensor]:
        """Queries u (B, m, width), weights ε and fused states C (B, m, width)."""
        queries = self.query(student.states)
        weights = self.mixture(queries, teacher.states)
        return queries, weights, mix_layers(weights, self.values(teacher.states))

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: squared distance of each student layer to its own mixture of teacher layers."""
        queries, _, targets = self.fused(student, teacher)
        return {"layer": mean_squared_error(queries, targets)}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """Weights (B, m, n) and fused teacher states (B, m, width)."""
        queries, weights, targets = self.fused(student, teacher)
        return {"attention": weights.expand(len(queries), -1, -1), "target": targets}
