"""Attention-based layer projection: every student layer attends over teacher layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from optuna.distributions import CategoricalDistribution
from torch import Tensor, nn

from harness.method import (
    Hyper,
    Shapes,
    Value,
    learned_map,
    require_depth,
    require_equal_widths,
)
from harness.method.layer_maps import buckets
from harness.method.losses import layer_attention
from harness.method.matching import MIXED, MixedLayers

Reach = Literal["all layers", "buckets", "overlapping buckets"]
_ATTENTION: Mapping[str, Hyper] = {
    **MIXED,
    "scaled": Hyper(
        CategoricalDistribution([True, False]),
        "structural",
        "divide energies by the square root of the width; unscaled attention is nearly one-hot",
        default=True,
    ),
    "detach_attention": Hyper(
        CategoricalDistribution([False, True]),
        "structural",
        "keep the loss from moving the weights",
        default=False,
    ),
}
_PROJECTED: Mapping[str, Hyper] = {
    **_ATTENTION,
    "value": Hyper(
        CategoricalDistribution(["raw", "projected"]),
        "structural",
        "a projected target is learned, and can collapse",
        default="raw",
    ),
}


class _Attending(MixedLayers):
    """Weights ε_j = softmax_i(⟨u_j, φ(t_i)⟩ / √d) over all teacher layers, or those of a bucket."""

    space = _ATTENTION

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.scaled = bool(structure["scaled"])
        self.detached = bool(structure["detach_attention"])
        self.projected = structure.get("value") == "projected"
        self.key = self.make_key(shapes, generator)
        self.register_buffer("allowed", self._allowed(shapes))
        self.allowed: Tensor | None

    @property
    @abstractmethod
    def reach(self) -> Reach:
        """Which teacher layers a student layer attends to."""

    def make_key(self, shapes: Shapes, generator: torch.Generator) -> nn.Module:
        """φ, on the teacher's side: learned, beginning at the identity."""
        return learned_map(shapes.teacher_width, shapes.teacher_width, generator)

    def _allowed(self, shapes: Shapes) -> Tensor | None:
        """Which teacher layers a student layer may attend to (m, n); None: all."""
        if self.reach == "all layers":
            return None
        require_depth(shapes, self.name)
        students, teachers = shapes.student_layers, shapes.teacher_layers
        layers = buckets(students, teachers, overlapping=self.reach == "overlapping buckets")
        allowed = torch.zeros(students, teachers, dtype=torch.bool)
        for row, bucket in zip(allowed, layers, strict=True):
            row[torch.tensor(bucket) - 1] = True
        return allowed

    def values(self, states: Tensor) -> Tensor:
        """The states, or their projections."""
        projected: Tensor = self.key(states) if self.projected else states
        return projected

    def mixture(self, queries: Tensor, states: Tensor) -> Tensor:
        """Attention over the allowed layers."""
        weights = layer_attention(queries, self.key(states), self.scaled, self.allowed)
        return weights.detach() if self.detached else weights


class Alp(_Attending):
    """LAYER = mean_j MSE(u_j, C_j), C_j = Σ_i ε_ji t_i, ε_j = softmax_i(⟨u_j, φ(t_i)⟩ / √d).

    Paper: Passban, Wu, Rezagholizadeh, Liu (2021), arXiv 2012.14022 (second-hand: the fused state is
    a weighted sum of raw teacher states). u_j is s_j, or W·s_j with W learned when the widths differ,
    so that the target stays the teacher's own. φ is a bias-free linear map that starts at the
    identity (ours). Reduction: mean over width, layers and examples.
    `value` = `projected` makes C_j = Σ ε φ(t_i), a learned target that collapses: in a small simulation
    its length fell from 25.8 to 0.6, and 0.07 % of its variance between examples was left. Watch both
    in the report. With `detach_attention` and raw values nothing trains φ.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options scaled, detach_attention,
    value.
    """

    name = "alp"
    summary = "attention over all teacher layers, learned key projection"
    paper = "Passban et al. 2021, arXiv 2012.14022"
    form = "second-hand"
    space = _PROJECTED
    reach = "all layers"


class AlpNp(_Attending):
    """`alp` without a projection: φ is the identity and the attention has no parameters.

    Paper: as `alp`; the reading of NP as "no projection" is ours, public reimplementations of ALP are
    of this form. Needs equal widths. Reduction: mean over width, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options scaled, detach_attention.
    """

    name = "alp-np"
    summary = "attention over all teacher layers, no parameters"
    paper = "Passban et al. 2021, arXiv 2012.14022"
    form = "ours"
    reach = "all layers"

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_equal_widths(shapes, self.name, "alp")

    def make_key(self, shapes: Shapes, generator: torch.Generator) -> nn.Module:
        """The identity."""
        return nn.Identity()


class AlpNo(_Attending):
    """`alp` with the attention of student layer j inside a bucket C(j) of neighbouring teacher layers.

    Paper: Passban et al. (2021), arXiv 2012.14022 (second-hand), the variant with non-overlapping
    buckets: 12 → 4 gives layers 1-3, 4-6, 7-9, 10-12. A depth that does not divide the teacher's cuts
    at j·n/m rounded half up (ours). Everything else, φ too, as `alp`. Needs a student no deeper than
    its teacher. Reduction: mean over width, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options scaled, detach_attention,
    value.
    """

    name = "alp-no"
    summary = "attention inside a bucket of teacher layers, not overlapping"
    paper = "Passban et al. 2021, arXiv 2012.14022"
    form = "second-hand"
    space = _PROJECTED
    reach = "buckets"


class AlpPo(_Attending):
    """`alp-no` with partly overlapping buckets: each also holds the first layer of the next one.

    Paper: Passban et al. (2021), arXiv 2012.14022 (second-hand; which layer neighbours share is ours):
    12 → 4 gives layers 1-4, 4-7, 7-10, 10-12. Needs a student no deeper than its teacher. Reduction:
    mean over width, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options scaled, detach_attention,
    value.
    """

    name = "alp-po"
    summary = "attention inside a bucket of teacher layers, partly overlapping"
    paper = "Passban et al. 2021, arXiv 2012.14022"
    form = "second-hand"
    space = _PROJECTED
    reach = "overlapping buckets"
