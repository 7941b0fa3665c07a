"""A student's training as a plain loop in float64: Hugging Face's class, torch's AdamW, no dropout."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from harness.method import DISTILLATION, Context, Hyper, Layers, Method, Shapes, Value, weight
from harness.models.student import build_classifier
from harness.runtime.randomness import generator
from harness.training.recipe import Member, Recipe
from tests.harness.training.test_loop import BLUEPRINT, LAYERS, WIDTH

SETTING: dict[str, Value] = {
    "learning_rate": 1e-3,
    "temperature": 2.0,
    "kd_weight": 0.4,
    "layer_weight": 0.7,
}
Weights = Callable[[int, int], tuple[float, float, float]]
"""The weights of label, logits and layer term in a step (0-based) of a training of some steps."""


class LastState(Method):
    """Matches the last layer's first token. Hyper-parameters: temperature, kd_weight, layer_weight."""

    name, summary, paper = "last-state", "the last layer's first token", "-"
    space: ClassVar[dict[str, Hyper]] = {**DISTILLATION, "layer_weight": weight(0.1, 10.0, "-")}

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        return {"layer": (student.states[:, -1] - teacher.states[:, -1]).square().mean()}


def last_state_member(seed: int = 1, **setting: Value) -> Member:
    method = LastState(Shapes(LAYERS, WIDTH, 2, WIDTH, 2), {}, generator("method", seed))
    return Member(BLUEPRINT.weights(seed), method, {**SETTING, **setting}, seed)


def calm(shared: Recipe) -> Recipe:
    """The recipe without dropout."""
    model = copy.deepcopy(shared.model)
    model.hidden_dropout_prob = model.attention_probs_dropout_prob = 0.0
    return replace(shared, model=model)


def plain_curves(
    shared: Recipe, weights: Weights, label_weights: npt.NDArray[np.float64] | None = None
) -> list[dict[str, float]]:
    """Each epoch's means of the losses of `last_state_member()`.

    `label_weights` (examples,) are the weights of examples in the label loss, by default 1.
    """
    assert shared.teacher is not None
    member, training = last_state_member(), shared.training
    model = build_classifier(shared.model, member.weights).double()
    named = list(model.named_parameters())
    groups = [
        {
            "params": [p for _, p in named if (p.ndim > 1) is decays],
            "weight_decay": training.weight_decay if decays else 0.0,
        }
        for decays in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    schedule = shared.schedule()
    steps, step = schedule.steps_per_epoch * training.epochs, 0
    warmup = max(1, round(training.warmup * steps))
    curves = []
    for epoch in range(training.epochs):
        sums: dict[str, float] = dict.fromkeys(("label", "kd", "layer", "total"), 0.0)
        for batch in schedule.epoch(epoch, member.seed):
            losses = _losses(model, shared, batch.rows, label_weights)
            parts = dict(zip(losses, weights(step, steps), strict=True))
            total = sum(parts[name] * loss for name, loss in losses.items())
            assert isinstance(total, Tensor)
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
            rate = min((step + 1) / warmup, (steps - step) / (steps - warmup), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * rate
            optimizer.step()
            for name, loss in (losses | {"total": total}).items():
                sums[name] += float(loss.detach())
            step += 1
        curves.append({name: value / schedule.steps_per_epoch for name, value in sums.items()})
    return curves


def _losses(
    model: PreTrainedModel,
    shared: Recipe,
    rows: npt.NDArray[np.int64],
    label_weights: npt.NDArray[np.float64] | None,
) -> dict[str, Tensor]:
    """The losses of a batch: label, kd and layer, each example by itself and then the mean."""
    assert shared.teacher is not None
    label, kd, layer = [], [], []
    for row in rows.tolist():
        start, end = shared.inputs.offsets[row], shared.inputs.offsets[row + 1]
        ids = torch.from_numpy(shared.inputs.ids[start:end].astype(np.int64))[None]
        outputs = model(input_ids=ids, output_hidden_states=True)
        logits = outputs.logits[0]
        teacher_logits = shared.teacher.logits[row].double()
        example_weight = 1.0 if label_weights is None else float(label_weights[row])
        label.append(example_weight * -F.log_softmax(logits, -1)[int(shared.labels[row])])
        target = F.softmax(teacher_logits / 2, -1)
        divergence = (target * (target.log() - F.log_softmax(logits / 2, -1))).sum()
        kd.append(4 * divergence)
        difference = outputs.hidden_states[-1][0, 0] - shared.teacher.states[row, -1].double()
        layer.append(difference.square().mean())
    return {
        name: torch.stack(values).mean()
        for name, values in (("label", label), ("kd", kd), ("layer", layer))
    }
