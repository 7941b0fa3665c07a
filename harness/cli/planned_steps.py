"""Planned steps: time and memory of a task's teacher and students, from counts and rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import psutil
import torch
from torch import Tensor
from transformers import PretrainedConfig

from harness.cli.calibration import Rates
from harness.cli.pretraining_time import pretraining_seconds
from harness.cli.profiles import CountedStep, live_profile, method_profile, plain_profile
from harness.cli.step_counts import (
    Profile,
    Work,
    member_of,
    on_meta,
    recipe_of,
)
from harness.config import ROUND, StudyConfig
from harness.data.batches import LengthSchedule
from harness.data.splits import TaskData
from harness.data.tokens import EncodedSplit
from harness.method import Method, View
from harness.models.families import family_of
from harness.models.student import classifier_config
from harness.models.student_shape import student_shape
from harness.models.teacher_outputs import OUTPUT_BATCH, output_batches
from harness.registry.instantiate import shapes_of
from harness.registry.space import any_setting, space_of
from harness.runtime.device import Arithmetic
from harness.storage.arrays import MOST_RESIDENT
from harness.training.sizing import most_members, population_size
from harness.training.task_setup import TaskOutline

FORWARD_SHARE = 1 / 3
"""Time of a forward pass as a share of a training step's."""
MOMENT_BYTES = 8
"""The optimiser's two moments of a weight, in fp32."""


@dataclass(frozen=True)
class PlannedSteps:
    """Seconds and bytes of a task's training on this machine.

    `teacher` and, by method, `students` are seconds of one run's epoch, without a live teacher.
    `live_teacher` has the live teacher's seconds of one run's epoch for each method that needs a live
    teacher. `outputs` are the seconds of all teacher outputs, `evaluation` those of one run's answers,
    `pretraining` those of the demo's encoder. `guessed` are the methods whose steps cannot be counted.
    `sizes` are the runs that fit in a population, by method. `memory` is the most that this process
    would hold. The weights are bytes of one teacher, one encoder and one student.
    """

    teacher: float
    outputs: float
    students: Mapping[str, float]
    evaluation: float
    live_teacher: Mapping[str, float]
    guessed: tuple[str, ...]
    sizes: Mapping[str, int]
    pretraining: float
    memory: int
    teacher_weights: int
    encoder_weights: int
    student_weights: int


def plan_steps(
    config: StudyConfig,
    data: TaskData,
    arithmetic: Arithmetic,
    outline: TaskOutline,
    methods: Sequence[type[Method]],
    rates: Rates,
    workers: int = 1,
    *,
    shares_teacher: bool = False,
) -> PlannedSteps:
    """Plan the phases of a study in their order: pre-training, teacher, its outputs, and students.

    Populations are as large as one of `workers` would train them. Methods that read cached outputs alone
    share the count of one method with the same view, that matches layers or does not, as they do. A
    method with a live teacher has a count of its own. With `shares_teacher` the phases before the
    students are another plan's, and take no time.
    """
    inputs = outline.teacher_inputs["train"]
    shape = classifier_config(outline.origin.folder, data.task)
    classifier = on_meta(shape)
    weights = classifier.state_dict()
    held = psutil.Process().memory_info().rss + rates.start_bytes
    memory = [held]
    trains = config.teacher.checkpoint is None and not shares_teacher
    teacher_seconds = 0.0
    if trains:
        training = replace(
            config.training, batch_size=config.teacher.batch_size, embeddings="trained"
        )
        profile = plain_profile(CountedStep(shape, training))
        numbers = numbers_in_training(shape, weights, inputs)
        schedule = LengthSchedule(inputs.lengths, training.batch_size)
        work, steps = _epoch(profile, schedule)
        teacher_seconds = rates.seconds(work, numbers, steps)
        memory.append(
            held + _bytes(weights) + int(MOMENT_BYTES * numbers + _most(profile, schedule))
        )
    students = _Students(config, data, outline, arithmetic, rates, workers)
    seconds = {method.name: students.seconds(method, methods) for method in methods}
    examples = len(outline.student_inputs.lengths)
    states = examples * int(shape.num_hidden_layers) * int(shape.hidden_size) * 2
    mapped = min(2 * MOST_RESIDENT, states)  # the bound, and the pages of the last rows
    # What the students start from stays beside them, as the teacher does.
    beside = _bytes(weights) + _bytes(students.weights)
    memory.append(held + beside + mapped + students.memory)
    held_out = sum(len(split) for split in data.splits.values()) - len(data.train)
    answers = held_out + sum(len(split) for split in data.test.values())
    output_seconds = 0.0
    if not shares_teacher:
        output_training = replace(config.training, batch_size=OUTPUT_BATCH)
        step = CountedStep(shape, output_training)
        output_seconds = _outputs(step, outline.output_inputs, arithmetic, rates)
    pretraining = 0.0
    if pretrains(config, outline) and not shares_teacher:
        pretraining = pretraining_seconds(data.task.name, arithmetic)
    return PlannedSteps(
        teacher=teacher_seconds,
        outputs=output_seconds * (examples + held_out) / examples,
        students=seconds,
        evaluation=float(np.mean([*seconds.values()])) * FORWARD_SHARE * answers / examples,
        live_teacher=students.live_seconds,
        guessed=tuple(students.guessed),
        sizes={method.name: students.size(method.view(config.pooling)) for method in methods},
        pretraining=pretraining,
        memory=max(memory),
        teacher_weights=_bytes(weights),
        encoder_weights=_bytes(classifier.base_model.state_dict()),
        student_weights=_bytes(students.weights),
    )


