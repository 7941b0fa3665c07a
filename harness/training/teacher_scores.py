"""Scores of a teacher, and the score that it must beat."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedModel

from harness.data.scores import constant_score, evaluate
from harness.data.splits import TaskData
from harness.data.tokens import EncodedSplit
from harness.errors import TeacherError
from harness.runtime.device import Arithmetic
from harness.training.prediction import predict


def scores_of(
    model: PreTrainedModel, data: TaskData, split: str, inputs: EncodedSplit, arithmetic: Arithmetic
) -> dict[str, float]:
    """A teacher's metrics on a split.

    Raises:
        TeacherError: the logits are not finite numbers.
    """
    logits = predict(model, inputs, arithmetic, None).logits.numpy()
    if not np.isfinite(logits).all():
        raise TeacherError(f"{data.task.name}: {_why_not_finite(model, split)}")
    return evaluate(data.task, data.splits[split].labels, logits)


def _why_not_finite(model: PreTrainedModel, split: str) -> str:
    weights = model.state_dict()
    broken = [name for name, value in weights.items() if not bool(value.isfinite().all())]
    sentence = f"the teacher's logits on the split '{split}' are not finite numbers"
    if broken:
        return (
            f"{sentence}, since {len(broken)} of its {len(weights)} weights are not ({broken[0]}): "
            "the checkpoint is broken"
        )
    return f"{sentence}, although its weights are; try training.precision=fp32"


def constant_floor(data: TaskData) -> float:
    """The score of a constant prediction on the selection split."""
    return constant_score(data.task, data.train.labels, data.selection.labels)
