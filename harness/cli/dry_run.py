"""The plan of a command: what would be trained, and what it would cost on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils._pytree import tree_leaves
from transformers import PretrainedConfig

from harness.config import ROUND, StudyConfig
from harness.data.batches import Batch, LengthSchedule
from harness.data.sources import TaskData
from harness.data.tasks import Task
from harness.data.tokens import EncodedSplit, encode
from harness.method import Method, View
from harness.models.checkpoints import check_fits, read_config, tokenizer_of
from harness.models.student import classifier_config, new_classifier
from harness.registry.discovery import chosen_methods
from harness.registry.instantiate import check_method, shapes_of, usable
from harness.registry.space import space_of
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import global_seed
from harness.training.live_teacher import LiveTeacher
from harness.training.population import Population
from harness.training.recipe import Member, Recipe
from harness.training.sizing import population_size
from harness.training.task_setup import find_own_start
from harness.training.teacher import find_origin

FLOAT = 4
ANSWER = 16
"""Bytes of an example's id and label beside a run's logits, in the ledger."""
ADAM_COPIES = 4
"""Weights, gradients and the optimiser's two moments."""


@dataclass(frozen=True)
class TaskPlan:
    """Cost of one task: runs, optimiser steps, seconds, and bytes of memory and disk.

    `live_methods` run the teacher in every step, which takes at most `live_seconds` of the seconds: runs
    of one seed share it. Where `stopping` is "sequential", report runs, steps and seconds are the most
    it may come to. `left_out` are the methods that cannot be used, with the reasons.
    """

    task: str
    train_examples: int
    search_runs: int
    report_runs: int
    teacher_steps: int
    student_steps: int
    seconds: float
    stopping: str
    live_methods: tuple[str, ...]
    live_seconds: float
    left_out: Mapping[str, str]
    memory_bytes: int
    disk_bytes: int

    def line(self) -> str:
        """The plan in one line."""
        most = "" if self.stopping == "fixed" else "at most "
        more = ""
        if self.live_methods:
            more = (
                f"; {', '.join(self.live_methods)}: the teacher runs in every step, at most "
                f"{_duration(self.live_seconds)} of it"
            )
        if self.left_out:
            more += f"; left out: {'; '.join(self.left_out.values())}"
        return (
            f"{self.task}: {self.train_examples} training examples, teacher {self.teacher_steps} "
            f"steps, {self.search_runs} search + {most}{self.report_runs} report runs = "
            f"{self.student_steps} student steps; about {_duration(self.seconds)}, "
            f"{self.memory_bytes / 2**30:.1f} GiB memory, {self.disk_bytes / 2**20:.0f} MiB disk{more}"
        )

    def plain(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)


def plan_task(
    config: StudyConfig, data: TaskData, arithmetic: Arithmetic, scratch: Path
) -> TaskPlan:
    """Count runs and steps, and time a few real steps at every padded length of the schedule.

    Nothing that is already in the ledger is subtracted: it is the cost of the whole. What has to be
    written for it goes to the folder `scratch`.

    Raises:
        TeacherError: teacher or start cannot be found, or do not belong together.
        MethodError: no method can be used.
    """
    folder = find_origin(config, data, arithmetic.name, scratch, outline=True).folder
    own_start = find_own_start(config, data.task, folder, scratch, outline=True)
    inputs = encode(data.train, tokenizer_of(folder), config.training.max_length)
    for encoder in {folder, own_start or folder}:
        check_fits(encoder, [inputs], config.training.max_length)
    shape = read_config(folder)
    depth, width = int(shape.num_hidden_layers), int(shape.hidden_size)
    start = read_config(own_start or folder)
    shapes = shapes_of(shape, start, data.task.outputs, config)

    def check(kind: type[Method]) -> None:
        space = space_of(kind, config.search, data.task.regression)
        check_method(kind, shapes, (shape, start), space.fixed)

    kinds, refused = usable(chosen_methods(config), config.baseline, check)
    methods = len(kinds)
    search_runs = methods * config.search.trials * config.search.seeds
    report_runs = methods * config.protocol.seeds
    student_epoch = LengthSchedule(inputs.lengths, config.training.batch_size)
    teacher_epoch = LengthSchedule(inputs.lengths, config.teacher.batch_size)
    fine_tuned = config.teacher.epochs if config.teacher.checkpoint is None else 0
    student = _member_like(folder, data.task, config.student.layers)
    recipe = _recipe(config, data, inputs, arithmetic, student)
    live = [kind for kind in kinds if kind.needs]
    together = (methods - len(live)) * min(ROUND, config.search.trials) * config.search.seeds
    size = min(population_size(recipe, student[1]), max(together, 1))
    student_seconds = _epoch_seconds(recipe, [student[1]] * size) / size
    costs = [_live_cost(recipe, folder, data.task, kind) for kind in live]
    of_each = config.search.trials * config.search.seeds + config.protocol.seeds
    live_total = of_each * config.training.epochs * sum(seconds for seconds, _ in costs)
    live_bytes = size * max((held for _, held in costs), default=0)
    teacher = _member_like(folder, data.task, depth)
    repeats = config.protocol.repeats
    teacher_recipe = _recipe(config, data, inputs, arithmetic, teacher)
    teacher_seconds = _epoch_seconds(teacher_recipe, [teacher[1]])
    parameters = sum(value.numel() for value in student[1].weights.values())
    runs = search_runs + report_runs
    examples = sum(len(split) for split in data.splits.values())
    cache = examples * (2 * depth * width * 2 + data.task.outputs * FLOAT)
    answers = sum(len(split) for split in (data.evaluation | data.test).values())
    predicted = report_runs * answers * (data.task.outputs * FLOAT + ANSWER)
    kept = {"best": methods, "report": report_runs, "none": 0}[config.keep]
    return TaskPlan(
        task=data.task.name,
        train_examples=len(data.train),
        search_runs=repeats * search_runs,
        report_runs=repeats * report_runs,
        teacher_steps=repeats * teacher_epoch.steps_per_epoch * fine_tuned,
        student_steps=repeats * student_epoch.steps_per_epoch * config.training.epochs * runs,
        # The teacher's outputs cost about a third of one of its epochs: forward only.
        seconds=repeats
        * (
            runs * config.training.epochs * student_seconds
            + (fine_tuned + 1 / 3) * teacher_seconds
            + live_total
        ),
        stopping=config.protocol.stopping,
        live_methods=tuple(kind.name for kind in live),
        live_seconds=repeats * live_total,
        left_out={name: str(error) for name, error in refused.items()},
        memory_bytes=psutil.Process().memory_info().rss
        + size * parameters * FLOAT * ADAM_COPIES
        + live_bytes,
        disk_bytes=repeats * (cache + predicted + (kept + 1) * parameters * FLOAT),
    )


