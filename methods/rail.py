"""Random intermediate layers: every epoch matches other teacher layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from optuna.distributions import CategoricalDistribution
from torch import Tensor, nn

from harness.method import (
    DISTILLATION,
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    require_depth,
    require_pair,
    weight,
)

WIDTH = 128
"""Width of the space in which the method compares states, as published."""


class Rail(Method):
    """LAYER = mean_j ‖ norm(W_j s_j) − norm(V_j t_A(j)) ‖², j = 1..m−1, A drawn anew in every epoch.

    Paper: Haidar, Anchuri, Rezagholizadeh, Ghaddar, Langlais, Poupart (2022), RAIL-KD, arXiv 2109.10164
    (second-hand). A(1) < … < A(m−1) are drawn from the teacher's layers 1..n−1 without replacement.
    States are mean-pooled, whatever pooling the study sets. W_j and V_j are learned maps to 128 numbers,
    without a bias; each layer has maps of its own (ours). `compared` = `concatenated` joins the m−1
    states of each side and compares one vector. Reduction: sum over the 128 numbers, mean over layers
    and examples. Both sides are learned: their length is fixed, but their direction can become constant.
    The report shows the target's variance for the layers of the last epoch. The student must have at
    least two layers and must not be deeper than its teacher.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option compared.
    """

    name = "rail"
    summary = "teacher layers drawn anew in every epoch, compared after learned maps"
    paper = "Haidar et al. 2022, arXiv 2109.10164"
    form = "second-hand"
    pooling = "mean"
    space: ClassVar[Mapping[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(0.03, 30.0, "the distance of two unit vectors is at most 4"),
        "compared": Hyper(
            CategoricalDistribution(["layer-wise", "concatenated"]),
            "structural",
            "compares layer by layer, or the concatenation of all layers",
            default="layer-wise",
        ),
    }

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_depth(shapes, self.name)
        require_pair(shapes, self.name)
        pairs = shapes.student_layers - 1
        self.concatenate = structure["compared"] == "concatenated"
        ranks = torch.rand(shapes.epochs, shapes.teacher_layers - 1, generator=generator)
        layers = ranks.argsort(dim=1)[:, :pairs].sort(dim=1).values
        self.register_buffer("epoch_layers", layers)
        self.epoch_layers: Tensor
        maps = 1 if self.concatenate else pairs
        for side, width in ("student", shapes.student_width), ("teacher", shapes.teacher_width):
            inputs = width * pairs // maps
            projections = torch.empty(maps, inputs, WIDTH)
            bound = (6 / (inputs + WIDTH)) ** 0.5  # Xavier's, of each map
            projections.uniform_(-bound, bound, generator=generator)
            self.register_parameter(f"{side}_maps", nn.Parameter(projections))
        self.student_maps: nn.Parameter
        self.teacher_maps: nn.Parameter

    def _unit_vectors(self, states: Tensor, maps: Tensor) -> Tensor:
        """Unit vectors (B, maps, 128) from states (B, m−1, width) and maps (maps, inputs, 128)."""
        if self.concatenate:
            states = states.flatten(1)[:, None]
        return F.normalize(torch.einsum("bmd,mdu->bmu", states, maps), dim=-1)

    def _targets(self, teacher: Layers, epoch: Tensor) -> Tensor:
        layers = self.epoch_layers.index_select(0, epoch.reshape(1))[0]
        return self._unit_vectors(teacher.states.index_select(1, layers), self.teacher_maps)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the squared distance of the unit vectors."""
        vectors = self._unit_vectors(student.states[:, :-1], self.student_maps)
        distance = (vectors - self._targets(teacher, context.epoch)).square().sum(dim=-1)
        return {"layer": distance.mean()}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """`target`: the learned targets (B, m−1, 128) of the last epoch's layers.

        The concatenation has one target, which stands m−1 times.
        """
        targets = self._targets(teacher, torch.tensor(len(self.epoch_layers) - 1))
        return {"target": targets.expand(-1, self.epoch_layers.shape[1], -1)}
