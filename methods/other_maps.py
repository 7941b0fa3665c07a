"""Controls of PKD's layer map: the same loss under maps that should not work as well, if maps matter."""

from __future__ import annotations

import torch

from harness.method.layer_maps import skip_map
from harness.method.matching import MappedLayers


class Reverse(MappedLayers):
    """PKD's map upside down: student layer j matches teacher layer (m−j)·n/m.

    Paper: a control of "Revisiting Intermediate-Layer Matching in Knowledge Distillation" (2025), arXiv
    2502.04499 (second-hand), which finds it nearly as good. Loss, reduction, the left-out last layer
    and needs as `pkd-skip`, whose map it has for a student of two layers.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option normalised.
    """

    name = "reverse"
    summary = "PKD's layer map reversed (control)"
    paper = "control, after arXiv 2502.04499"
    form = "second-hand"

    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """The skip map from its end."""
        return skip_map(students, teachers)[-2::-1]


class RandomMap(MappedLayers):
    """An increasing map drawn once from the run's seed: m−1 of the teacher's layers 1..n−1, in order.

    Paper: a control of arXiv 2502.04499 (second-hand; how maps are drawn is ours: all are equally
    likely). Loss, reduction, the left-out last layer and needs as `pkd-skip`.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option normalised.
    """

    name = "random-map"
    summary = "increasing layer map drawn from the seed (control)"
    paper = "control, after arXiv 2502.04499"
    form = "second-hand"

    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """Drawn without replacement, sorted."""
        drawn = torch.randperm(teachers - 1, generator=generator)[: students - 1] + 1
        return sorted(drawn.tolist())


class AllToLast(MappedLayers):
    """Every student layer, the last one too, matches the teacher's last layer.

    Paper: a control of arXiv 2502.04499 (second-hand; that the last student layer is matched, too, is
    ours). Loss and reduction as `pkd-skip`. Needs equal
    widths and a student no deeper than its teacher.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option normalised.
    """

    name = "all-to-last"
    summary = "every student layer matches the teacher's last one (control)"
    paper = "control, after arXiv 2502.04499"
    form = "second-hand"

    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """The teacher's last layer, m times."""
        return [teachers] * students
