"""The training of one student by this project and by the plain loop of papers.

These loops and TextBrewer's (`benchmarks.textbrewer_loop`) do the same work and report the end of each
step. A function for each loop returns its losses on one batch, to check that the work is the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from benchmarks.workload import Workload, batches_of_all_lengths
from harness.method import Context
from harness.method.losses import distillation_loss, label_loss
from harness.models.student import build_classifier
from harness.models.student_shape import copied_layers
from harness.runtime.device import Arithmetic
from harness.training.population import Population
from harness.training.recipe import Member

TEMPERATURE, KD_WEIGHT, LAYER_WEIGHT, RATE = 4.0, 0.5, 10.0, 1e-5
WARM_UP = 2
"""Steps before the clock starts."""


class Clock:
    """The times at which steps end. It waits for a GPU twice: after the warm-up and at the end."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.start = time.perf_counter()
        self.preparation = 0.0
        self.ticks: list[tuple[float, int]] = []

    def end_preparation(self) -> None:
        """Record the end of the work that is done once for all runs."""
        self.preparation = time.perf_counter() - self.start

    def tick(self, examples: int) -> None:
        """Record the end of a step with this number of examples."""
        if self.cuda and len(self.ticks) + 1 == WARM_UP:
            torch.cuda.synchronize()
        self.ticks.append((time.perf_counter(), examples))

    def result(self) -> dict[str, float]:
        """Examples and seconds of the steps after the warm-up, and seconds of the preparation."""
        if self.cuda:
            torch.cuda.synchronize()
        end = time.perf_counter() if self.cuda else self.ticks[-1][0]
        examples = sum(count for _, count in self.ticks[WARM_UP:])
        seconds = end - self.ticks[WARM_UP - 1][0]
        return {"examples": examples, "seconds": seconds, "preparation": self.preparation}


def teacher_layers(work: Workload) -> list[int]:
    """Teacher layers, counted from 0, of `pkd-skip`'s map: for each student layer but the last."""
    return copied_layers("skip", work.layers, int(work.teacher.config.num_hidden_layers))[:-1]


def harness_loop(work: Workload, folder: Path, clock: Clock, steps: int) -> None:
    """Train a population of one student, on batches that are spread evenly over all lengths."""
    outputs = work.outputs(folder)
    clock.end_preparation()
    population = Population([harness_member(work)], work.recipe(outputs, epochs=2))
    batches = batches_of_all_lengths(population, steps)
    for batch in batches[:WARM_UP] + batches:
        population.train_batch(torch.from_numpy(batch.rows)[None], batch.width, 0)
        clock.tick(len(batch.rows))


def harness_member(work: Workload, seed: int = 1) -> Member:
    """The student as a member of a population."""
    setting = {
        "temperature": TEMPERATURE,
        "kd_weight": KD_WEIGHT,
        "layer_weight": LAYER_WEIGHT,
        "learning_rate": RATE,
    }
    return work.member("pkd-skip", seed, **setting)