def _member_like(folder: Path, task: Task, layers: int) -> tuple[PretrainedConfig, Member]:
    """A classifier of this depth with random weights, as a member without a method."""
    shape = classifier_config(folder, task, layers)
    with global_seed("plan"):
        weights = new_classifier(shape).state_dict()
    return shape, Member(weights, None, {"learning_rate": 1e-6}, 0)


def _recipe(
    config: StudyConfig,
    data: TaskData,
    inputs: EncodedSplit,
    arithmetic: Arithmetic,
    shaped: tuple[PretrainedConfig, Member],
) -> Recipe:
    return Recipe(
        model=shaped[0],
        inputs=inputs,
        labels=torch.from_numpy(data.train.labels).to(arithmetic.device),
        teacher=None,
        regression=data.task.regression,
        view=View(config.pooling),
        training=config.training,
        weights="convex",
        arithmetic=arithmetic,
    )


def _live_cost(recipe: Recipe, folder: Path, task: Task, kind: type[Method]) -> tuple[float, int]:
    """Of a teacher that runs in every step: seconds in an epoch of one run, and bytes held at most."""
    shape = classifier_config(folder, task)
    with global_seed("plan"):
        model = new_classifier(shape).to(recipe.arithmetic.device).eval()
    teacher = LiveTeacher(
        replace(recipe, live_teacher=model, view=kind.view(recipe.view.pooling)), [0]
    )
    held = 0

    def prepared(batch: Batch) -> Callable[[int], object]:
        inputs = recipe.tokens.batch(torch.from_numpy(batch.rows)[None], batch.width)

        def step(attempt: int) -> None:
            nonlocal held
            seen = tree_leaves(teacher.layers(inputs))
            held = max(held, sum(tensor.nbytes for tensor in seen))

        return step

    return _seconds_by_width(recipe, prepared), held


def _epoch_seconds(recipe: Recipe, members: list[Member]) -> float:
    """Seconds of one epoch of a population."""

    def prepared(batch: Batch) -> Callable[[int], object]:
        part = replace(
            recipe,
            inputs=recipe.inputs.part(batch.rows),
            labels=recipe.labels[torch.from_numpy(batch.rows).to(recipe.labels.device)],
            training=replace(recipe.training, epochs=2, batch_size=len(batch.rows)),
        )
        population = Population(members, part)
        return lambda attempt: population.epoch(attempt, lambda steps: None)

    return _seconds_by_width(recipe, prepared)


def _seconds_by_width(
    recipe: Recipe, prepared: Callable[[Batch], Callable[[int], object]]
) -> float:
    """Seconds of an epoch, from one step at each padded length of the schedule.

    `prepared` makes a batch's step, which is done twice: the first time warms up.
    """
    batches = recipe.schedule().epoch(0, 0)
    seconds = 0.0
    for width in sorted({batch.width for batch in batches}):
        step = prepared(next(batch for batch in batches if batch.width == width))
        for attempt in range(2):
            started = time.perf_counter()
            step(attempt)
            if recipe.arithmetic.device.type == "cuda":
                torch.cuda.synchronize()
            taken = time.perf_counter() - started
        seconds += taken * sum(batch.width == width for batch in batches)
    return seconds


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
