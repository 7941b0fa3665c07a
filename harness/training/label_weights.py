"""Weights of examples in the label loss: unlabelled texts have none, and the labelled ones make up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.splits import TaskData
from harness.method.losses import label_loss


def label_weights(labelled: int, unlabelled: int) -> Tensor:
    """The weights (examples,) of labelled examples and of the unlabelled ones after them.

    The mean of the weights is 1. So the label losses of an epoch's batches have the mean of those of
    the labelled examples alone, and each of these has the same weight, whatever its batch.
    """
    weights = torch.zeros(labelled + unlabelled)
    weights[:labelled] = (labelled + unlabelled) / labelled
    return weights


def weighted_label_loss(
    logits: Tensor, labels: Tensor, regression: bool, weights: Tensor | tuple[()]
) -> Tensor:
    """`label_loss`, with weights of the examples (B,) in the mean, if there are any."""
    if isinstance(weights, tuple):
        return label_loss(logits, labels, regression)
    if regression:
        losses = (logits[:, 0] - labels).square()
    else:
        losses = -F.log_softmax(logits, dim=-1).gather(1, labels[:, None])[:, 0]
    return (weights * losses).mean()


def student_labels(data: TaskData) -> tuple[Tensor, Tensor | None]:
    """The labels of a task's training examples, and their weights where there are unlabelled texts.

    Returns:
        Labels (examples,), which are 0 for the unlabelled texts at the end, and weights (examples,).
    """
    labels = torch.from_numpy(data.train.labels)
    if data.transfer is None:
        return labels, None
    return (
        torch.cat([labels, labels.new_zeros(len(data.transfer))]),
        label_weights(len(data.train), len(data.transfer)),
    )
