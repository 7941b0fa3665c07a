"""Controls of PKD's layer map: the same loss with maps that should be worse if the map matters."""

from __future__ import annotations

import torch

from harness.method.layer_maps import skip_map
from harness.method.matching import MappedLayers


class Reverse(MappedLayers):
    """PKD's map upside down: student layer j matches teacher layer (m−j)·n/m, for j = 1..m−1.

    Paper: none; a control (ours) for PKD. The reversed map of arXiv 2502.04499, which that paper finds
    nearly as good as the forward one, is `reverse-matching`. Loss, reduction and requirements are as in
    `pkd-skip`. With a student of two layers the two maps are the same.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option normalised.
    """

    name = "reverse"
    summary = "PKD's layer map reversed (control)"
    paper = "control"
    form = "ours"

    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """The skip map without its last layer, in reverse order."""
        return skip_map(students, teachers)[-2::-1]


class RandomMap(MappedLayers):
    """Student layers 1..m−1 match m−1 of the teacher's layers 1..n−1, in increasing order.

    Paper: none; a control (ours) for PKD. The run's seed draws the map once; all maps are equally
    likely, that of `pkd-skip` among them (at 6 → 3 one draw in ten). The random map of arXiv 2502.04499
    is `random-matching`. Loss, reduction and requirements are as in `pkd-skip`.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option normalised.
    """

    name = "random-map"
    summary = "increasing layer map drawn from the seed (control)"
    paper = "control"
    form = "ours"

    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """A draw without replacement, sorted."""
        layers = torch.randperm(teachers - 1, generator=generator)[: students - 1] + 1
        return sorted(layers.tolist())


class AllToLast(MappedLayers):
    """Every student layer, the last layer included, matches the teacher's last layer.

    Paper: none; a control (ours) for PKD. The all-to-one map of arXiv 2502.04499 takes the teacher's
    middle layer: it is `all-to-one-matching`. Loss and reduction are as in `pkd-skip`. Teacher and
    student must be equally wide, and the student must not be deeper than its teacher.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option normalised.
    """

    name = "all-to-last"
    summary = "every student layer matches the teacher's last one (control)"
    paper = "control"
    form = "ours"

    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """The teacher's last layer, m times."""
        return [teachers] * students
