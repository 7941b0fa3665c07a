"""Other losses between the logits of both sides, in place of logit distillation.

They compare classes, so a regression has none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from optuna.distributions import FloatDistribution
from torch import Tensor

from harness.errors import MethodError
from harness.method import (
    DISTILLATION,
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    weight,
)
from harness.method.losses import divergence


class LogitLoss(Method):
    """A loss between the logits of classes. It refuses a regression."""

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        if shapes.outputs == 1:
            raise MethodError(
                f"{self.name} compares the probabilities of classes, and a regression has none; use kd"
            )


def correlation(one: Tensor, two: Tensor) -> Tensor:
    """Pearson's correlations (...) over the last dimension; with a constant the correlation is 0."""
    one, two = (side - side.mean(dim=-1, keepdim=True) for side in (one, two))
    squares = one.square().sum(dim=-1) * two.square().sum(dim=-1)
    vary = squares > 0
    roots = torch.where(vary, squares, 1.0).sqrt()
    return torch.where(vary, (one * two).sum(dim=-1) / roots, 0.0)


class Dist(LogitLoss):
    """LOGITS = T²·(1 − mean_b ρ(p_b, q_b) + r·(1 − mean_c ρ(p_c, q_c))), ρ Pearson's correlation.

    Paper: Huang et al. (2022), Knowledge Distillation from A Stronger Teacher (DIST), NeurIPS, arXiv
    2205.10536 (verified). p and q are the probabilities of student and teacher at temperature T: of one
    example over the classes (p_b), and of one class over the batch's examples (p_c). The loss takes the
    place of logit distillation, beside the label loss with weight 1: λ = r = T = 1 in the authors' code
    (r is `intra_ratio`). With two classes an example's correlation is 1 or −1 and has no gradient: only
    the second part trains then. A correlation with a constant counts as 0. A regression is refused.
    Reduction: mean over examples, and over classes.
    Hyper-parameters: logits_weight (λ); options temperature (T), intra_ratio (r).
    """

    name = "dist"
    summary = "correlations of probabilities, over classes and over the batch's examples"
    paper = "Huang et al. 2022, arXiv 2205.10536"
    form = "verified"
    space: ClassVar[Mapping[str, Hyper]] = {
        "logits_weight": weight(0.1, 10.0, "around 1, the weight in the authors' code"),
        "temperature": Hyper(
            FloatDistribution(1.0, 10.0), "scalar", "1 in the authors' code", default=1.0
        ),
        "intra_ratio": Hyper(
            FloatDistribution(0.1, 10.0, log=True),
            "scalar",
            "the weight of relations within a class over that of relations between classes",
            default=1.0,
        ),
    }

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`logits`: 1 − the mean correlation over classes, and r times that over examples."""
        temperature = context.scalars["temperature"]
        p, q = (F.softmax(side.logits / temperature, dim=-1) for side in (student, teacher))
        between = 1 - correlation(p, q).mean()
        within = 1 - correlation(p.T, q.T).mean()
        total = between + context.scalars["intra_ratio"] * within
        return {"logits": temperature.square() * total}


class Dkd(LogitLoss):
    """LOGITS = T²·(KL(b_T ‖ b_S) + r·KL(p̂_T ‖ p̂_S)), decoupled logit distillation.

    Paper: Zhao et al. (2022), Decoupled Knowledge Distillation, CVPR, arXiv 2203.08679 (verified). b is
    the probability of the label's class and of all others together, at temperature T; p̂ are the
    probabilities of the other classes among themselves. KD is the same with r = 1 − b_T(label), which
    depends on the example; here r = `other_ratio` is one number, and the authors' defaults are
    α = λ = 1 and β = λ·r = 8 at T = 4 (CIFAR-100; β = .5 at T = 1 for ImageNet). The loss takes the
    place of logit distillation, beside the label loss with weight 1. With two classes the second part is
    0, and the rest is KD: DKD differs with three classes or more only. The authors' warm-up over the
    first epochs is left out. A regression is refused.
    Reduction: sum over classes, mean over examples.
    Hyper-parameters: temperature (T), logits_weight (λ = α); option other_ratio (r = β/α).
    """

    name = "dkd"
    summary = "logit distillation with weights of their own for the label and for the other classes"
    paper = "Zhao et al. 2022, arXiv 2203.08679"
    form = "verified"
    space: ClassVar[Mapping[str, Hyper]] = {
        "temperature": DISTILLATION["temperature"],
        "logits_weight": weight(0.1, 10.0, "around 1, the published weight of the label's part"),
        "other_ratio": Hyper(
            FloatDistribution(0.1, 20.0, log=True),
            "scalar",
            "the other classes' weight over the label's: published 2 to 8, and .5 for ImageNet",
            default=8.0,
        ),
    }

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`logits`: the divergence of the label's probability, and r times that of the others'."""
        temperature = context.scalars["temperature"]
        classes = torch.arange(student.logits.shape[-1], device=labels.device)
        is_label = classes == labels[:, None]
        parts = []
        for side in (teacher, student):
            logits = side.logits / temperature
            log = F.log_softmax(logits, dim=-1)
            label_log = torch.where(is_label, log, 0.0).sum(dim=-1)
            others = log.masked_fill(is_label, -1e9)
            binary = torch.stack([label_log, torch.logsumexp(others, dim=-1)], dim=-1)
            parts.append((binary, F.log_softmax(logits.masked_fill(is_label, -1e9), dim=-1)))
        label_part, other_part = (divergence(*logs).mean() for logs in zip(*parts, strict=True))
        total = label_part + context.scalars["other_ratio"] * other_part
        return {"logits": temperature.square() * total}
