"""The plan of a command: what would be trained, and what it would cost on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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
from harness.data.tokens import EncodedSplit
from harness.errors import MethodError
from harness.method import Method, View
from harness.models.student import classifier_config, new_classifier
from harness.registry.discovery import chosen_methods
from harness.registry.instantiate import check_method, shapes_of, usable_methods
from harness.registry.space import space_of
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import global_seed
from harness.training.live_teacher import LiveTeacher
from harness.training.population import Population
from harness.training.recipe import Member, Recipe
from harness.training.sizing import population_size
from harness.training.task_setup import TaskOutline, outline_task

FLOAT = 4
ANSWER = 16
"""Bytes of an example's id and label in the ledger, beside a run's logits."""
ADAM_COPIES = 4
"""Copies of the weights in training: weights, gradients and the optimiser's two moments."""


@dataclass(frozen=True)
class TaskPlan:
    """Cost of one task: runs, optimiser steps, seconds, and bytes of memory and disk.

    `live_methods` run the teacher in every step. The teacher takes at most `live_seconds` of the
    seconds: runs of one seed share its outputs. If `stopping` is "sequential", report runs, steps and
    seconds are upper bounds. `left_out` has the reasons against the methods that cannot be used.
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
        qualifier = "" if self.stopping == "fixed" else "at most "
        runs = f"{self.search_runs} search + {qualifier}{self.report_runs} report runs"
        if not self.search_runs:  # a pool
            runs = f"{qualifier}{self.report_runs} trials"
        remark = ""
        if self.live_methods:
            remark = (
                f"; {', '.join(self.live_methods)}: the teacher runs in every step, at most "
                f"{_duration(self.live_seconds)} of the time"
            )
        if self.left_out:
            remark += f"; left out: {'; '.join(self.left_out.values())}"
        return (
            f"{self.task}: {self.train_examples} training examples, teacher {self.teacher_steps} "
            f"steps, {runs} = "
            f"{self.student_steps} student steps; about {_duration(self.seconds)}, "
            f"{self.memory_bytes / 2**30:.1f} GiB memory, {self.disk_bytes / 2**20:.0f} MiB disk{remark}"
        )

    def plain(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class TimedSteps:
    """Seconds and memory of a task's training on this machine, measured on a few real steps.

    `student` and `teacher` are seconds of one run's epoch. `live_teacher` has the live teacher's seconds
    of one run's epoch for each method that needs a live teacher. `memory` is the bytes that a population
    takes, and `weights` the bytes of one student.
    """

    student: float
    teacher: float
    live_teacher: Mapping[str, float]
    memory: int
    weights: int


def plan_task(
    config: StudyConfig, data: TaskData, arithmetic: Arithmetic, scratch: Path
) -> TaskPlan:
    """Count runs and steps, and time a few real steps at every padded length of the schedule.

    The plan counts the runs that the ledger already has too. Files that the plan needs go to the folder
    `scratch`.

    Raises:
        TeacherError: teacher or start is missing, or they do not belong together.
        MethodError: no method can be used.
    """
    outline = outline_task(config, data, arithmetic, scratch, pretrain=False, splits=("train",))
    methods, errors = _usable_methods(config, data.task, outline)
    costs = _time_steps(config, data, arithmetic, outline, methods)
    repeats, epochs = config.protocol.repeats, config.training.epochs
    searches, reports = config.search_runs, config.report_runs
    runs = len(methods) * (searches + reports)
    lengths = outline.inputs["train"].lengths
    student_steps = LengthSchedule(lengths, config.training.batch_size).steps_per_epoch
    teacher_steps = LengthSchedule(lengths, config.teacher.batch_size).steps_per_epoch
    teacher_epochs = config.teacher.epochs if config.teacher.checkpoint is None else 0
    live_seconds = (searches + reports) * epochs * sum(costs.live_teacher.values())
    # The teacher's outputs take forward passes only, about a third of an epoch of fine-tuning.
    teacher_seconds = (teacher_epochs + 1 / 3) * costs.teacher
    return TaskPlan(
        task=data.task.name,
        train_examples=len(data.train),
        search_runs=repeats * len(methods) * searches,
        report_runs=repeats * len(methods) * reports,
        teacher_steps=repeats * teacher_steps * teacher_epochs,
        student_steps=repeats * student_steps * epochs * runs,
        seconds=repeats * (runs * epochs * costs.student + teacher_seconds + live_seconds),
        stopping=config.protocol.stopping,
        live_methods=tuple(costs.live_teacher),
        live_seconds=repeats * live_seconds,
        left_out={name: str(error) for name, error in errors.items()},
        memory_bytes=psutil.Process().memory_info().rss + costs.memory,
        disk_bytes=repeats * _disk_bytes(config, data, outline, len(methods), costs.weights),
    )


def _usable_methods(
    config: StudyConfig, task: Task, outline: TaskOutline
) -> tuple[list[type[Method]], dict[str, MethodError]]:
    """The methods that can be used on a task, and the reasons against the others by name."""
    teacher, start = outline.teacher_encoder, outline.start_encoder
    shapes = shapes_of(teacher, start, task.outputs, config)

    def check(method: type[Method]) -> None:
        space = space_of(method, config.search, task.regression)
        check_method(method, shapes, (teacher, start), space.constants)

    return usable_methods(chosen_methods(config), config.baseline, check)


def _time_steps(
    config: StudyConfig,
    data: TaskData,
    arithmetic: Arithmetic,
    outline: TaskOutline,
    methods: Sequence[type[Method]],
) -> TimedSteps:
    """Time populations of students, a teacher, and the live teacher of each method that needs one."""
    folder, inputs = outline.origin.folder, outline.inputs["train"]
    teacher_layers = int(outline.teacher_encoder.num_hidden_layers)
    teacher_shape, teacher = _random_member(folder, data.task, teacher_layers)
    student_shape, student = _random_member(folder, data.task, config.student.layers)
    recipe = _recipe(config, data, inputs, arithmetic, student_shape)
    live_methods = [method for method in methods if method.needs]
    round_runs = min(ROUND, config.search.trials) * config.search.seeds
    if config.protocol.unit == "methods":
        round_runs = config.search.trials
    max_size = max((len(methods) - len(live_methods)) * round_runs, 1)
    size = min(population_size(recipe, student), max_size)
    student_seconds = _epoch_seconds(recipe, [student] * size) / size
    live_costs = {
        method.name: _live_cost(recipe, folder, data.task, method) for method in live_methods
    }
    teacher_recipe = _recipe(config, data, inputs, arithmetic, teacher_shape)
    weights = FLOAT * sum(value.numel() for value in student.weights.values())
    live_bytes = max((held_bytes for _, held_bytes in live_costs.values()), default=0)
    return TimedSteps(
        student=student_seconds,
        teacher=_epoch_seconds(teacher_recipe, [teacher]),
        live_teacher={name: seconds for name, (seconds, _) in live_costs.items()},
        memory=size * (weights * ADAM_COPIES + live_bytes),
        weights=weights,
    )


def _disk_bytes(
    config: StudyConfig, data: TaskData, outline: TaskOutline, methods: int, weights: int
) -> int:
    """Bytes of a task's teacher outputs, predictions, kept students and teacher."""
    encoder = outline.teacher_encoder
    layers, width = int(encoder.num_hidden_layers), int(encoder.hidden_size)
    logits = data.task.outputs * FLOAT
    examples = sum(len(split) for split in data.splits.values())
    cache = examples * (2 * layers * width * 2 + logits)
    report_runs = methods * config.report_runs
    answers = sum(len(split) for split in (data.evaluation | data.test).values())
    predictions = report_runs * answers * (logits + ANSWER)
    students = {"best": methods, "report": report_runs, "none": 0}[config.keep]
    return cache + predictions + (students + 1) * weights


