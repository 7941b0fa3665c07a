"""A few training steps of one student here, and in float64 by Hugging Face's class on the CPU.

There is no dropout. Both sides read the same cached outputs of the teacher, so that their differences
are those of the student's arithmetic.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.loops import harness_member, plain_adamw, plain_objective, terms_of
from benchmarks.workload import Workload
from harness.models.flat_weights import WeightBlock
from harness.models.stacked import StackedClassifier
from harness.models.student import build_classifier
from harness.models.teacher_outputs import TeacherOutputs
from harness.training.population import Population

SEED, RATE = 1, 1e-4
LEAST_SHARE = 1e-3
"""A weight's gradient counts as large as this share of the whole gradient, if it is smaller: the
gradient of a key's bias is zero but for rounding."""


@dataclass(frozen=True)
class Trained:
    """Losses and gradients by name of the first step, and the weights after the last; on the CPU."""

    terms: Mapping[str, float]
    gradients: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    start: Mapping[str, Tensor]


def without_dropout(work: Workload) -> Workload:
    """The same work for students without dropout."""
    blueprint = copy.copy(work.blueprint)
    blueprint.config = copy.deepcopy(blueprint.config)
    blueprint.config.hidden_dropout_prob = 0.0
    blueprint.config.attention_probs_dropout_prob = 0.0
    return replace(work, blueprint=blueprint)


def trained(work: Workload, outputs: TeacherOutputs, steps: int, members: int = 1) -> Trained:
    """The first member's steps by this project's stacked engine, on the work's device."""
    seeds = range(SEED, SEED + members)
    runs = [harness_member(work, seed) for seed in seeds]
    runs = [replace(run, setting={**run.setting, "learning_rate": RATE}) for run in runs]
    population = Population(runs, work.recipe(outputs, epochs=1, warmup=0.0))
    population.graphs = None  # which run no hook
    network = population.network
    assert isinstance(network, StackedClassifier)
    gradients: dict[int, Tensor] = {}
    hooks = [
        leaf.tensor.register_post_accumulate_grad_hook(
            lambda tensor: gradients.__setitem__(id(tensor), tensor.grad.clone())
        )
        for leaf in network.leaves()
    ]
    terms: dict[str, float] = {}
    epochs = [population.schedule.epoch(0, seed)[:steps] for seed in seeds]
    for batches in zip(*epochs, strict=True):
        rows = torch.from_numpy(np.stack([batch.rows for batch in batches]))
        population.train_batch(rows, batches[0].width, 0)
        if not terms:
            terms = population.groups[0].means(1)[0]
            for hook in hooks:
                hook.remove()
    named_gradients = {name: value.double().cpu() for name, value in _by_name(network, gradients)}
    return Trained(terms, named_gradients, network.weights(0), runs[0].weights)


def _by_name(
    network: StackedClassifier, gradients: Mapping[int, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """The gradients of one member's weights, from the gradients of the tensors that hold them."""
    words = torch.zeros_like(network.words.start[0])
    words[network.words.ids] = gradients[id(network.words.vectors)][0]
    yield network.word_name, words
    for block in network.blocks.values():
        values = gradients[id(block.values)]
        yield from WeightBlock(block.pieces, block.has_decay, values).member_weights(0)


def reference(work: Workload, outputs: TeacherOutputs, steps: int) -> Trained:
    """The same steps in float64 by Hugging Face's class and torch's AdamW, on the CPU."""
    cpu = torch.device("cpu")
    weights = harness_member(work, SEED).weights
    student = build_classifier(work.blueprint.config, weights).double()
    optimizer = plain_adamw(student, RATE)
    schedule = work.recipe(outputs, epochs=1).schedule()
    terms: dict[str, float] = {}
    gradients: dict[str, Tensor] = {}
    for step, batch in enumerate(schedule.epoch(0, SEED)[:steps]):
        rows = torch.from_numpy(batch.rows)
        teacher = outputs.batch(rows, cpu)
        student_outputs = student(
            **work.inputs.tokens(cpu).batch(rows, batch.width), output_hidden_states=True
        )
        states = list(teacher.states.double().unbind(1))
        losses = terms_of(work, student_outputs, teacher.logits.double(), states, work.labels[rows])
        total = plain_objective(losses)
        total.backward()
        if step == 0:
            terms = {name: float(value.detach()) for name, value in losses.items()}
            terms["total"] = float(total.detach())
            gradients = {name: p.grad.clone() for name, p in student.named_parameters()}
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        last_step = schedule.steps_per_epoch
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (last_step - step) / max(1, last_step - 1))
        optimizer.step()
        optimizer.zero_grad()
    return Trained(terms, gradients, dict(student.state_dict()), weights)


def differences(side: Trained, exact: Trained) -> dict[str, float | str]:
    """Differences from float64: of losses, of gradients, and of the weights' changes.

    `loss` is the largest difference of a loss, as a share of the total. The others are relative:
    `gradient` and `update` are norms over all weights; `largest_gradient` is that of one weight.
    """
    norms = {name: float(value.norm()) for name, value in exact.gradients.items()}
    errors = {
        name: float((side.gradients[name] - value).norm())
        for name, value in exact.gradients.items()
    }
    whole_norm = _length(norms.values())
    by_name = {
        name: error / max(norms[name], LEAST_SHARE * whole_norm) for name, error in errors.items()
    }
    worst_name = max(by_name, key=lambda name: by_name[name])
    updates = {name: exact.weights[name] - exact.start[name] for name in exact.gradients}
    update_errors = {
        name: float((side.weights[name].double() - exact.weights[name]).norm()) for name in updates
    }
    return {
        "loss": max(abs(side.terms[name] - value) for name, value in exact.terms.items())
        / exact.terms["total"],
        "gradient": _length(errors.values()) / whole_norm,
        "largest_gradient": by_name[worst_name],
        "at": worst_name,
        "update": _length(update_errors.values())
        / _length(float(update.norm()) for update in updates.values()),
    }


def _length(norms: Iterable[float]) -> float:
    return float(torch.tensor(list(norms), dtype=torch.float64).norm())
