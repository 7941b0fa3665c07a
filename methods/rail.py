"""Random intermediate layers: other teacher layers in every epoch."""

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
"""Of the space in which states are compared, as published."""


class Rail(Method):
    """LAYER = mean_j ‖ norm(W_j s_j) − norm(V_j t_A(j)) ‖², j = 1..m−1, A drawn anew in every epoch.

    Paper: Haidar, Anchuri, Rezagholizadeh, Ghaddar, Langlais, Poupart (2022), RAIL-KD, arXiv 2109.10164
    (second-hand). A(1) < … < A(m−1) are drawn from the teacher's layers 1..n−1 without replacement.
    States are mean-pooled whatever the study says. W_j and V_j are learned, bias-free maps to 128
    numbers (which maps layers share is ours: none). `compared` = `concatenated` joins the m−1 states of
    a side first, and compares one vector. Reduction: sum over the 128 numbers, mean over layers and
    examples. Both sides are learned: their length is fixed, but their direction can become constant;
    watch the target's variance in the report (of the last epoch's layers). Needs a student of at least
    two layers and no deeper than its teacher.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option compared.
    """

    name = "rail"
    summary = "teacher layers drawn anew in every epoch, compared after learned maps"
    paper = "Haidar et al. 2022, arXiv 2109.10164"
    form = "second-hand"
    pooling = "mean"
    space: ClassVar[Mapping[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(0.03, 30.0, "unit vectors, summed over the width: at most 4"),
        "compared": Hyper(
            CategoricalDistribution(["layer-wise", "concatenated"]),
            "structural",
            "compare layer by layer, or all layers joined",
            default="layer-wise",
        ),
    }

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_depth(shapes, self.name)
        require_pair(shapes, self.name)
        matched = shapes.student_layers - 1
        self.joined = structure["compared"] == "concatenated"
        among = torch.rand(shapes.epochs, shapes.teacher_layers - 1, generator=generator)
        drawn = among.argsort(dim=1)[:, :matched].sort(dim=1).values
        self.register_buffer("drawn", drawn)
        self.drawn: Tensor
        maps = 1 if self.joined else matched
        for side, width in ("student", shapes.student_width), ("teacher", shapes.teacher_width):
            given = width * matched // maps
            start = torch.empty(maps, given, WIDTH)
            bound = (6 / (given + WIDTH)) ** 0.5  # Xavier's, of each map
            start.uniform_(-bound, bound, generator=generator)
            self.register_parameter(f"{side}_maps", nn.Parameter(start))
        self.student_maps: nn.Parameter
        self.teacher_maps: nn.Parameter

    def _compared(self, states: Tensor, maps: Tensor) -> Tensor:
        """Unit vectors (B, maps, 128) of states (B, m−1, width)."""
        if self.joined:
            states = states.flatten(1)[:, None]
        return F.normalize(torch.einsum("bmd,mdu->bmu", states, maps), dim=-1)

    def _targets(self, teacher: Layers, epoch: Tensor) -> Tensor:
        layers = self.drawn.index_select(0, epoch.reshape(1))[0]
        return self._compared(teacher.states.index_select(1, layers), self.teacher_maps)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: squared distance of unit vectors."""
        own = self._compared(student.states[:, :-1], self.student_maps)
        distance = (own - self._targets(teacher, context.epoch)).square().sum(dim=-1)
        return {"layer": distance.mean()}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """The learned targets (B, m−1, 128) of the last epoch's layers; joined ones are all the same."""
        targets = self._targets(teacher, torch.tensor(len(self.drawn) - 1))
        return {"target": targets.expand(-1, self.drawn.shape[1], -1)}
