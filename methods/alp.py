"""Attention-based layer projection: every student layer attends over teacher layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

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
from harness.method.matching import MIXTURE_SPACE, MixedLayers, overlap_option

Reach = Literal["all layers", "buckets"]
_SPACE: Mapping[str, Hyper] = {
    **MIXTURE_SPACE,
    "scaled": Hyper(
        CategoricalDistribution([True, False]),
        "structural",
        "divides the energies by the square root of the width; without it attention is nearly one-hot",
        default=True,
    ),
    "detach_attention": Hyper(
        CategoricalDistribution([False, True]),
        "structural",
        "keeps the gradient of the loss away from the attention weights",
        default=False,
    ),
}
_PROJECTION_SPACE: Mapping[str, Hyper] = {
    **_SPACE,
    "value": Hyper(
        CategoricalDistribution(["raw", "projected"]),
        "structural",
        "the states that are mixed; projected states are a learned target, which can collapse",
        default="raw",
    ),
}


class LayerAttention(MixedLayers):
    """Weights ε_j = softmax_i(⟨u_j, φ(t_i)⟩ / √d) over all teacher layers, or over a bucket of them."""

    space = _SPACE

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.scale_energies = bool(structure["scaled"])
        self.detach_attention = bool(structure["detach_attention"])
        self.project_values = structure.get("value") == "projected"
        self.key = self.make_key(shapes, generator)
        overlap = int(structure["overlap"]) if "overlap" in self.space else 0
        self.register_buffer("layer_mask", self._layer_mask(shapes, overlap))
        self.layer_mask: Tensor | None

    @property
    @abstractmethod
    def reach(self) -> Reach:
        """The teacher layers that a student layer attends to."""

    def make_key(self, shapes: Shapes, generator: torch.Generator) -> nn.Module:
        """φ, the map of the teacher's states: learned, and at first the identity."""
        return learned_map(shapes.teacher_width, shapes.teacher_width, generator)

    def _layer_mask(self, shapes: Shapes, overlap: int) -> Tensor | None:
        """True (m, n) where student layer j may attend to teacher layer i; None allows all."""
        if self.reach == "all layers":
            return None
        require_depth(shapes, self.name)
        student_layers, teacher_layers = shapes.student_layers, shapes.teacher_layers
        mask = torch.zeros(student_layers, teacher_layers, dtype=torch.bool)
        for row, bucket in zip(mask, buckets(student_layers, teacher_layers, overlap), strict=True):
            row[torch.tensor(bucket) - 1] = True
        return mask

    def values(self, states: Tensor) -> Tensor:
        """The teacher's states (B, n, width), or their projections φ(t_i)."""
        values: Tensor = self.key(states) if self.project_values else states
        return values

    def mixture(self, queries: Tensor, states: Tensor) -> Tensor:
        """Attention (B, m, n) over the layers of the mask."""
        weights = layer_attention(queries, self.key(states), self.scale_energies, self.layer_mask)
        return weights.detach() if self.detach_attention else weights


class Alp(LayerAttention):
    """LAYER = mean_j MSE(u_j, C_j), C_j = Σ_i ε_ji t_i, ε_j = softmax_i(⟨u_j, φ(t_i)⟩ / √d).

    Paper: Passban, Wu, Rezagholizadeh, Liu (2021), arXiv 2012.14022 (second-hand: the fused state C_j
    is a weighted sum of raw teacher states). u_j is s_j, or W·s_j with a learned W if the widths differ;
    so the target is made of the teacher's own states. φ is a linear map without a bias that starts at
    the identity (ours). Reduction: mean over width, layers and examples.
    `value` = `projected` makes C_j = Σ_i ε_ji φ(t_i). This target is learned and can collapse: in a
    small simulation its length fell from 25.8 to 0.6, and 0.07 % of its variance between examples was
    left. The report shows both numbers. With `detach_attention` and raw values nothing trains φ.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options scaled, detach_attention,
    value.
    """

    name = "alp"
    summary = "attention over all teacher layers, learned key projection"
    paper = "Passban et al. 2021, arXiv 2012.14022"
    form = "second-hand"
    space = _PROJECTION_SPACE
    reach = "all layers"


class AlpNp(LayerAttention):
    """`alp` without a projection: φ is the identity, and the attention has no parameters.

    Paper: as `alp`. We read NP as "no projection"; public reimplementations of ALP have this form.
    Teacher and student must be equally wide. Reduction: mean over width, layers and examples.
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


class AlpNo(LayerAttention):
    """`alp` in which student layer j attends to a bucket C(j) of neighbouring teacher layers only.

    Paper: Passban et al. (2021), arXiv 2012.14022 (second-hand), the variant whose buckets do not
    overlap: 12 → 4 gives layers 1-3, 4-6, 7-9, 10-12. If m does not divide n, the buckets end at j·n/m
    rounded half up (ours). All else, φ included, is as in `alp`. The student must not be deeper than
    its teacher. Reduction: mean over width, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options scaled, detach_attention,
    value.
    """

    name = "alp-no"
    summary = "attention inside a bucket of teacher layers, not overlapping"
    paper = "Passban et al. 2021, arXiv 2012.14022"
    form = "second-hand"
    space = _PROJECTION_SPACE
    reach = "buckets"


class AlpPo(LayerAttention):
    """`alp-no` with partly overlapping buckets: each also holds the first layer of the next bucket.

    Paper: Passban et al. (2021), arXiv 2012.14022 (second-hand; the choice of the shared layer is ours):
    12 → 4 gives layers 1-4, 4-7, 7-10, 10-12. With `overlap` = 2 neighbours share two layers, as in the
    code of `ckd-po`: 1-4, 3-7, 6-10, 9-12. The student must not be deeper than its teacher.
    Reduction: mean over width, layers and examples.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options scaled, detach_attention,
    value, overlap.
    """

    name = "alp-po"
    summary = "attention inside a bucket of teacher layers, partly overlapping"
    paper = "Passban et al. 2021, arXiv 2012.14022"
    form = "second-hand"
    space: ClassVar[Mapping[str, Hyper]] = {
        **_PROJECTION_SPACE,
        "overlap": overlap_option(default=1),
    }
    reach = "buckets"
