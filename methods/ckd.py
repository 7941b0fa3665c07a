"""Combination by concatenation: every student layer predicts a bucket of teacher layers at once."""

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
    weight,
)
from harness.method.layer_maps import buckets
from harness.method.losses import mean_squared_error
from harness.method.matching import overlap_option

_SPACE: Mapping[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(0.1, 100.0, "the squared distance of two unit vectors is at most 4"),
    "normalised": Hyper(
        CategoricalDistribution([True, False]),
        "structural",
        "scales both sides to unit length, as the authors' code does",
        default=True,
    ),
    "direction": Hyper(
        CategoricalDistribution(["to-teacher", "to-student"]),
        "structural",
        "the side that is projected; a projected teacher is a learned target, which can collapse",
        default="to-teacher",
    ),
}


class CkdNo(Method):
    """LAYER = mean_j ‖ norm(W_j s_j + b_j) − norm(concat_{i∈C(j)} t_i) ‖², C(j) a bucket of layers.

    Paper: Wu, Passban, Rezagholizadeh, Liu (2020), "Why Skip If You Can Combine", arXiv 2010.03034. The
    code of the authors (for machine translation, verified) scales both sides to unit length, although
    the paper's formula does not: `normalised` = False is the mean squared error. W_j and b_j are
    learned; b_j starts at 0 (ours). Buckets hold neighbouring layers and do not overlap: 12 → 4 gives
    layers 1-3, 4-6, 7-9, 10-12. If m does not divide n, the buckets end at j·n/m rounded half up (ours).
    The student must not be deeper than its teacher. Reduction: sum over the width of the concatenation
    (a mean if not `normalised`), mean over layers and examples. The authors sum over layers, tokens and
    examples and add attention weights, which are left out here.
    `direction` = `to-teacher` is published. Its target is fixed, and it degenerates only as any
    regression does: W_j s_j becomes the mean target if s_j says nothing about the target.
    `direction` = `to-student` matches s_j to V_j·concat + c_j, a learned target. At V_j = 0 the target
    is the constant c_j and says nothing of the teacher: watch its variance in the report.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options normalised, direction.
    """

    name = "ckd-no"
    summary = "each student layer predicts a bucket of teacher layers, not overlapping"
    paper = "Wu et al. 2020, arXiv 2010.03034"
    form = "verified"
    space: ClassVar[Mapping[str, Hyper]] = _SPACE

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_depth(shapes, self.name)
        self.to_teacher = structure["direction"] == "to-teacher"
        self.unit_length = bool(structure["normalised"])
        overlap = int(structure["overlap"]) if "overlap" in self.space else 0
        layers = buckets(shapes.student_layers, shapes.teacher_layers, overlap)
        self.buckets = [slice(bucket[0] - 1, bucket[-1]) for bucket in layers]
        self.maps = nn.ModuleList()
        for bucket in layers:
            sizes = shapes.student_width, len(bucket) * shapes.teacher_width
            linear = nn.Linear(*(sizes if self.to_teacher else sizes[::-1]))
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
            self.maps.append(linear)

    def _pairs(self, student: Layers, teacher: Layers) -> list[tuple[Tensor, Tensor]]:
        """For each student layer, its two sides to match, each (B, width)."""
        states = student.states.unbind(1)
        concatenations = [teacher.states[:, bucket].flatten(1) for bucket in self.buckets]
        return [
            (linear(state), target) if self.to_teacher else (state, linear(target))
            for linear, state, target in zip(self.maps, states, concatenations, strict=True)
        ]

    def _distance(self, one: Tensor, two: Tensor) -> Tensor:
        """The squared distance of two sides (B, width), a mean over examples."""
        if not self.unit_length:
            return mean_squared_error(one, two)
        return (F.normalize(one, dim=-1) - F.normalize(two, dim=-1)).square().sum(dim=-1).mean()

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the squared distance of each pair, and then the mean over the pairs."""
        distances = [self._distance(*pair) for pair in self._pairs(student, teacher)]
        return {"layer": torch.stack(distances).mean()}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """`target`: the learned targets (B, m, width); empty if the targets are not learned."""
        if self.to_teacher:
            return {}
        return {"target": torch.stack([pair[1] for pair in self._pairs(student, teacher)], dim=1)}


class CkdPo(CkdNo):
    """`ckd-no` with partly overlapping buckets: neighbours share two layers, or one.

    Paper: Wu et al. (2020), arXiv 2010.03034. The authors' code (verified) has one case, 6 → 2 with
    layers 1-4 and 3-6: each bucket takes one layer from each neighbour. `overlap` = 2 is this rule:
    12 → 4 gives layers 1-4, 3-7, 6-10, 9-12 (ours). With `overlap` = 1 each bucket takes the first layer
    of the next one only: 1-4, 4-7, 7-10, 10-12. All else is as in `ckd-no`. The student must not be
    deeper than its teacher. Reduction: as in `ckd-no`.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options normalised, direction,
    overlap.
    """

    name = "ckd-po"
    summary = "each student layer predicts a bucket of teacher layers, partly overlapping"
    paper = "Wu et al. 2020, arXiv 2010.03034"
    form = "verified"
    space: ClassVar[Mapping[str, Hyper]] = {**_SPACE, "overlap": overlap_option(default=2)}