def pretrains(config: StudyConfig, outline: TaskOutline) -> bool:
    """Whether a study pre-trains the demo's encoder, for its teacher or for its students' start."""
    copies_it = outline.own_start is not None and config.student.checkpoint is None
    starts_there = not outline.origin.from_outside or copies_it
    return config.teacher.pretrained == "demo" and starts_there


class _Students:
    """Plans the students of one task by method. `live_seconds` are those of live teachers by method."""

    def __init__(
        self,
        config: StudyConfig,
        data: TaskData,
        outline: TaskOutline,
        arithmetic: Arithmetic,
        rates: Rates,
        workers: int,
    ) -> None:
        folder = outline.own_start or outline.origin.folder
        shape = student_shape(classifier_config(folder, data.task), config.student)
        self.config, self.arithmetic, self.rates, self.workers = config, arithmetic, rates, workers
        self.inputs = outline.student_inputs
        teacher = classifier_config(outline.origin.folder, data.task)
        self.teacher = CountedStep(teacher, config.training)
        self.step = CountedStep(shape, config.training)
        self.weights = on_meta(shape).state_dict()
        self.trained = numbers_in_training(shape, self.weights, self.inputs)
        self.schedule = LengthSchedule(self.inputs.lengths, config.training.batch_size)
        # Two classes: the words of labels and the kind of task change a step by nothing that counts.
        self.shapes = shapes_of(outline.teacher_encoder, outline.start_encoder, 2, config)
        self.memory = 0
        self.live_seconds: dict[str, float] = {}
        self.guessed: list[str] = []
        self._seconds: dict[object, float] = {}
        self._sizes: dict[View, int] = {}

    def seconds(self, method: type[Method], methods: Sequence[type[Method]]) -> float:
        """Seconds of one run's epoch, without a live teacher. `methods` are all of the study."""
        view = method.view(self.config.pooling)
        key: object = (view, method.name if view.needs else method.matches_layers())
        if not (method.supports_vmap and method.supports_graphs):  # its step reads numbers
            key = method.name
        if key not in self._seconds:
            self._seconds[key] = self._plan(method, view, methods)
        return self._seconds[key]

    def size(self, view: View) -> int:
        """The number of runs of a view that fit in a population."""
        if view not in self._sizes:
            self._sizes[view] = self._size(view)
        return self._sizes[view]

    def _size(self, view: View) -> int:
        recipe = replace(
            recipe_of(self.step.shape, self.config.training, 1, 8, self.arithmetic),
            inputs=self.inputs,
            training=self.config.training,
            view=view,
        )
        if self.arithmetic.device.type != "cuda":
            return population_size(recipe, member_of(self.weights))
        free_bytes, _ = torch.cuda.mem_get_info(self.arithmetic.device)
        of_a_run = self._bytes_of_a_run(plain_profile(self.step))
        return most_members(free_bytes, of_a_run)

    def _bytes_of_a_run(self, profile: Profile) -> int:
        held = _most(profile, self.schedule)
        return int(_bytes(self.weights) + MOMENT_BYTES * self.trained + held)

    def _plan(self, method: type[Method], view: View, methods: Sequence[type[Method]]) -> float:
        space = space_of(method, self.config.search, False)
        setting = tuple(sorted(any_setting(space).items()))
        weights = self.config.search.weights
        profile, is_counted = method_profile(
            self.step, self.teacher, method, self.shapes, view, setting, weights
        )
        if not is_counted:
            self.guessed.append(method.name)
        size = max(1, min(self.size(view), self._runs_at_once(view, methods)))
        work, steps = _epoch(profile, self.schedule)
        if view.needs:
            live = live_profile(self.teacher, view.needs)
            self.live_seconds[method.name] = self.rates.seconds(*_epoch(live, self.schedule)[:1])
        self.memory = max(self.memory, size * self._bytes_of_a_run(profile))
        together = size if method.supports_vmap else 1
        return self.rates.seconds(work, self.trained, steps, together)

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


def _epoch(profile: Profile, schedule: LengthSchedule) -> tuple[Work, int]:
    """The work of one run's epoch, and its steps. `held` is the sum, and means nothing."""
    batches = Counter(
        (bucket.width, rows) for bucket in schedule.buckets for rows in bucket.batches
    )
    works = [count * profile.at(*batch).values for batch, count in batches.items()]
    return Work(*np.sum(works, axis=0).tolist()), batches.total()


def _most(profile: Profile, schedule: LengthSchedule) -> float:
    """The most bytes that a step of the schedule holds, besides weights and moments."""
    return max(profile.at(bucket.width, max(bucket.batches)).held for bucket in schedule.buckets)


def _outputs(
    step: CountedStep, inputs: EncodedSplit, arithmetic: Arithmetic, rates: Rates
) -> float:
    """Seconds of a teacher's outputs for the training split, in the batches of a study."""
    profile = live_profile(step)
    return sum(
        rates.seconds(profile.at(batch.width, len(batch.rows)))
        for batch in output_batches(inputs.lengths, arithmetic.device)
    )


def numbers_in_training(
    shape: PretrainedConfig, weights: Mapping[str, Tensor], inputs: EncodedSplit
) -> float:
    """A classifier's numbers in training, of which words count that occur in the training split."""
    words = f"{family_of(shape).words}.weight"
    table = next(value for name, value in weights.items() if name.endswith(words))
    unused = len(table) - len(inputs.vocabulary())
    return float(sum(value.numel() for value in weights.values()) - unused * table.shape[1])


def _bytes(weights: Mapping[str, Tensor]) -> int:
    return sum(value.nbytes for value in weights.values())
