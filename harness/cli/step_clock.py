"""The clock of a plan: seconds of real steps, and the memory that the process holds after them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
import psutil
import torch
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from harness.data.batches import Batch
from harness.demo import encoder as demo_encoder
from harness.demo.tasks import TASKS
from harness.models.teacher_outputs import OUTPUT_BATCH, outputs_of_batch
from harness.runtime.cpu import one_thread, release_memory
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import global_seed
from harness.training.live_teacher import LiveTeacher
from harness.training.population import Population
from harness.training.recipe import Member, Recipe

MOST_TIMINGS = 5
ENOUGH_SECONDS = 0.2
"""Seconds of all timings of a step after which no more timings are needed."""
PRETRAINING_STEPS = 8
"""Timed steps of each stage of the demo encoder's pre-training."""


class StepClock:
    """Times steps, and notes in `memory` the most bytes that the process held after one of them.

    The allocator keeps what a step frees (`harness.runtime.cpu`), so that the bytes after a step are
    those of the step.
    """

    def __init__(self, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic
        self.memory = 0

    def note_memory(self, more: int = 0) -> None:
        """Note the bytes that the process holds, and `more` that a study adds."""
        held = int(psutil.Process().memory_info().rss)
        if self.arithmetic.device.type == "cuda":
            held += int(torch.cuda.max_memory_allocated(self.arithmetic.device))
        self.memory = max(self.memory, held + more)

    def epoch(
        self, recipe: Recipe, make_step: Callable[[Batch], Callable[[int], object]], more: int = 0
    ) -> float:
        """Seconds of an epoch, from a batch at each padded length of the schedule.

        `make_step` makes the step of a batch. After a first run the step is timed once; a short step is
        timed up to `MOST_TIMINGS` times, and the median counts.
        """
        batches = recipe.schedule().epoch(0, 0)
        seconds = 0.0
        for width in sorted({batch.width for batch in batches}):
            release_memory()
            step = make_step(next(batch for batch in batches if batch.width == width))
            step(0)
            timings: list[float] = []
            while len(timings) < MOST_TIMINGS and sum(timings) < ENOUGH_SECONDS:
                start = time.perf_counter()
                step(len(timings) + 1)
                if self.arithmetic.device.type == "cuda":
                    torch.cuda.synchronize()
                timings.append(time.perf_counter() - start)
            self.note_memory(more)
            del step  # else two populations would be in memory
            seconds += median(timings) * sum(batch.width == width for batch in batches)
        return seconds

    def training(
        self, recipe: Recipe, make_members: Callable[[], list[Member]], more: int = 0
    ) -> float:
        """Seconds of one epoch of a population. Only the population holds its members' weights."""

        def make_step(batch: Batch) -> Callable[[int], object]:
            population = Population(make_members(), _part(recipe, batch))
            return lambda attempt: population.epoch(attempt, lambda steps: None)

        return self.epoch(recipe, make_step, more)

    def outputs(self, recipe: Recipe, teacher: PreTrainedModel, mapped: int) -> float:
        """Seconds of a teacher's outputs for the training split; the files' pages are `mapped` bytes."""
        training = replace(recipe.training, batch_size=OUTPUT_BATCH)

        def make_step(batch: Batch) -> Callable[[int], object]:
            tensors = recipe.tokens.batch(torch.from_numpy(batch.rows), batch.width)
            return lambda attempt: outputs_of_batch(teacher, tensors, recipe.arithmetic)

        return self.epoch(replace(recipe, training=training), make_step, mapped)

    def live_teacher(self, recipe: Recipe) -> tuple[float, int]:
        """Seconds of a live teacher in an epoch of one run, and bytes of its outputs in a step."""
        teacher = LiveTeacher(recipe, [0])
        held_bytes = 0

        def make_step(batch: Batch) -> Callable[[int], object]:
            inputs = recipe.tokens.batch(torch.from_numpy(batch.rows)[None], batch.width)

            def step(attempt: int) -> None:
                nonlocal held_bytes
                tensors = tree_leaves(teacher.layers(inputs))
                held_bytes = max(held_bytes, sum(tensor.nbytes for tensor in tensors))

            return step

        return self.epoch(recipe, make_step), held_bytes

    def pretraining(self, task: str) -> float:
        """Seconds of the demo encoder's pre-training, from one pool of examples and a few steps."""
        size = demo_encoder.BATCHES_PER_POOL * demo_encoder.BATCH_SIZE
        rng = np.random.default_rng(0)
        start = time.perf_counter()
        corpus = demo_encoder.draw_corpus(demo_encoder.build_tokenizer(), task, rng, size)
        seconds = (time.perf_counter() - start) * demo_encoder.CORPUS_SIZE / size
        stages = [stage._replace(steps=PRETRAINING_STEPS) for stage in demo_encoder.STAGES]
        moments: list[float] = []

        def advance(steps: int) -> None:
            moments.append(time.perf_counter())
            self.note_memory()

        with global_seed("plan"), one_thread():
            demo_encoder.pretrain(corpus, TASKS[task], rng, stages, advance)
        for stage, ends in zip(
            demo_encoder.STAGES, np.reshape(moments, (-1, PRETRAINING_STEPS)), strict=True
        ):
            seconds += float(np.diff(ends).mean()) * stage.steps
        release_memory()
        return seconds


def _part(recipe: Recipe, batch: Batch) -> Recipe:
    """A recipe whose training split is one batch, for an epoch of each run of the step."""
    rows, weights = torch.from_numpy(batch.rows), recipe.label_weights
    return replace(
        recipe,
        inputs=recipe.inputs.part(batch.rows),
        labels=recipe.labels[rows.to(recipe.labels.device)],
        label_weights=weights if weights is None else weights[rows.to(weights.device)],
        teacher=recipe.teacher and recipe.teacher.part(rows % len(recipe.teacher.states)),
        training=replace(recipe.training, epochs=1 + MOST_TIMINGS, batch_size=len(rows)),
        words=recipe.vocabulary,
    )
