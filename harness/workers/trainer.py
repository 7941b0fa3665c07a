"""The trainer of runs on one task. The driver writes the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from harness.config import StudyConfig
from harness.data.batches import LengthSchedule
from harness.data.words import WordMarks, word_marks
from harness.errors import MethodError
from harness.evaluation.inspection import InspectionRecorder, Inspector
from harness.evaluation.scoring import Evaluation
from harness.method import Method, Pooling, View
from harness.models.checkpoints import tokenizer_of
from harness.models.size import model_size
from harness.models.student import Blueprint
from harness.models.teacher_outputs import TeacherOutputs
from harness.registry.construction import make_method
from harness.runtime.failures import RunFailed, convert_failures
from harness.storage.compression import Compression
from harness.storage.record import Result
from harness.training.halving import Halving
from harness.training.loop import train_population
from harness.training.recipe import Member, Recipe, engine_of
from harness.training.run import Run
from harness.training.task_setup import Materials
from harness.workers.outcomes import PopulationOutcomes, failed_result
from harness.workers.prepared_task import PreparedTask, TaskOutcome


@dataclass(frozen=True)
class RunResult:
    """A run with its result."""

    run: Run
    result: Result


Keep = Callable[[Run, Mapping[str, Tensor], Method | None], None]
"""A function that keeps a report run's student: weights by name, and the method with its parameters."""


