"""Matching of outputs: small classifiers on the intermediate layers of both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
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
    require_pair,
    weight,
)
from harness.method.losses import divergence, label_loss, layer_energies, mix_layers


class Universal(Method):
    """LAYER = mean_j T²·KL(Σ_i ε_ji softmax(p_i/T) ‖ softmax(q_j/T)) + mean_i label(p_i).

    Paper: Wu, Rezagholizadeh, Ghaddar, Haidar, Ghodsi (2021), Universal-KD, EMNLP (second-hand; public
    reimplementations differ from the paper and from each other, and this form is ours). p_i and q_j are
    the C outputs of linear classifiers on teacher layers i = 1..n−1 and student layers j = 1..m−1.
    ε_j = softmax_i(⟨q_j, p_i⟩ / √C) is the attention of student layer j over the teacher's classifiers.
    Only the second part trains the teacher's classifiers, on the labels: without a gradient from the
    first part they cannot make the target easy. In regression squared errors replace KL and label loss.
    Reduction: sum over classes, mean over layers and examples. The student must have at least two layers
    and must not be deeper than its teacher.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "universal"
    summary = "attention over the teacher's layers in the space of outputs"
    paper = "Wu et al. 2021, Universal-KD, EMNLP"
    form = "ours"
    space: ClassVar[Mapping[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(0.03, 30.0, "a divergence of outputs, as in logit distillation"),
    }

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_depth(shapes, self.name)
        require_pair(shapes, self.name)
        self.regression = shapes.outputs == 1
        sides = {
            "student": (shapes.student_layers - 1, shapes.student_width),
            "teacher": (shapes.teacher_layers - 1, shapes.teacher_width),
        }
        for side, (layers, width) in sides.items():
            weights = 0.02 * torch.randn(layers, width, shapes.outputs, generator=generator)
            self.register_parameter(f"{side}_heads", nn.Parameter(weights))
            self.register_parameter(
                f"{side}_biases", nn.Parameter(torch.zeros(layers, shapes.outputs))
            )
        self.student_heads: nn.Parameter
        self.student_biases: nn.Parameter
        self.teacher_heads: nn.Parameter
        self.teacher_biases: nn.Parameter

    def _outputs(self, student: Layers, teacher: Layers) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, m−1, C), p (B, n−1, C), and the log of the attention of q over p (B, m−1, n−1)."""
        q = torch.einsum("bmd,mdc->bmc", student.states[:, :-1], self.student_heads)
        p = torch.einsum("bnd,ndc->bnc", teacher.states[:, :-1], self.teacher_heads)
        q, p = q + self.student_biases, p + self.teacher_biases
        return q, p, F.log_softmax(layer_energies(q, p.detach(), scale_by_width=True), dim=-1)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the distance of q to the mixtures of p, plus the label loss of p."""
        q, p, log_attention = self._outputs(student, teacher)
        label_losses = [label_loss(outputs, labels, self.regression) for outputs in p.unbind(1)]
        label_term = torch.stack(label_losses).mean()
        if self.regression:
            distance = (q - mix_layers(log_attention.exp(), p.detach())).square().mean()
            return {"layer": distance + label_term}
        temperature = context.scalars["temperature"]
        logs = F.log_softmax(p.detach() / temperature, dim=-1)
        # The mixture is summed in logs: its smallest shares could underflow.
        target = torch.logsumexp(log_attention[..., None] + logs[:, None], dim=2)
        distance = divergence(target, F.log_softmax(q / temperature, dim=-1)).mean()
        return {"layer": temperature.square() * distance + label_term}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """`attention` (B, m−1, n−1) and the mixed outputs `target` (B, m−1, C), at temperature 1."""
        _, p, log_attention = self._outputs(student, teacher)
        outputs, attention = p if self.regression else F.softmax(p, dim=-1), log_attention.exp()
        return {"attention": attention, "target": mix_layers(attention, outputs)}
