"""Base classes of two families: layers matched one to one, and layers matched to mixtures."""

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

MAP_SPACE: Mapping[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(10.0, 1000.0, "the published grid; a mean over the width is small"),
    "normalised": Hyper(
        CategoricalDistribution([True, False]),
        "structural",
        "scales states to unit length, as published; the authors' grid has both values",
        default=True,
    ),
}
"""Hyper-parameters of methods that match layers one to one."""
MIXTURE_SPACE: Mapping[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(1.0, 1000.0, "a mean over the width is small; a public default is 100"),
}
"""Hyper-parameters of methods that match mixtures: the same ranges, so that only mixtures differ."""


def layers_option(default: str) -> Hyper:
    """The option `layers`: which layers of both sides are compared (`layer_maps.layer_pairs`)."""
    return Hyper(
        CategoricalDistribution(["last", "mapped"]),
        "structural",
        "the last layers of both sides, or every student layer with every n/m-th teacher layer",
        default=default,
    )


def overlap_option(default: int) -> Hyper:
    """The option `overlap` of buckets that share layers (`layer_maps.buckets`)."""
    return Hyper(
        CategoricalDistribution([1, 2]),
        "structural",
        "layers that neighbouring buckets share",
        default=default,
    )


class MappedLayers(Method):
    """LAYER = mean_j MSE(ŝ_j, t̂_A(j)) of states scaled to unit length; a subclass chooses the map A.

    Reduction: mean over width, layers and examples. With simplex weights, which are at most 1, the
    term is the sum over the width, as in PKD's equation 7.
    """

    space = MAP_SPACE

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_equal_widths(shapes, self.name, "alp")
        require_depth(shapes, self.name)
        self.unit_length = bool(structure["normalised"])
        self.simplex_scale = float(shapes.student_width)
        layers = self.layer_map(shapes.student_layers, shapes.teacher_layers, generator)
        if not layers:
            require_pair(shapes, self.name)
        self.register_buffer("layer_indices", torch.tensor(layers) - 1)
        self.layer_indices: Tensor

    @abstractmethod
    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """Teacher layers, counted from 1, of student layers 1, 2, ...; later layers are not matched."""

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the squared distance of the pairs."""
        states = student.states[:, : self.layer_indices.shape[0]]
        targets = teacher.states.index_select(1, self.layer_indices)
        distance = normalised_squared_error if self.unit_length else mean_squared_error
        return {"layer": distance(states, targets)}


class MixedLayers(Method):
    """LAYER = mean_j MSE(u_j, C_j), C_j = Σ_i ε_ji t_i; a subclass chooses the weights ε.

    u_j is s_j, or W·s_j with a learned W if the widths differ; so the target is made of the teacher's
    own states. Reduction: mean over width, layers and examples.
    """

    space = MIXTURE_SPACE

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.query = query_projection(shapes, generator)

    @abstractmethod
    def mixture(self, queries: Tensor, states: Tensor) -> Tensor:
        """Weights ε (B, m, n) or (m, n), which sum to 1 over the teacher's layers.

        `queries` are the student's u (B, m, width), `states` the teacher's t (B, n, width).
        """

    def values(self, states: Tensor) -> Tensor:
        """The tensors (B, n, width) that are mixed: by default the teacher's states."""
        return states

    def fuse(self, student: Layers, teacher: Layers) -> tuple[Tensor, Tensor, Tensor]:
        """Queries u (B, m, width), weights ε and fused states C (B, m, width)."""
        queries = self.query(student.states)
        weights = self.mixture(queries, teacher.states)
        return queries, weights, mix_layers(weights, self.values(teacher.states))

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the squared distance of each student layer to its mixture of teacher layers."""
        queries, _, targets = self.fuse(student, teacher)
        return {"layer": mean_squared_error(queries, targets)}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """`attention`: the weights (B, m, n); `target`: the mixtures (B, m, width)."""
        queries, weights, targets = self.fuse(student, teacher)
        return {"attention": weights.expand(len(queries), -1, -1), "target": targets}