def _random_member(folder: Path, task: Task, layers: int) -> tuple[PretrainedConfig, Member]:
    """The shape of a classifier of this depth, and a member with random weights and without a method."""
    shape = classifier_config(folder, task, layers)
    with global_seed("plan"):
        weights = new_classifier(shape).state_dict()
    return shape, Member(weights, None, {"learning_rate": 1e-6}, 0)


def _recipe(
    config: StudyConfig,
    data: TaskData,
    inputs: EncodedSplit,
    arithmetic: Arithmetic,
    shape: PretrainedConfig,
) -> Recipe:
    return Recipe(
        model=shape,
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
    """Seconds of a live teacher in an epoch of one run, and bytes of its outputs in the largest step."""
    shape = classifier_config(folder, task)
    with global_seed("plan"):
        model = new_classifier(shape).to(recipe.arithmetic.device).eval()
    teacher = LiveTeacher(
        replace(recipe, live_teacher=model, view=kind.view(recipe.view.pooling)), [0]
    )
    held_bytes = 0

    def make_step(batch: Batch) -> Callable[[int], object]:
        inputs = recipe.tokens.batch(torch.from_numpy(batch.rows)[None], batch.width)

        def step(attempt: int) -> None:
            nonlocal held_bytes
            tensors = tree_leaves(teacher.layers(inputs))
            held_bytes = max(held_bytes, sum(tensor.nbytes for tensor in tensors))

        return step

    return _seconds_by_width(recipe, make_step), held_bytes


def _epoch_seconds(recipe: Recipe, members: list[Member]) -> float:
    """Seconds of one epoch of a population."""

    def make_step(batch: Batch) -> Callable[[int], object]:
        part = replace(
            recipe,
            inputs=recipe.inputs.part(batch.rows),
            labels=recipe.labels[torch.from_numpy(batch.rows).to(recipe.labels.device)],
            training=replace(recipe.training, epochs=2, batch_size=len(batch.rows)),
        )
        population = Population(members, part)
        return lambda attempt: population.epoch(attempt, lambda steps: None)

    return _seconds_by_width(recipe, make_step)


def _seconds_by_width(
    recipe: Recipe, make_step: Callable[[Batch], Callable[[int], object]]
) -> float:
    """Seconds of an epoch, from one step at each padded length of the schedule.

    `make_step` makes the step of a batch. The step runs twice, and the second time counts.
    """
    batches = recipe.schedule().epoch(0, 0)
    seconds = 0.0
    for width in sorted({batch.width for batch in batches}):
        step = make_step(next(batch for batch in batches if batch.width == width))
        for attempt in range(2):
            start = time.perf_counter()
            step(attempt)
            if recipe.arithmetic.device.type == "cuda":
                torch.cuda.synchronize()
            step_seconds = time.perf_counter() - start
        seconds += step_seconds * sum(batch.width == width for batch in batches)
    return seconds


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
