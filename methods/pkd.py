"""Patient knowledge distillation: every student layer but the last follows one teacher layer."""

from __future__ import annotations

import torch

from harness.method.layer_maps import skip_map
from harness.method.matching import MappedLayers


class PkdSkip(MappedLayers):
    """Student layer j matches teacher layer j·n/m, for j = 1..m−1.

    Paper: Sun, Cheng, Gan, Liu (2019), arXiv 1908.09355, equation 7 (verified): LAYER = mean_j
    MSE(s_j/‖s_j‖, t_A(j)/‖t_A(j)‖), A(j) = j·n/m. The last student layer is not matched. Reduction: mean
    over width, layers and examples, as in the authors' code; therefore published weights are large.
    With simplex weights, which are at most 1, the term is the sum over the width, as in equation 7.
    Deviations: if m does not divide n, A(j) is j·n/m rounded half up; and KD is a sum over the C
    classes, where the authors' code takes the mean. So their α weighs KD a C-th as much as η here. Their
    objective is ours, times the factor f = 1 − α + α/C, with η = α/C/f and λ = β/f: α = .2, .5, .7 are
    η = .11, .33, .54 with two classes (search.space.kd_weight=[0.11,0.54]) and .08, .25, .44 with three.
    Teacher and student must be equally wide; the student must have at least two layers and must not be
    deeper than its teacher.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ, published grid 10 to 1000); option
    normalised.
    """

    name = "pkd-skip"
    aliases = ("pkd",)
    summary = "each student layer matches every n/m-th teacher layer"
    paper = "Sun et al. 2019, arXiv 1908.09355"
    form = "verified"

    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """The skip map without its last layer."""
        return skip_map(students, teachers)[:-1]


class PkdLast(MappedLayers):
    """Student layers 1..m−1 match teacher layers n−m+1..n−1, the m−1 layers below the last one.

    Paper: Sun, Cheng, Gan, Liu (2019), arXiv 1908.09355, the variant PKD-Last (verified). Loss,
    reduction and requirements are as in `pkd-skip`.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option normalised.
    """

    name = "pkd-last"
    summary = "student layers match the teacher's layers just below the last one"
    paper = "Sun et al. 2019, arXiv 1908.09355"
    form = "verified"

    def layer_map(self, students: int, teachers: int, generator: torch.Generator) -> list[int]:
        """The m−1 layers below the last one."""
        return list(range(teachers - students + 1, teachers))
