"""Patient knowledge distillation: every student layer but the last follows one teacher layer."""

from __future__ import annotations

import torch

from harness.method.layer_maps import skip_map
from harness.method.matching import MappedLayers


class PkdSkip(MappedLayers):
    """Student layer j matches teacher layer j·n/m; the last student layer is left out.

    Paper: Sun, Cheng, Gan, Liu (2019), arXiv 1908.09355, equation 7 (verified): LAYER = mean_j
    MSE(s_j/‖s_j‖, t_A(j)/‖t_A(j)‖), A(j) = j·n/m for j = 1..m−1. Reduction: mean over width, layers and
    examples, as in the authors' code, which is why published weights are large; with simplex weights,
    which end at 1, the sum over the width, as equation 7 has it. Deviation: a depth that does not
    divide the teacher's uses j·n/m rounded half up. Needs equal widths and a student no
    deeper than its teacher; one of a single layer leaves no pair.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ, published grid 10 to 1000); option
    normalised.
    """

    name = "pkd-skip"
    aliases = ("pkd",)
    summary = "each student layer matches every n/m-th teacher layer"
    paper = "Sun et al. 2019, arXiv 1908.09355"
    form = "verified"

    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """j·n/m, without the last."""
        return skip_map(students, teachers)[:-1]


class PkdLast(MappedLayers):
    """Student layers 1..m−1 match teacher layers n−m+1..n−1, the last ones below the top.

    Paper: Sun, Cheng, Gan, Liu (2019), arXiv 1908.09355, the variant PKD-Last (verified). Loss,
    reduction and deviations as `pkd-skip`. Needs equal widths and a student no
    deeper than its teacher; one of a single layer leaves no pair.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option normalised.
    """

    name = "pkd-last"
    summary = "student layers match the teacher's last ones below the top"
    paper = "Sun et al. 2019, arXiv 1908.09355"
    form = "verified"

    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """The last m−1 below the top."""
        return list(range(teachers - students + 1, teachers))
