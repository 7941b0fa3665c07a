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
from harness.method.matching import MIXTURE_SPACE

_SPACE: Mapping[str, Hyper] = {
    **MIXTURE_SPACE,
    "direction": Hyper(
        CategoricalDistribution(["to-teacher", "to-student"]),
        "structural",
        "the side that is projected; a projected teacher is a learned target, which can collapse",
        default="to-teacher",
    ),
}


class BucketRegression(Method):
    """LAYER = mean_j MSE(W_j s_j, concat_{i∈C(j)} t_i); a subclass chooses the buckets C(j)."""

    space = _SPACE

    @property
    @abstractmethod
    def overlap(self) -> bool:
        """Whether neighbouring buckets share a layer."""

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_depth(shapes, self.name)
        self.to_teacher = structure["direction"] == "to-teacher"
        layers = buckets(shapes.student_layers, shapes.teacher_layers, self.overlap)
        self.buckets = [slice(bucket[0] - 1, bucket[-1]) for bucket in layers]
        self.maps = nn.ModuleList()
        for bucket in layers:
            sizes = shapes.student_width, len(bucket) * shapes.teacher_width
            linear = nn.Linear(*(sizes if self.to_teacher else sizes[::-1]), bias=False)
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            self.maps.append(linear)

    def _pairs(self, student: Layers, teacher: Layers) -> list[tuple[Tensor, Tensor]]:
        """For each student layer, its two sides to match, each (B, width)."""
        states = student.states.unbind(1)
        concatenations = [teacher.states[:, bucket].flatten(1) for bucket in self.buckets]
        return [
            (linear(state), target) if self.to_teacher else (state, linear(target))
            for linear, state, target in zip(self.maps, states, concatenations, strict=True)
        ]

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the squared distance of each pair, a mean over its width, and then over the pairs."""
        distances = [mean_squared_error(*pair) for pair in self._pairs(student, teacher)]
        return {"layer": torch.stack(distances).mean()}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """`target`: the learned targets (B, m, width); empty if the targets are not learned."""
        if self.to_teacher:
            return {}
        return {"target": torch.stack([pair[1] for pair in self._pairs(student, teacher)], dim=1)}


class CkdNo(BucketRegression):
    """LAYER = mean_j MSE(W_j s_j, concat_{i∈C(j)} t_i), C(j) a bucket of neighbouring teacher layers.

    Paper: Wu, Passban, Rezagholizadeh, Liu (2020), "Why Skip If You Can Combine", arXiv 2010.03034
    (verified for machine translation). W_j is learned and has no bias. Buckets do not overlap: 12 → 4
    gives layers 1-3, 4-6, 7-9, 10-12. If m does not divide n, the buckets end at j·n/m rounded half up
    (ours). The student must not be deeper than its teacher. Reduction: mean over the width of the
    concatenation, layers and examples.
    `direction` = `to-teacher` is published. Its target is fixed, and it degenerates only as any
    regression does: W_j s_j becomes the mean target if s_j says nothing about the target.
    `direction` = `to-student` matches s_j to V_j·concat, a learned target. Its optimum at V_j = 0 and
    constant s_j uses nothing of the teacher: watch the target's length and variance in the report.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option direction.
    """

    name = "ckd-no"
    summary = "each student layer predicts a bucket of teacher layers, not overlapping"
    paper = "Wu et al. 2020, arXiv 2010.03034"
    form = "verified"
    overlap = False


class CkdPo(BucketRegression):
    """`ckd-no` with partly overlapping buckets: each also holds the first layer of the next bucket.

    Paper: Wu et al. (2020), arXiv 2010.03034 (verified for machine translation; the choice of the shared
    layer is ours): 12 → 4 gives layers 1-4, 4-7, 7-10, 10-12. The student must not be deeper than its
    teacher. Reduction: mean over the width of the concatenation, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option direction.
    """

    name = "ckd-po"
    summary = "each student layer predicts a bucket of teacher layers, partly overlapping"
    paper = "Wu et al. 2020, arXiv 2010.03034"
    form = "verified"
    overlap = True
