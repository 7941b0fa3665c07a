"""Jobs: what the driver of a study sends to a worker, and what the worker does.

Jobs and their results are small values of plain kinds, which travel between processes. A worker finds
everything else in the runs folder, or makes it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from harness.config import StudyConfig
from harness.errors import UserError
from harness.method import Method, Value
from harness.models.student import build_classifier, save_student
from harness.own_packages import take_names
from harness.registry.discovery import chosen_methods
from harness.storage.folders import replacement
from harness.storage.record import Role
from harness.storage.students import student_name, students_folder
from harness.training.run import Run
from harness.training.sizing import population_size
from harness.workers.populations import PopulationResults, train_by_halves
from harness.workers.prepared_task import PreparedTask, TaskOutcome
from harness.workers.trainer import Keep, Trainer
from harness.workers.workshop import Workshop

take_names()  # a worker's process begins with this module, and finds methods by their package

T_co = TypeVar("T_co", covariant=True)
Advance = Callable[[int], None]
"""A function that counts optimizer steps as done."""


@dataclass(frozen=True)
class Job(Generic[T_co]):
    """Work on one task under one configuration."""

    config: StudyConfig
    task: str

    def perform(self, workshop: Workshop, advance: Advance) -> T_co:
        """Do the work with the workshop of this process."""
        raise NotImplementedError

    def products(self, result: T_co) -> Sequence[str]:  # type: ignore[misc]  # results are read only
        """The folders, relative to `--out`, that the job has made or found."""
        return ()


@dataclass(frozen=True)
class RunSpec:
    """A run in plain values, and the fingerprint that the worker must find for the run."""

    method: str
    study: str
    trial: int
    seed: int
    role: Role
    setting: Mapping[str, Value]
    round_settings: tuple[Mapping[str, Value], ...]
    fingerprint: str


def spec_of(run: Run) -> RunSpec:
    """The plain values of a run."""
    halving = run.inputs.halving
    return RunSpec(
        run.method.name,
        run.study,
        run.trial,
        run.seed,
        run.role,
        dict(run.setting),
        () if halving is None else halving.round,
        run.fingerprint,
    )


@dataclass(frozen=True)
class Preparation(Job[TaskOutcome]):
    """Make a task's tokens, teacher and teacher outputs, or find them ready."""

    def perform(self, workshop: Workshop, advance: Advance) -> TaskOutcome:
        """The outcome; raises the errors of `harness.training.task_setup.prepare`."""
        return workshop.trainer(self.config, self.task).prepared.outcome

    def products(self, result: TaskOutcome) -> Sequence[str]:
        """The task's sealed folders."""
        return result.folders


@dataclass(frozen=True)
class Sizing(Job[int]):
    """Find how many runs like `run` a worker trains together."""

    run: RunSpec

    def perform(self, workshop: Workshop, advance: Advance) -> int:
        """The size of populations."""
        trainer = workshop.prepared_trainer(self.config, self.task)
        run = _run(trainer.prepared, self.run)
        return population_size(trainer.recipe(trainer.view(run)), trainer.member(run))


@dataclass(frozen=True)
class Training(Job[PopulationResults]):
    """Train runs of one view as a population, and keep the students that `keep` asks for."""

    runs: tuple[RunSpec, ...]

    def perform(self, workshop: Workshop, advance: Advance) -> PopulationResults:
        """The results of all runs. Raises `UserError` where the worker has other code or data."""
        trainer = workshop.prepared_trainer(self.config, self.task)
        runs = [_run(trainer.prepared, spec) for spec in self.runs]
        keep = None if self.config.keep == "none" else _keeper(trainer)
        return train_by_halves(trainer, runs, advance, keep)

    def products(self, result: PopulationResults) -> Sequence[str]:
        """The folders of the students that are kept."""
        if self.config.keep == "none":
            return ()
        complete = {
            entry.record.fingerprint
            for entry in result.results
            if entry.record.status == "complete"
        }
        return [
            str(students_folder(Path(), run.study) / student_name(run.fingerprint))
            for run in self.runs
            if run.role == "report" and run.fingerprint in complete
        ]


def _run(prepared: PreparedTask, spec: RunSpec) -> Run:
    methods = {method.name: method for method in chosen_methods(prepared.config)}
    run = prepared.run(
        methods[spec.method],
        spec.study,
        spec.setting,
        spec.trial,
        spec.seed,
        spec.role,
        spec.round_settings,
    )
    if run.fingerprint != spec.fingerprint:
        raise UserError(
            f"a worker's data, device ({prepared.outcome.device}) or precision "
            f"({prepared.outcome.precision}) differ from the first worker's: its run "
            f"{run.fingerprint[:16]} of {spec.method} should be {spec.fingerprint[:16]}"
        )
    return run


def _keeper(trainer: Trainer) -> Keep:
    """A function that saves a report run's student in its folder under `<out>/students`."""

    def keep(run: Run, weights: Mapping[str, Tensor], method: Method | None) -> None:
        model = build_classifier(trainer.blueprint.config, weights)
        folder = students_folder(Path(trainer.config.out), run.study)
        with replacement(folder / student_name(run.fingerprint)) as new_folder:
            save_student(model, method, trainer.materials.tokenizer, new_folder)

    return keep
