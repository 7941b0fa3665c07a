"""Timed steps: a few real steps of a task's teacher and students, which tell time and memory of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from harness.cli.step_clock import StepClock
from harness.config import ROUND, StudyConfig
from harness.data.sources import TaskData
from harness.data.tokens import EncodedSplit
from harness.method import Method, View
from harness.models.student import classifier_config, new_classifier
from harness.models.student_shape import student_shape
from harness.models.teacher_outputs import OUTPUT_BATCH, TeacherOutputs
from harness.registry.construction import make_method
from harness.registry.instantiate import shapes_of
from harness.registry.space import any_setting, space_of
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import global_seed
from harness.storage.arrays import MOST_RESIDENT
from harness.training.recipe import Member, Recipe
from harness.training.sizing import population_size
from harness.training.task_setup import TaskOutline

FORWARD_SHARE = 1 / 3
"""Time of a forward pass as a share of a training step's."""


@dataclass(frozen=True)
class TimedSteps:
    """Seconds and bytes of a task's training on this machine, measured on a few real steps.

    `teacher` and, by method, `students` are seconds of one run's epoch, without a live teacher.
    `live_teacher` has the live teacher's seconds of one run's epoch for each method that needs a live
    teacher. `outputs` are the seconds of all teacher outputs, `evaluation` those of one run's answers,
    `pretraining` those of the demo's encoder. `sizes` are the runs that fit in a population, by method.
    `memory` is the most that this process would hold. The weights are bytes of one teacher, one encoder
    and one student.
    """

    teacher: float
    outputs: float
    students: Mapping[str, float]
    evaluation: float
    live_teacher: Mapping[str, float]
    sizes: Mapping[str, int]
    pretraining: float
    memory: int
    teacher_weights: int
    encoder_weights: int
    student_weights: int


def time_steps(
    config: StudyConfig,
    data: TaskData,
    arithmetic: Arithmetic,
    outline: TaskOutline,
    methods: Sequence[type[Method]],
    workers: int = 1,
    *,
    shares_teacher: bool = False,
) -> TimedSteps:
    """Time the phases of a study in their order: pre-training, teacher, its outputs, and students.

    The timed populations are as large as one of `workers` would train them. Methods that read cached
    outputs alone share the time of one method with the same view, that matches layers or does not, as
    they do. A method with a live teacher has a time of its own. With `shares_teacher` the phases before
    the students are another plan's, and take no time.
    """
    clock = StepClock(arithmetic)
    pretraining = 0.0
    if pretrains(config, outline) and not shares_teacher:
        pretraining = clock.pretraining(data.task.name)
    shape = classifier_config(outline.origin.folder, data.task)
    recipe = _recipe(config, data, outline.teacher_inputs["train"], arithmetic, shape)
    teacher_training = replace(
        config.training, batch_size=config.teacher.batch_size, embeddings="trained"
    )
    teacher_seconds = 0.0
    if config.teacher.checkpoint is None and not shares_teacher:
        teacher_seconds = clock.training(
            replace(recipe, training=teacher_training),
            lambda: [Member(_random_weights(shape), None, {"learning_rate": 1e-6}, 0)],
        )
    with global_seed("plan"):
        teacher = new_classifier(shape).to(arithmetic.device).eval()
    examples = len(data.train)
    states = examples * int(shape.num_hidden_layers) * int(shape.hidden_size) * 2
    mapped = min(2 * MOST_RESIDENT, states)  # the bound, and the pages of the last rows
    output_seconds = 0.0 if shares_teacher else clock.outputs(recipe, teacher, mapped)
    students = _StudentTimes(config, data, outline, recipe, teacher, clock, mapped, workers)
    student_seconds = {method.name: students.seconds(method, methods) for method in methods}
    all_examples = sum(len(split) for split in data.splits.values())
    answers = all_examples - examples + sum(len(split) for split in data.test.values())
    mean_seconds = float(np.mean([*student_seconds.values()]))
    return TimedSteps(
        teacher=teacher_seconds,
        outputs=output_seconds * all_examples / examples,
        students=student_seconds,
        evaluation=mean_seconds * FORWARD_SHARE * answers / examples,
        live_teacher=students.live_seconds,
        sizes={method.name: students.size(method) for method in methods},
        pretraining=pretraining,
        memory=clock.memory,
        teacher_weights=_bytes(teacher.state_dict()),
        encoder_weights=_bytes(teacher.base_model.state_dict()),
        student_weights=_bytes(students.weights),
    )


def pretrains(config: StudyConfig, outline: TaskOutline) -> bool:
    """Whether a study pre-trains the demo's encoder, for its teacher or for its students' start."""
    copies_it = outline.own_start is not None and config.student.checkpoint is None
    starts_there = not outline.origin.from_outside or copies_it
    return config.teacher.pretrained == "demo" and starts_there


