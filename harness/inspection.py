"""Looking inside a trained run: where its attention goes and what its targets are like."""

from __future__ import annotations

from typing import Any

import torch

from harness.method import Layers, Method
from harness.teacher_outputs import TeacherOutputs


@torch.inference_mode()
def inspect_run(
    method: Method, split: str, student: Layers, outputs: TeacherOutputs
) -> dict[str, Any]:
    """For methods with `inspect`: their targets and, where they have it, attention over a split.

    `map` (m, n) is the mean weight, `entropy` (m,) a share of its maximum, the log of the number of
    layers that are attended to; `target_length` and `target_variance_share` (m,) are of the states that
    student layers are matched to.
    """
    rows = torch.arange(len(student.states))
    seen = method.inspect(student, outputs.batch(rows, torch.device("cpu")))
    if not seen:
        return {}
    target = seen["target"]
    energy = target.square().sum(-1).mean(0)
    facts = {
        "split": split,
        "examples": len(rows),
        "target_length": target.norm(dim=-1).mean(0).tolist(),
        "target_variance_share": (target.var(0, correction=0).sum(-1) / energy).tolist(),
    }
    if (attention := seen.get("attention")) is not None:
        entropy = -torch.special.xlogy(attention, attention).sum(-1).mean(0)
        attended = (attention > 0).any(0).sum(-1)
        # One layer is all of those that there are.
        share = torch.where(attended > 1, entropy / attended.clamp(min=2).log(), 1.0)
        facts |= {"map": attention.mean(0).tolist(), "entropy": share.tolist()}
    return {"targets": facts}
