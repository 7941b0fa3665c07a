"""Combination by concatenation: every student layer predicts a bucket of teacher layers at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from optuna.distributions import CategoricalDistribution
from torch import Tensor, nn

from harness.method import (
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    require_depth,
)
from harness.method.layer_maps import buckets
from harness.method.losses import mean_squared_error
from harness.method.matching import MIXED

_SPACE: Mapping[str, Hyper] = {
    **MIXED,
    "direction": Hyper(
        CategoricalDistribution(["to-teacher", "to-student"]),
        "structural",
        "which side is projected; a projected teacher is a learned target, and can collapse",
        default="to-teacher",
    ),
}


class _Concatenating(Method):
    """LAYER = mean_j MSE(W_j s_j, concat_{i∈C(j)} t_i); a leaf says what the buckets C(j) are."""

    space = _SPACE

    @property
    @abstractmethod
    def overlapping(self) -> bool:
        """Whether neighbouring buckets share a layer."""

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_depth(shapes, self.name)
        self.to_teacher = structure["direction"] == "to-teacher"
        layers = buckets(shapes.student_layers, shapes.teacher_layers, self.overlapping)
        self.buckets = [slice(bucket[0] - 1, bucket[-1]) for bucket in layers]
        self.maps = nn.ModuleList()
        for bucket in layers:
            sizes = shapes.student_width, len(bucket) * shapes.teacher_width
            linear = nn.Linear(*(sizes if self.to_teacher else sizes[::-1]), bias=False)
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            self.maps.append(linear)

    def _pairs(self, student: Layers, teacher: Layers) -> list[tuple[Tensor, Tensor]]:
        """What is matched with what, layer by layer."""
        states = student.states.unbind(1)
        joined = [teacher.states[:, bucket].flatten(1) for bucket in self.buckets]
        return [
            (linear(own), target) if self.to_teacher else (own, linear(target))
            for linear, own, target in zip(self.maps, states, joined, strict=True)
        ]

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: squared distance, averaged over the width of each layer's own pair."""
        distances = [mean_squared_error(*pair) for pair in self._pairs(student, teacher)]
        return {"layer": torch.stack(distances).mean()}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """The learned targets (B, m, width), where there are any."""
        if self.to_teacher:
            return {}
        return {"target": torch.stack([pair[1] for pair in self._pairs(student, teacher)], dim=1)}


class CkdNo(_Concatenating):
    """LAYER = mean_j MSE(W_j s_j, concat_{i∈C(j)} t_i), C(j) a bucket of neighbouring teacher layers.

    Paper: Wu, Passban, Rezagholizadeh, Liu (2020), "Why Skip If You Can Combine", arXiv 2010.03034
    (verified for machine translation). W_j is learned and bias-free. Buckets do not overlap: 12 → 4
    gives layers 1-3, 4-6, 7-9, 10-12; a depth that does not divide the teacher's cuts at j·n/m rounded
    half up (ours). Reduction: mean over the width of the concatenation, layers and examples.
    `direction` = `to-teacher` is the published one; its target is fixed, and its only degenerate
    optimum is that of any regression: W_j s_j becomes the mean target when s_j says nothing.
    `to-student` matches s_j to V_j·concat: a learned target, whose optimum at V_j = 0 and constant s_j
    needs nothing of the teacher; watch the target's length and variance in the report.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option direction.
    """

    name = "ckd-no"
    summary = "each student layer predicts a bucket of teacher layers, not overlapping"
    paper = "Wu et al. 2020, arXiv 2010.03034"
    form = "verified"
    overlapping = False


class CkdPo(_Concatenating):
    """`ckd-no` with partly overlapping buckets: each also holds the first layer of the next one.

    Paper: Wu et al. (2020), arXiv 2010.03034 (verified for machine translation; which layer neighbours
    share is ours): 12 → 4 gives layers 1-4, 4-7, 7-10, 10-12. Needs a student no deeper than its
    teacher. Reduction: mean over the width of the concatenation, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option direction.
    """

    name = "ckd-po"
    summary = "each student layer predicts a bucket of teacher layers, partly overlapping"
    paper = "Wu et al. 2020, arXiv 2010.03034"
    form = "verified"
    overlapping = True
