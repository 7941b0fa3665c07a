"""The one training loop: it takes a population, a list of members that share data and schedule.

The reference engine here trains the members one after another through Hugging Face's class. Nothing
a member computes depends on the others: its dropout, order and initial weights come from its seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from harness.config import TrainingConfig
from harness.encoder import Pooling, layers_of
from harness.failures import RunFailed, recorded
from harness.inputs import EncodedSplit
from harness.losses import distillation_loss, label_loss, objective
from harness.method import Context, Layers, Method, Value
from harness.precision import Arithmetic
from harness.randomness import DropoutKey
from harness.schedule import LengthSchedule
from harness.teacher_outputs import TeacherOutputs

RESULTS_VERSION = 2
"""Raised when the core's arithmetic changes, so that old and new runs are not mixed."""


@dataclass(frozen=True)
class Member:
    """One run of a population: model and method with their own setting and seed."""

    model: PreTrainedModel
    dropout: DropoutKey
    method: Method | None
    setting: Mapping[str, Value]
    seed: int


@dataclass(frozen=True)
class Recipe:
    """What all members of a population share. `labels` (examples,) lie on the device."""

    inputs: EncodedSplit
    labels: Tensor
    teacher: TeacherOutputs | None
    regression: bool
    pooling: Pooling
    training: TrainingConfig
    weights: str
    arithmetic: Arithmetic

    def schedule(self) -> LengthSchedule:
        """The padded lengths of every step, common to all members."""
        return LengthSchedule(self.inputs.lengths, self.training.batch_size)


@dataclass(frozen=True)
class Outcome:
    """What one member's training gave: the mean of each term per epoch, cost, and a failure if any."""

    curves: list[dict[str, float]]
    seconds: float
    examples_per_second: float
    peak_memory: int
    failure: str | None = None


def train_population(
    members: Sequence[Member], recipe: Recipe, advance: Callable[[int], None]
) -> Iterator[tuple[Member, Outcome]]:
    """Train every member; yields each as it ends. `advance` is called with finished steps."""
    schedule = recipe.schedule()
    for member in members:
        yield member, _train(member, recipe, schedule, advance)


def _train(
    member: Member, recipe: Recipe, schedule: LengthSchedule, advance: Callable[[int], None]
) -> Outcome:
    started = time.perf_counter()
    if recipe.arithmetic.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(recipe.arithmetic.device)
    curves: list[dict[str, float]] = []
    failure = None
    try:
        with recorded():
            for epoch, means in enumerate(_epochs(member, recipe, schedule, advance), 1):
                curves.append({name: mean for name, mean in means.items() if np.isfinite(mean)})
                if len(curves[-1]) < len(means):
                    raise RunFailed(f"the loss is not finite in epoch {epoch}")
    except RunFailed as error:
        failure = str(error)
    member.model.eval()
    seconds = time.perf_counter() - started
    seen = len(recipe.inputs.lengths) * len(curves)
    return Outcome(curves, seconds, seen / seconds, _peak_memory(recipe.arithmetic), failure)


def _epochs(
    member: Member, recipe: Recipe, schedule: LengthSchedule, advance: Callable[[int], None]
) -> Iterator[dict[str, float]]:
    """Train epoch by epoch; yields the mean of each term over an epoch's batches."""
    training = recipe.training
    optimizer = _optimizer(member, training)
    rate = _linear_rate(optimizer, schedule.steps_per_epoch * training.epochs, training.warmup)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    scalars = _scalars(member.setting, recipe.arithmetic.device)
    member.model.train()
    member.dropout.seed, member.dropout.step = member.seed, 0
    for epoch in range(training.epochs):
        sums: dict[str, Tensor] = {}
        context = Context(torch.tensor(epoch, device=recipe.arithmetic.device), scalars)
        batches = schedule.epoch(epoch, member.seed)
        for batch in batches:
            inputs = recipe.inputs.batch(batch, recipe.arithmetic.device)
            terms = _terms(member, recipe, inputs, batch.rows, context)
            loss = objective(terms, scalars, recipe.weights)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, training.clip_norm)
            optimizer.step()
            rate.step()
            optimizer.zero_grad(set_to_none=True)
            member.dropout.step += 1
            for name, value in {**terms, "total": loss}.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
            advance(1)
        yield {name: float(value) / len(batches) for name, value in sums.items()}


def _terms(
    member: Member,
    recipe: Recipe,
    inputs: dict[str, Tensor],
    rows: npt.NDArray[np.int64],
    context: Context,
) -> dict[str, Tensor]:
    method = member.method
    labels = recipe.labels[torch.from_numpy(rows).to(recipe.labels.device)]
    matching = method is not None and method.matches_layers()
    with recipe.arithmetic.autocast():
        student = layers_of(member.model, inputs, recipe.pooling if matching else None)
    terms = {"label": label_loss(student.logits, labels, recipe.regression)}
    if method is None or not method.uses_teacher():
        return terms
    assert recipe.teacher is not None
    teacher = recipe.teacher.batch(rows, recipe.arithmetic.device)
    temperature = context.scalars.get("temperature", torch.ones((), device=labels.device))
    terms["kd"] = distillation_loss(student.logits, teacher.logits, temperature, recipe.regression)
    own: dict[str, Tensor] = method(student, teacher, labels, context)
    scale = method.simplex_scale if recipe.weights == "simplex" else 1.0
    return terms | {name: scale * term for name, term in own.items()}


def _scalars(setting: Mapping[str, Value], device: torch.device) -> dict[str, Tensor]:
    return {
        name: torch.tensor(float(value), device=device)
        for name, value in setting.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _optimizer(member: Member, training: TrainingConfig) -> AdamW:
    """AdamW over student and method parameters; no decay for biases and normalisations."""
    parameters = [*member.model.parameters()]
    if member.method is not None:
        parameters += member.method.parameters()
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=float(member.setting["learning_rate"]), fused=True)


def _linear_rate(optimizer: AdamW, steps: int, warmup: float) -> LambdaLR:
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        return min((step + 1) / rising, (steps - step) / max(1, steps - rising), 1.0)

    return LambdaLR(optimizer, factor)


def _peak_memory(arithmetic: Arithmetic) -> int:
    """Bytes: allocated on the GPU since the member began, or resident in this process at its end."""
    if arithmetic.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(arithmetic.device))
    return int(psutil.Process().memory_info().rss)


@torch.inference_mode()
def predict(
    model: PreTrainedModel, inputs: EncodedSplit, arithmetic: Arithmetic, pooling: Pooling | None
) -> Layers:
    """Logits (examples, outputs) and pooled states of a split, in eval mode, in the split's order."""
    assert not model.training
    logits, states, rows = [], [], []
    for batch in LengthSchedule(inputs.lengths, 64).in_order():
        with arithmetic.autocast():
            layers = layers_of(model, inputs.batch(batch, arithmetic.device), pooling)
        logits.append(layers.logits.cpu())
        states.append(layers.states.cpu())
        rows.append(batch.rows)
    order = torch.from_numpy(np.argsort(np.concatenate(rows)))
    return Layers(torch.cat(logits)[order], torch.cat(states)[order])
