"""Baselines without intermediate layers."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.method import Context, Hyper, Layers, Method


class Finetune(Method):
    """Training on the labels alone.

    Paper: none. Objective: L = label loss. The student starts from the teacher's layers, as in every
    other method.
    Hyper-parameters: the learning rate.
    """

    name = "finetune"
    summary = "labels only, no teacher"
    paper = "-"
    space: ClassVar[dict[str, Hyper]] = {}

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """No terms: the core adds the label loss."""
        return {}


class Kd(Method):
    """Distillation of the logits.

    Paper: Hinton, Vinyals, Dean (2015), arXiv 1503.02531. KD = T²·KL(softmax(z_T/T) ‖ softmax(z_S/T)),
    summed over classes. Objective: L = (1 − η)·label + η·KD. In regression KD is the squared error
    between the outputs of student and teacher. Hyper-parameters: temperature, kd_weight (η).
    """

    name = "kd"
    summary = "logit distillation, no intermediate layers"
    paper = "Hinton et al. 2015, arXiv 1503.02531"
    form = "verified"

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """No terms: the core adds the label loss and the distillation of the logits."""
        return {}