class _StudentTimes:
    """Times the students of one task by method. `live_seconds` are those of live teachers by method."""

    def __init__(
        self,
        config: StudyConfig,
        data: TaskData,
        outline: TaskOutline,
        recipe: Recipe,
        teacher: PreTrainedModel,
        clock: StepClock,
        mapped: int,
        workers: int,
    ) -> None:
        folder = outline.own_start or outline.origin.folder
        shape = student_shape(classifier_config(folder, data.task), config.student)
        self.config, self.data, self.clock, self.mapped = config, data, clock, mapped
        self.workers = workers
        outputs = _random_outputs(teacher.config, recipe.arithmetic.device)
        inputs = outline.inputs["train"]
        self.recipe = replace(recipe, model=shape, teacher=outputs, inputs=inputs)
        self.teacher = teacher
        self.weights = _random_weights(shape)
        self.shapes = shapes_of(
            outline.teacher_encoder, outline.start_encoder, data.task.outputs, config
        )
        self.live_seconds: dict[str, float] = {}
        self._seconds: dict[object, float] = {}
        self._sizes: dict[View, int] = {}

    def seconds(self, method: type[Method], methods: Sequence[type[Method]]) -> float:
        """Seconds of one run's epoch, without a live teacher. `methods` are all of the study."""
        view = method.view(self.config.pooling)
        key = (view, method.name if view.needs else method.matches_layers())
        if key not in self._seconds:
            self._seconds[key] = self._measure(method, view, self._runs_at_once(view, methods))
        return self._seconds[key]

    def size(self, method: type[Method]) -> int:
        """The number of runs like those of a method that fit in a population."""
        view = method.view(self.config.pooling)
        if view not in self._sizes:
            plain = replace(self._member(method), method=None)
            self._sizes[view] = population_size(replace(self._recipe(view), teacher=None), plain)
        return self._sizes[view]

    def _runs_at_once(self, view: View, methods: Sequence[type[Method]]) -> int:
        """The runs that a study asks for at the same time and that may share a worker's population."""
        config, search = self.config, self.config.search
        of_a_method = min(ROUND, search.trials) * search.seeds
        if config.protocol.unit == "methods":
            of_a_method = search.trials
        same_view = sum(other.view(config.pooling) == view for other in methods)
        if self.workers == 1:
            return same_view * of_a_method
        share = -(-len(config.tasks) * len(methods) * of_a_method // self.workers)
        joined = config.protocol.unit == "methods" or config.protocol.stopping == "sequential"
        return min(share, (same_view if joined else 1) * of_a_method)

    def _recipe(self, view: View) -> Recipe:
        return replace(self.recipe, view=view, live_teacher=self.teacher if view.needs else None)

    def _member(self, method: type[Method]) -> Member:
        setting = any_setting(space_of(method, self.config.search, self.data.task.regression))
        return Member(self.weights, make_method(method, self.shapes, setting, 0), setting, 0)

    def _measure(self, method: type[Method], view: View, most: int) -> float:
        """Seconds of one run's epoch, from a population of as many runs as fit, and at most `most`."""
        member, recipe = self._member(method), self._recipe(view)
        size = max(1, min(self.size(method), most))
        live_seconds, live_bytes = 0.0, 0
        if view.needs:
            live_seconds, live_bytes = self.clock.live_teacher(recipe)
            self.live_seconds[method.name] = live_seconds
        # The members here have one seed, and so one live teacher. Those of a study may all differ.
        more = self.mapped + (size - 1) * live_bytes
        seconds = self.clock.training(recipe, lambda: [member] * size, more)
        return max(seconds - live_seconds, 0.0) / size


def _random_outputs(shape: PretrainedConfig, device: torch.device) -> TeacherOutputs:
    """Random outputs of a teacher for `OUTPUT_BATCH` examples."""
    size = (OUTPUT_BATCH, int(shape.num_hidden_layers), int(shape.hidden_size))
    with global_seed("plan"):
        logits = torch.randn(OUTPUT_BATCH, int(shape.num_labels))
        states = torch.randn(size).half()
    return TeacherOutputs(logits.to(device), states.to(device))


def _random_weights(shape: PretrainedConfig) -> dict[str, Tensor]:
    """Random weights of a classifier, by name."""
    with global_seed("plan"):
        return dict(new_classifier(shape).state_dict())


def _bytes(weights: Mapping[str, Tensor]) -> int:
    return sum(value.nbytes for value in weights.values())


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
        weights=config.search.weights,
        arithmetic=arithmetic,
    )
