"""Baselines without intermediate layers."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.method import Context, Hyper, Layers, Method


class Finetune(Method):
    """Training on the labels alone.

    Paper: none. Objective: L = label loss. The student still starts from the teacher's layers.
    Hyper-parameters: the learning rate.
    """

    name = "finetune"
    summary = "labels only, no teacher"
    paper = "-"
    space: ClassVar[dict[str, Hyper]] = {}

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """No terms beside the label loss."""
        return {}


class Kd(Method):
    """Distillation of the logits.

    Paper: Hinton, Vinyals, Dean (2015), arXiv 1503.02531; T²·KL(softmax(z_T/T) ‖ softmax(z_S/T)),
    summed over classes. Objective: L = (1 − η)·label + η·KD. For regression KD is the squared error
    to the teacher's output. Hyper-parameters: temperature, kd_weight (η).
    """

    name = "kd"
    summary = "logit distillation, no intermediate layers"
    paper = "Hinton et al. 2015, arXiv 1503.02531"
    form = "verified"

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """No terms beside label loss and distillation."""
        return {}
