"""The plan of a command: what would be trained, and what it would cost on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.axis_names import task_in_cell
from harness.cli.calibration import Rates
from harness.cli.division import RunGroup, TaskWork
from harness.cli.planned_steps import PlannedSteps, plan_steps, pretrains
from harness.config import StudyConfig
from harness.data.batches import LengthSchedule
from harness.data.splits import Split, TaskData
from harness.data.tokens import EncodedSplit
from harness.errors import MethodError
from harness.method import Method, Pooling, View
from harness.pooling_table import POOLINGS
from harness.registry.discovery import chosen_methods
from harness.registry.instantiate import check_method, shapes_of, usable_methods
from harness.registry.label_readers import refuse_label_reader
from harness.registry.space import space_of
from harness.runtime.device import Arithmetic
from harness.training.task_setup import TaskOutline, outline_task

FLOAT, HALF = 4, 2
TOKEN, OFFSET = 5, 8
"""Bytes of a token's id and type, and of an example's place among the tokens."""
SAMPLE = 8192
"""Training examples whose tokens are counted: the lengths of a larger task follow from them."""
ANSWER = 16
"""Bytes of an example's id and label in the ledger, beside a run's logits."""


@dataclass(frozen=True)
class TaskPlan:
    """Cost of one task: runs, optimiser steps, seconds of one worker, bytes of its memory, and disk.

    `work` has the parts of the seconds. `live_methods` run the teacher in every step. The teacher takes
    at most `live_seconds` of the seconds: runs of one seed share its outputs. `guessed_seconds` are not
    counted: those of answers, a share of the training's, and of the methods in `guessed`. If `stopping`
    is "sequential", report runs, steps and seconds are upper bounds. `left_out` has the reasons against
    the methods that cannot be used.
    """

    task: str
    """The name of the task, with its cell."""
    train_examples: int
    unlabelled_texts: int
    search_runs: int
    report_runs: int
    teacher_steps: int
    student_steps: int
    seconds: float
    work: TaskWork
    stopping: str
    live_methods: tuple[str, ...]
    live_seconds: float
    guessed: tuple[str, ...]
    guessed_seconds: float
    left_out: Mapping[str, str]
    memory_bytes: int
    disk_bytes: int

    def line(self, owner: str = "") -> str:
        """The plan in one line. `owner` says whose time and memory they are, where there are several."""
        qualifier = "" if self.stopping == "fixed" else "at most "
        runs = f"{self.search_runs} search + {qualifier}{self.report_runs} report runs"
        if not self.search_runs:  # a pool
            runs = f"{qualifier}{self.report_runs} trials"
        texts = f" and {self.unlabelled_texts} unlabelled texts for students of all methods"
        unlabelled = texts if self.unlabelled_texts else ""
        remark = ""
        if self.live_methods:
            remark = (
                f"; {', '.join(self.live_methods)}: the teacher runs in every step, at most "
                f"{duration(self.live_seconds)} of the time"
            )
        if self.guessed:
            remark += f"; guessed without its own terms: {', '.join(self.guessed)}"
        if self.left_out:
            remark += f"; left out: {'; '.join(self.left_out.values())}"
        return (
            f"{self.task}: {self.train_examples} training examples{unlabelled}, teacher "
            f"{self.teacher_steps} steps, {runs} = {self.student_steps} student steps; about "
            f"{duration(self.seconds)}{owner} "
            f"({share_in_words(self.guessed_seconds, self.seconds)}), "
            f"{self.memory_bytes / 2**30:.1f} GiB memory{owner}, "
            f"{self.disk_bytes / 2**20:.0f} MiB disk{remark}"
        )

    def plain(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class TotalPlan:
    """The plan of all tasks, in all `cells`, together. `memory_bytes` is the most that any takes.

    `assumed` says of which device and which rates the plan is.
    """

    tasks: int
    cells: int
    teacher_steps: int
    runs: int
    student_steps: int
    seconds: float
    guessed_seconds: float
    memory_bytes: int
    disk_bytes: int
    assumed: str

    def line(self, owner: str = "") -> str:
        """The plan in one line. `owner` as in `TaskPlan.line`."""
        parts = f"{self.tasks} task(s)" + (f" in {self.cells} cells" if self.cells else "")
        return (
            f"total of {parts}: teachers {self.teacher_steps} steps, {self.runs} runs = "
            f"{self.student_steps} student steps; about {duration(self.seconds)}{owner} "
            f"({share_in_words(self.guessed_seconds, self.seconds)}), "
            f"{self.memory_bytes / 2**30:.1f} GiB memory{owner}, "
            f"{self.disk_bytes / 2**20:.0f} MiB disk; assumed: {self.assumed}"
        )


def share_in_words(guessed: float, seconds: float) -> str:
    """Which share of the seconds is guessed."""
    return f"{100 * guessed / seconds if seconds else 0.0:.0f} % guessed"


def plan_total(plans: Sequence[TaskPlan], tasks: int, cells: int, assumed: str) -> TotalPlan:
    """The sums over the plans of all tasks in all cells. Runs that cells share count in each cell."""
    return TotalPlan(
        tasks=tasks,
        cells=cells,
        teacher_steps=sum(plan.teacher_steps for plan in plans),
        runs=sum(plan.search_runs + plan.report_runs for plan in plans),
        student_steps=sum(plan.student_steps for plan in plans),
        seconds=sum(plan.seconds for plan in plans),
        guessed_seconds=sum(plan.guessed_seconds for plan in plans),
        memory_bytes=max(plan.memory_bytes for plan in plans),
        disk_bytes=sum(plan.disk_bytes for plan in plans),
        assumed=assumed,
    )


def plan_task(
    config: StudyConfig,
    data: TaskData,
    arithmetic: Arithmetic,
    scratch: Path,
    rates: Rates,
    workers: int = 1,
    *,
    cell: str = "",
    shares_teacher: bool = False,
    exports: bool = False,
) -> TaskPlan:
    """Count runs, steps and the work of a step at every padded length, which takes time at `rates`.

    Populations are as large as one of `workers` would train them. The plan counts the runs that the
    ledger already has too. Files that the plan needs go to the folder `scratch`.
    `cell` names the cell of a grid. `shares_teacher` says that an earlier plan counts the tokens, the
    teacher and its outputs. `exports` says that kept students are exported.

    Raises:
        TeacherError: teacher or start is missing, or they do not belong together.
        MethodError: no method can be used.
    """
    start = time.perf_counter()
    outline = _outline(config, data, arithmetic, scratch)
    token_seconds = (time.perf_counter() - start) * max(1.0, len(data.train) / SAMPLE)
    methods, errors = _usable_methods(config, data, outline)
    costs = plan_steps(
        config, data, arithmetic, outline, methods, rates, workers, shares_teacher=shares_teacher
    )
    repeats, epochs = config.protocol.repeats, config.training.epochs
    searches, reports = config.search_runs, config.report_runs
    runs = len(methods) * (searches + reports)
    teacher_lengths = outline.teacher_inputs["train"].lengths
    student_lengths = outline.student_inputs.lengths
    student_steps = LengthSchedule(student_lengths, config.training.batch_size).steps_per_epoch
    teacher_steps = LengthSchedule(teacher_lengths, config.teacher.batch_size).steps_per_epoch
    is_made = config.teacher.checkpoint is None and not shares_teacher
    teacher_epochs = config.teacher.epochs if is_made else 0
    run_seconds = {
        name: epochs * (seconds + costs.live_teacher.get(name, 0.0)) + costs.evaluation
        for name, seconds in costs.students.items()
    }
    runs_of_a_method = repeats * (searches + reports)
    live_seconds = runs_of_a_method * epochs * sum(costs.live_teacher.values())
    guessed_seconds = runs_of_a_method * sum(
        seconds if name in costs.guessed else costs.evaluation
        for name, seconds in run_seconds.items()
    )
    teacher_seconds = teacher_epochs * costs.teacher + costs.outputs
    preparations = [teacher_seconds] * repeats
    preparations[0] += token_seconds + costs.pretraining
    if shares_teacher:
        preparations = [0.0] * repeats  # tokens are read again in no time
    return TaskPlan(
        task=task_in_cell(data.task.name, cell),
        train_examples=len(data.train),
        unlabelled_texts=sum(map(len, data.unlabelled.values())),
        search_runs=repeats * len(methods) * searches,
        report_runs=repeats * len(methods) * reports,
        teacher_steps=repeats * teacher_steps * teacher_epochs,
        student_steps=repeats * student_steps * epochs * runs,
        seconds=sum(preparations) + runs_of_a_method * sum(run_seconds.values()),
        work=TaskWork(
            tuple(preparations),
            _run_groups(methods, config.pooling, run_seconds, costs.sizes),
            student_steps * epochs,
        ),
        stopping=config.protocol.stopping,
        live_methods=tuple(costs.live_teacher),
        live_seconds=live_seconds,
        guessed=costs.guessed,
        guessed_seconds=guessed_seconds,
        left_out={name: str(error) for name, error in errors.items()},
        memory_bytes=costs.memory,
        disk_bytes=_disk_bytes(
            config,
            data,
            outline,
            len(methods),
            costs,
            shares_teacher=shares_teacher,
            exports=exports,
        ),
    )


def _outline(
    config: StudyConfig, data: TaskData, arithmetic: Arithmetic, scratch: Path
) -> TaskOutline:
    """The outline of a task. At most `SAMPLE` examples of a split are tokenised, and stand for all."""
    splits = {"train": data.train, **data.unlabelled}
    large = {name: split for name, split in splits.items() if len(split) > SAMPLE}
    samples = {
        name: split.take(np.linspace(0, len(split) - 1, SAMPLE).round().astype(np.int64))
        for name, split in large.items()
    }
    sample = replace(
        data,
        train=samples.get("train", data.train),
        transfer=samples.get("transfer", data.transfer),
    )
    outline = outline_task(
        config, sample, arithmetic, scratch, pretrain=False, splits=tuple(splits)
    )
    inputs = _stretched(outline.inputs, large)
    if outline.shares_tokens:
        return replace(outline, inputs=inputs, teacher_inputs=inputs)
    return replace(outline, inputs=inputs, teacher_inputs=_stretched(outline.teacher_inputs, large))


def _stretched(
    inputs: Mapping[str, EncodedSplit], large: Mapping[str, Split]
) -> dict[str, EncodedSplit]:
    """Samples again and again, until they are as many as the examples of their splits."""
    return {**inputs, **{name: inputs[name].repeated(len(split)) for name, split in large.items()}}


def _usable_methods(
    config: StudyConfig, data: TaskData, outline: TaskOutline
) -> tuple[list[type[Method]], dict[str, MethodError]]:
    """The methods that can be used on a task, and the reasons against the others by name."""
    task, teacher, start = data.task, outline.teacher_encoder, outline.start_encoder
    shapes = shapes_of(teacher, start, task.outputs, config)

    def check(method: type[Method]) -> None:
        if data.transfer is not None:
            refuse_label_reader(method)
        space = space_of(method, config.search, task.regression)
        encoders = teacher, start
        check_method(method, shapes, encoders, space.constants, outline.shares_tokens)

    return usable_methods(chosen_methods(config), config.baseline, check)


def _run_groups(
    methods: Sequence[type[Method]],
    pooling: Pooling,
    seconds: Mapping[str, float],
    sizes: Mapping[str, int],
) -> tuple[RunGroup, ...]:
    """The groups of runs by view, with `seconds` of a run and `sizes` of populations by method."""
    groups: dict[View, list[str]] = {}
    for method in methods:
        groups.setdefault(method.view(pooling), []).append(method.name)
    return tuple(
        RunGroup({name: seconds[name] for name in names}, sizes[names[0]])
        for names in groups.values()
    )


def _disk_bytes(
    config: StudyConfig,
    data: TaskData,
    outline: TaskOutline,
    methods: int,
    costs: PlannedSteps,
    *,
    shares_teacher: bool,
    exports: bool,
) -> int:
    """Bytes of a task's tokens, encoder, teacher, its outputs, predictions and kept students.

    With `shares_teacher`, of the last two alone. An exported student has its weights twice.
    """
    encoder = outline.teacher_encoder
    layers, width = int(encoder.num_hidden_layers), int(encoder.hidden_size)
    logits = data.task.outputs * FLOAT
    examples = sum(len(split) for split in (data.splits | data.unlabelled).values())
    cache = examples * (len(POOLINGS) * layers * width * HALF + logits)
    report_runs = methods * config.report_runs
    answers = sum(len(split) for split in (data.evaluation | data.test).values())
    predictions = report_runs * answers * (logits + ANSWER)
    students = {"best": methods, "report": report_runs, "none": 0}[config.keep]
    teacher = 0 if outline.origin.from_outside else costs.teacher_weights
    all_examples = examples + sum(len(split) for split in data.test.values())
    sides = [outline.inputs] if outline.shares_tokens else [outline.inputs, outline.teacher_inputs]
    lengths = [side["train"].lengths.mean() for side in sides]
    tokens = int(sum(all_examples * (length * TOKEN + OFFSET) for length in lengths))
    pretrained = costs.encoder_weights if pretrains(config, outline) else 0
    own = predictions + students * costs.student_weights * (2 if exports else 1)
    if shares_teacher:
        return config.protocol.repeats * own
    of_a_repeat = cache + own + teacher
    return tokens + pretrained + config.protocol.repeats * of_a_repeat


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
