"""Patient knowledge distillation: fixed one-to-one maps between layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from harness.errors import MethodError
from harness.losses import normalised_squared_error
from harness.method import (
    DISTILLATION,
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    require_equal_widths,
    weight,
)


def skip_map(student_layers: int, teacher_layers: int) -> list[int]:
    """Teacher layer (1-based) of student layers 1..m−1: j·n/m, rounded half up."""
    return [
        (2 * layer * teacher_layers + student_layers) // (2 * student_layers)
        for layer in range(1, student_layers)
    ]


class PkdSkip(Method):
    """Student layer j matches teacher layer j·n/m; the last student layer is left out.

    Paper: Sun, Cheng, Gan, Liu (2019), arXiv 1908.09355, equation 7 (verified). States are scaled
    to unit length. Reduction: mean over width, layers and examples, as in the authors' code, which
    is why published weights are large. Deviations: normalisation is always on (the authors searched
    it); a depth that does not divide the teacher's uses j·n/m rounded half up. A student of one
    layer leaves no pair and is refused. With simplex weights, which end at 1, the term is summed
    over the width, as equation 7 is.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ, published grid 10 to 1000).
    """

    name = "pkd-skip"
    aliases = ("pkd",)
    summary = "each student layer matches every n/m-th teacher layer"
    paper = "Sun et al. 2019, arXiv 1908.09355"
    space: ClassVar[dict[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(10.0, 1000.0, "published grid; mean over width makes it large"),
    }

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_equal_widths(shapes, self.name, "alp")
        if shapes.student_layers < 2:
            raise MethodError("pkd-skip leaves out the last student layer: it needs at least 2")
        if shapes.student_layers > shapes.teacher_layers:
            raise MethodError("pkd-skip needs a student no deeper than its teacher")
        matched = skip_map(shapes.student_layers, shapes.teacher_layers)
        self.register_buffer("matched", torch.tensor(matched) - 1)
        self.matched: Tensor
        self.simplex_scale = float(shapes.student_width)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: squared distance of unit-length states of the matched pairs."""
        targets = teacher.states.index_select(1, self.matched)
        return {"layer": normalised_squared_error(student.states[:, :-1], targets)}
