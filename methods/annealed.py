"""Losses on logits that follow a softened teacher first, and the labels later.

Their weights and targets change with the progress of the training.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from harness.method import Context, Hyper, Layers, Method

_LOGITS_WEIGHT = Hyper(
    FloatDistribution(0.1, 10.0, log=True),
    "scalar",
    "published without a weight of its own, which is 1",
    default=1.0,
)


def annealing_factor(progress: Tensor, max_temperature: Tensor) -> Tensor:
    """φ from 1/T_max to 1, in T_max equal steps, of a progress from 0 to 1; all 0-d."""
    return ((torch.floor(progress * max_temperature) + 1) / max_temperature).clamp(max=1.0)


def annealed_errors(student: Layers, teacher: Layers, factor: Tensor) -> Tensor:
    """Each example's squared error (B,) to the teacher's logits times φ (0-d), mean over outputs."""
    return (student.logits - factor * teacher.logits).square().mean(dim=-1)


class AnnealingKd(Method):
    """LOGITS = MSE(z_S, φ·z_T) alone in a first stage, then the label loss alone.

    Paper: Jafari, Rezagholizadeh, Sharma, Ghodsi (2021), Annealing Knowledge Distillation, EACL,
    arXiv 2104.07163 (verified in the authors' code for CIFAR, and their command for GLUE). φ rises from
    1/T_max to 1 over the first stage, in T_max steps of equal length: φ = 1 − (T − 1)/T_max with T from
    T_max down to 1. The first stage takes the share `first_share` of the training: 14 of 18 epochs at
    T_max = 7 in the command for GLUE, and 200 of 400 at T_max = 10 in that for CIFAR. A regression's
    outputs are logits too.
    Ours: φ takes its steps between two steps of the optimiser, and not between epochs, of which theirs
    needs at least T_max; the second stage goes on from the last weights, where theirs takes the best
    checkpoint; and one warm-up and decay of the learning rate go over both stages.
    The loss that does not act is computed all the same, and curves show it.
    Reduction: mean over outputs and examples.
    Hyper-parameters: max_temperature (T_max), first_share; option logits_weight, of the first stage.
    """

    name = "annealing-kd"
    summary = "squared error to the teacher's softened logits first, the labels alone after"
    paper = "Jafari et al. 2021, arXiv 2104.07163"
    form = "verified"
    space: ClassVar[dict[str, Hyper]] = {
        "max_temperature": Hyper(
            IntDistribution(2, 20), "scalar", "around 7 and 10, as in the authors' commands"
        ),
        "first_share": Hyper(
            FloatDistribution(0.5, 0.9), "scalar", "published 14/18 for GLUE, and 1/2 for CIFAR"
        ),
        "logits_weight": _LOGITS_WEIGHT,
    }

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`logits`: the mean squared error to the teacher's annealed logits."""
        done = context.progress / context.scalars["first_share"]
        factor = annealing_factor(done, context.scalars["max_temperature"])
        return {"logits": annealed_errors(student, teacher, factor).mean()}

    def factors(self, context: Context) -> dict[str, Tensor]:
        """1 for the stage's own loss, and 0 for the other's."""
        is_second = (context.progress >= context.scalars["first_share"]).to(context.progress.dtype)
        return {"logits": 1 - is_second, "label": is_second}


class ContinuationKd(Method):
    """L = ψ·label + (1 − ψ)·LOGITS, LOGITS = mean_b max(0, MSE(z_S, φ·z_T) − φ·m).

    Paper: Jafari, Kobyzev, Rezagholizadeh, Poupart, Ghodsi (2022), Continuation KD, EMNLP Findings,
    arXiv 2212.05998 (verified in the paper's equations 3 to 8; we know no code of the authors). φ rises
    from 1/T_max to 1 over the training, in T_max steps of equal length: φ = 1 − (T − 1)/T_max with T
    from T_max down to 1. ψ rises linearly from 0 to `label_height` at the share `label_start` of the
    training, and is 1 from there on: from 1/2 at 20 of 30 epochs for GLUE (the defaults), and from 1 at
    150 of 200 for CIFAR. An example's error below φ·m, the noise of the teacher, counts as 0.
    Ours: each example has its hinge; its error is a mean over the outputs, as in the paper's words
    ("mean square loss"), where the formula has a sum; φ and ψ change between steps of the optimiser, and
    not between epochs; and the last weights are kept, where the authors keep the best checkpoint. The
    paper does not tell m. GLMKD, a public reimplementation, has m = 1, and subtracts no φ·m from errors
    above it, with the same gradients.
    Reduction: mean over outputs and examples.
    Hyper-parameters: max_temperature (T_max), margin (m); options label_start, label_height,
    logits_weight.
    """

    name = "continuation-kd"
    summary = "squared error to the teacher's softened logits above a margin, fading for the labels"
    paper = "Jafari et al. 2022, arXiv 2212.05998"
    form = "verified"
    space: ClassVar[dict[str, Hyper]] = {
        "max_temperature": Hyper(
            IntDistribution(2, 20), "scalar", "published 10 for GLUE, and 20 for CIFAR"
        ),
        "margin": Hyper(
            FloatDistribution(0.1, 3.0, log=True),
            "scalar",
            "not published; 1 in a public reimplementation",
        ),
        "label_start": Hyper(
            FloatDistribution(0.5, 1.0),
            "scalar",
            "share of the steps after which labels act alone: published 2/3, and 3/4 for CIFAR",
            default=2 / 3,
        ),
        "label_height": Hyper(
            FloatDistribution(0.1, 1.0),
            "scalar",
            "the label's weight just before: published 1/2, and 1 for CIFAR",
            default=0.5,
        ),
        "logits_weight": _LOGITS_WEIGHT,
    }

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`logits`: the mean of the examples' errors above the margin."""
        factor = annealing_factor(context.progress, context.scalars["max_temperature"])
        errors = annealed_errors(student, teacher, factor)
        return {"logits": (errors - factor * context.scalars["margin"]).clamp(min=0.0).mean()}

    def factors(self, context: Context) -> dict[str, Tensor]:
        """ψ for the label loss, and 1 − ψ for the logits."""
        start, height = context.scalars["label_start"], context.scalars["label_height"]
        done = context.progress / start
        label = torch.where(done < 1, height * done, torch.ones_like(done))
        return {"logits": 1 - label, "label": label}
