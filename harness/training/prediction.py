"""Predictions: logits and pooled states of a split, by any network."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from harness.data.batches import LengthSchedule
from harness.data.tokens import EncodedSplit
from harness.method import Layers, Pooling
from harness.models.network import Network
from harness.models.reference import ReferenceClassifier
from harness.models.teacher_outputs import GPU_TOKENS
from harness.runtime.device import Arithmetic
from harness.runtime.memory import Portions


@torch.inference_mode()
def predict_all(
    network: Network, inputs: EncodedSplit, device: torch.device, pooling: Pooling | None
) -> list[Layers]:
    """Each member's logits and pooled states of a split, without dropout, on the CPU.

    Returns:
        For each row of the network `logits` (examples, C) and `states` (examples, layers, width), in the
        split's order; without pooling there are no layers.
    """
    logits = states = torch.empty(0)
    tokens = inputs.tokens(device)
    portions = Portions()

    def predict_rows(numbers: npt.NDArray[np.int64], width: int) -> None:
        nonlocal logits, states
        rows = torch.from_numpy(numbers)
        examples = rows.to(device, non_blocking=True).expand(network.members, -1)
        layers = network.forward(tokens.batch(examples, width), None, pooling)
        if not len(logits):
            shape = (network.members, len(inputs.lengths))
            logits = torch.empty(*shape, *layers.logits.shape[2:], device=device)
            states = torch.empty(*shape, *layers.states.shape[2:])
        logits[:, examples[0]] = layers.logits
        if pooling is not None:
            states[:, rows] = layers.states.cpu()

    joined = GPU_TOKENS // network.members if device.type == "cuda" else 0
    for batch in LengthSchedule(inputs.lengths, 64).in_order(joined):
        portions.work(batch.rows, partial(predict_rows, width=batch.width))
    # Without states the host waits for a GPU here alone.
    return [Layers(*outputs) for outputs in zip(logits.cpu(), states, strict=True)]


def predict(
    model: PreTrainedModel, inputs: EncodedSplit, arithmetic: Arithmetic, pooling: Pooling | None
) -> Layers:
    """`predict_all` for one model of Hugging Face's class."""
    network = ReferenceClassifier(model, arithmetic)
    (layers,) = predict_all(network, inputs, arithmetic.device, pooling)
    return layers