def plain_loop(
    work: Workload,
    folder: Path,
    clock: Clock,
    steps: int,
    pad_to: int | None,
    arithmetic: Arithmetic | None = None,
) -> None:
    """Train the student by the loop of Hugging Face and PyTorch that papers publish.

    An `arithmetic` with bf16 runs teacher and student under autocast; otherwise both are fp32.
    """
    device = work.arithmetic.device
    student = new_student(work).to(device).train()
    loader = list(islice(loader_of(work, pad_to), WARM_UP + steps))
    optimizer, scheduler = optimizer_of(student, len(loader))
    clock.end_preparation()
    for batch in loader:
        batch = {name: value.to(device) for name, value in batch.items()}
        with nullcontext() if arithmetic is None else arithmetic.autocast():
            loss = plain_objective(plain_terms(work, student, batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        loss.item()  # loops do so for the progress bar
        clock.tick(len(batch["labels"]))


def plain_terms(
    work: Workload, student: PreTrainedModel, batch: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The plain loop's three losses on a batch, as in published loops."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        teacher = work.teacher(**inputs, output_hidden_states=True)
    outputs = student(**inputs, output_hidden_states=True)
    states = [state[:, 0] for state in teacher.hidden_states[1:]]
    return terms_of(work, outputs, teacher.logits, states, batch["labels"])


def terms_of(
    work: Workload, outputs: Any, logits: Tensor, states: Sequence[Tensor], labels: Tensor
) -> dict[str, Tensor]:
    """The losses of a student's outputs of Hugging Face's class.

    Args:
        work: the benchmark's work.
        outputs: the student's outputs, with hidden states.
        logits: the teacher's logits (B, C).
        states: the teacher's states of the first token, of each layer (B, width).
        labels: the labels (B,).
    """
    kd = F.kl_div(
        F.log_softmax(outputs.logits / TEMPERATURE, dim=-1),
        F.softmax(logits / TEMPERATURE, dim=-1),
        reduction="batchmean",
    )
    distances = [
        F.mse_loss(
            F.normalize(outputs.hidden_states[layer + 1][:, 0], dim=-1),
            F.normalize(states[teacher_layer], dim=-1),
        )
        for layer, teacher_layer in enumerate(teacher_layers(work))
    ]
    return {
        "label": F.cross_entropy(outputs.logits, labels),
        "kd": kd * TEMPERATURE**2,
        "layer": torch.stack(distances).mean(),
    }


def plain_objective(terms: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum of the three losses."""
    loss = (1 - KD_WEIGHT) * terms["label"] + KD_WEIGHT * terms["kd"]
    return loss + LAYER_WEIGHT * terms["layer"]


def new_student(work: Workload) -> PreTrainedModel:
    """The student of a peer; the teacher gets the same kind of attention."""
    config = work.blueprint.config
    model = build_classifier(config, work.blueprint.weights(1))
    # Hugging Face's default attention, which a peer's user gets.
    model.set_attn_implementation("sdpa")
    work.teacher.set_attn_implementation("sdpa")
    return model


def plain_adamw(student: PreTrainedModel, rate: float) -> torch.optim.AdamW:
    """AdamW, with weight decay for matrices only."""
    matrices = [p for p in student.parameters() if p.ndim > 1]
    vectors = [p for p in student.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=0.01)


def optimizer_of(student: PreTrainedModel, total: int) -> tuple[Any, Any]:
    """AdamW, and the linear schedule of its rate over `total` steps."""
    optimizer = plain_adamw(student, RATE)
    return optimizer, get_linear_schedule_with_warmup(optimizer, total // 10, total)


def loader_of(work: Workload, pad_to: int | None) -> Any:
    """Batches in random order, padded to `pad_to` or to the longest example of the batch."""
    inputs = work.inputs

    def collate(rows: list[int]) -> dict[str, Tensor]:
        width = int(inputs.lengths[rows].max())
        batch = inputs.tokens(torch.device("cpu")).batch(torch.tensor(rows), pad_to or width)
        return {**batch, "labels": work.labels[rows]}

    return DataLoader(
        range(len(inputs.lengths)),  # type: ignore[arg-type]
        batch_size=work.batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )


def harness_terms(work: Workload, folder: Path, rows: Any) -> dict[str, float]:
    """This project's three losses on some rows, without dropout."""
    population = Population([harness_member(work)], work.recipe(work.outputs(folder), epochs=1))
    method = population.members[0].method
    assert method is not None
    index = torch.from_numpy(rows)
    (student,) = population.predict(work.inputs.part(rows), "cls")
    assert population.teacher is not None
    teacher = population.teacher.batch(index, torch.device("cpu"))
    labels = work.labels[index]
    context = Context(torch.tensor(0), {}, torch.ones(1, 1, dtype=torch.bool), torch.tensor(0.0))
    terms = {
        "label": label_loss(student.logits, labels, False),
        "kd": distillation_loss(student.logits, teacher.logits, torch.tensor(TEMPERATURE), False),
        **method.cpu()(student, teacher, labels, context),
    }
    return {name: float(value) for name, value in terms.items()}
