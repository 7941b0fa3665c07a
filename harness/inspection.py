"""Looking inside a trained run: where its attention goes and what its targets are like."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from harness.encoder import Pooling
from harness.inputs import EncodedSplit
from harness.method import Layers
from harness.precision import Arithmetic
from harness.teacher_outputs import TeacherOutputs
from harness.train import Member, predict


@torch.inference_mode()
def inspect_run(
    member: Member,
    split: str,
    inputs: EncodedSplit,
    outputs: TeacherOutputs,
    pooling: Pooling,
    arithmetic: Arithmetic,
) -> tuple[Layers, dict[str, Any]]:
    """A split's predictions, and for methods with `inspect` their attention and targets.

    `attention.map` (m, n) is the mean weight, `entropy` (m,) a share of its maximum, log n.
    """
    looks = member.method is not None and member.method.matches_layers()
    layers = predict(member.model, inputs, arithmetic, pooling if looks else None)
    if not looks:
        return layers, {}
    assert member.method is not None
    rows = np.arange(len(layers.logits))
    teacher = outputs.batch(rows, arithmetic.device)
    student = Layers(layers.logits.to(teacher.states), layers.states.to(teacher.states))
    seen = member.method.inspect(student, teacher)
    if not seen:
        return layers, {}
    attention, target = seen["attention"], seen["target"]
    entropy = -torch.special.xlogy(attention, attention).sum(-1).mean(0)
    most = math.log(attention.shape[-1]) if attention.shape[-1] > 1 else 1.0
    energy = target.square().sum(-1).mean(0)
    facts = {
        "split": split,
        "examples": len(rows),
        "map": attention.mean(0).tolist(),
        "entropy": (entropy / most).tolist(),
        "target_length": target.norm(dim=-1).mean(0).tolist(),
        "target_variance_share": (target.var(0, correction=0).sum(-1) / energy).tolist(),
    }
    return layers, {"attention": facts}