class Trainer:
    """Trains runs on one task, of any method, in populations."""

    def __init__(self, config: StudyConfig, materials: Materials) -> None:
        self.config = config
        self.materials = materials
        self._recipes: dict[View, Recipe] = {}
        self._device_outputs: dict[Pooling, TeacherOutputs] = {}
        self.blueprint = Blueprint(materials.start, config.student, materials.data.mean_score)
        self.rungs = config.search.rungs
        self.prepared = PreparedTask(config, materials.data, self._outcome())
        self.evaluation = Evaluation(materials)
        self.inspector = Inspector(materials, self.blueprint)

    def _outcome(self) -> TaskOutcome:
        """The outcome of the task's preparation. Raises `MethodError` for rungs without populations."""
        config, materials = self.config, self.materials
        schedule = LengthSchedule(materials.inputs["train"].lengths, config.training.batch_size)
        engine = engine_of(config.training.engine, self.blueprint.config)
        if self.rungs and engine == "reference":
            raise MethodError(
                "search.rungs: runs of this kind of encoder are trained one at a time, and not in rounds"
            )
        return TaskOutcome(
            teacher=materials.facts,
            from_outside=materials.teacher.from_outside,
            start_fingerprint=materials.start_fingerprint,
            shapes=materials.shapes(config),
            teacher_encoder=materials.teacher.model.config,
            student_encoder=self.blueprint.config,
            engine=engine,
            precision=materials.arithmetic.name,
            device=materials.arithmetic.device.type,
            steps=schedule.steps_per_epoch * config.training.epochs,
            splits=materials.splits,
            folders=tuple(str(folder.relative_to(config.out)) for folder in materials.folders),
            shares_tokens=materials.shares_tokens,
            compression=self._compression(),
        )

    def _compression(self) -> Compression:
        """The sizes of teacher and students, at the mean lengths of the split that decides."""
        materials = self.materials
        split = next(iter(materials.data.evaluation))
        teacher, student = (
            model_size(model, round(float(inputs[split].lengths.mean())))
            for model, inputs in (
                (materials.teacher.model, materials.teacher_inputs),
                (self.blueprint.skeleton, materials.inputs),
            )
        )
        return Compression(teacher, student)

    def recipe(self, view: View) -> Recipe:
        """The recipe of runs whose methods have that view."""
        if view not in self._recipes:
            materials, config = self.materials, self.config
            self._recipes[view] = Recipe(
                model=self.blueprint.config,
                inputs=materials.inputs["train"],
                labels=materials.labels,
                label_weights=materials.label_weights,
                teacher=self._outputs(view.pooling),
                regression=materials.data.task.regression,
                view=view,
                training=config.training,
                weights=config.search.weights,
                arithmetic=materials.arithmetic,
                live_teacher=materials.teacher.model if view.needs else None,
                word_marks=self._word_marks if "words" in view.needs else None,
            )
        return self._recipes[view]

    @cached_property
    def _word_marks(self) -> WordMarks:
        """The marks of the students' vocabulary, on the device."""
        marks = word_marks(tokenizer_of(self.materials.tokenizer))
        return WordMarks(marks.kinds.to(self.materials.arithmetic.device))

    def _outputs(self, pooling: Pooling) -> TeacherOutputs:
        """The teacher's outputs for the training split, on the device: one copy for all views."""
        if pooling not in self._device_outputs:
            outputs = self.materials.outputs["train"][pooling]
            self._device_outputs[pooling] = outputs.to_device(self.materials.arithmetic.device)
        return self._device_outputs[pooling]

    def view(self, run: Run) -> View:
        """The outputs of the models that a run's method needs."""
        return run.method.view(self.config.pooling)

    def member(self, run: Run) -> Member:
        """A run as a member of a population."""
        return Member(
            weights=self.blueprint.weights(run.seed),
            method=make_method(
                run.method, self.materials.shapes(self.config), run.setting, run.seed
            ),
            setting=run.setting,
            seed=run.seed,
        )

    def train(
        self, runs: Sequence[Run], advance: Callable[[int], None], keep: Keep | None = None
    ) -> list[RunResult]:
        """Train runs as one population, and `keep` the students of its complete report runs.

        A run that cannot be made, or that fails alone, has a failed result. What concerns all of the
        runs is raised.
        """
        trainable, members, results = self._make_members(runs)
        if not trainable:
            return results
        outcomes = self._train_members(trainable, members, advance)
        for index, run in enumerate(trainable):
            result = outcomes.result(index)
            results.append(RunResult(run, result))
            if keep is not None and run.role == "report" and result.record.status == "complete":
                keep(run, *outcomes.student(index))
        return results

    def _make_members(self, runs: Sequence[Run]) -> tuple[list[Run], list[Member], list[RunResult]]:
        """Runs whose members could be made, these members, and failed results of the other runs."""
        trainable: list[Run] = []
        members: list[Member] = []
        failures: list[RunResult] = []
        for run in runs:
            try:
                with convert_failures():
                    members.append(self.member(run))
            except RunFailed as error:
                failures.append(RunResult(run, failed_result(run, str(error))))
            else:
                trainable.append(run)
        return trainable, members, failures

    def _train_members(
        self, runs: Sequence[Run], members: list[Member], advance: Callable[[int], None]
    ) -> PopulationOutcomes:
        """Train the members of runs together. `members` is empty afterwards, to free their weights."""
        halving = self._halving(runs)
        recorder = self._inspection_recorder(runs, members)
        population, outcomes = train_population(
            [members.pop(0) for _ in runs],
            self.recipe(self.view(runs[0])),
            advance,
            None if halving is None else halving.stay,
            recorder,
        )
        prunings = {} if halving is None else halving.prunings
        return PopulationOutcomes(runs, outcomes, population, prunings, recorder, self.evaluation)

    def _halving(self, runs: Sequence[Run]) -> Halving | None:
        """Successive halving of search runs, where there are rungs."""
        if not self.rungs or any(run.role != "search" for run in runs):
            return None
        metric = self.materials.data.task.metrics[0]
        criterion = self.config.search.criterion
        return Halving(self.rungs, metric, criterion, runs, self.evaluation.selection_scores)

    def _inspection_recorder(
        self, runs: Sequence[Run], members: Sequence[Member]
    ) -> InspectionRecorder | None:
        """The recorder of report runs' inspections. Those of search runs nobody would read."""
        methods = [member.method for member in members if member.method is not None]
        if any(run.role != "report" for run in runs):
            return None
        return InspectionRecorder(self.inspector, runs, methods, self.view(runs[0]).pooling)
