"""Workers that prepare tasks as a command does, and make the results of runs up instead of training."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.made_up_results import (
    POPULATION_SIZE,
    MadeUpSplit,
    made_up_inspections,
    made_up_predictions,
    made_up_record,
)
from harness.data.scores import label_loss
from harness.data.sources import Split, TaskData
from harness.data.tasks import Task
from harness.registry.discovery import registry
from harness.runtime.randomness import derive
from harness.storage.record import LABEL_LOSS, Result
from harness.training.run import Run
from harness.workers.jobs import Advance, Job, Preparation, RunSpec, Sizing, Training
from harness.workers.local import LocalWorker
from harness.workers.populations import PopulationResults
from harness.workers.prepared_task import PreparedTask, TaskOutcome
from harness.workers.workshop import Workshop

SKILLS = (1.5, 0.05, 7)
"""The lowest skill, and the distance and the number of skills. Methods take the skills in turn."""


class MadeUpWorkers(LocalWorker):
    """One worker in this process. A study with these workers leaves the ledger of a trained study.

    A task is prepared once, so all studies must agree on what a preparation depends on.
    """

    def __init__(self, tasks: Mapping[str, TaskData]) -> None:
        super().__init__(Workshop(tasks))
        self.tasks = tasks
        self._outcomes: dict[str, TaskOutcome] = {}
        self._splits = {name: _splits(data) for name, data in tasks.items()}

    def submit(self, job: Job[Any], advance: Advance) -> Future[Any]:
        """Prepare the task, or make the size or the results up."""
        future: Future[Any] = Future()
        if isinstance(job, Preparation):
            if job.task not in self._outcomes:
                self._outcomes[job.task] = job.perform(self.workshop, advance)
            future.set_result(self._outcomes[job.task])
        elif isinstance(job, Sizing):
            future.set_result(POPULATION_SIZE)
        else:
            assert isinstance(job, Training)
            future.set_result(self._results(job))
        return future

    def _results(self, job: Training) -> PopulationResults:
        prepared = PreparedTask(job.config, self.tasks[job.task], self._outcomes[job.task])
        population = [spec.fingerprint for spec in job.runs]
        results = [self._result(_run(prepared, spec), prepared, population) for spec in job.runs]
        return PopulationResults(tuple(results), None)

    def _result(self, run: Run, prepared: PreparedTask, population: list[str]) -> Result:
        """The result of a run, in which only the run's fingerprint decides."""
        task, splits = prepared.task, self._splits[prepared.task.name]
        generator = np.random.default_rng(derive(run.fingerprint))
        low, step, number = SKILLS
        skill = low + step * (list(registry().methods).index(run.method.name) % number)
        predictions, metrics = made_up_predictions(
            task, {name: splits[name] for name, _ in run.inputs.evaluation}, skill, generator
        )
        selection: dict[str, float] = {}
        if run.role == "search" or run.inputs.selection is not None:
            logits, selection = made_up_predictions(
                task, {"selection": splits["selection"]}, skill, generator
            )
            labels = splits["selection"].labels
            selection[LABEL_LOSS] = label_loss(task, labels, logits["selection"].logits)
        record = made_up_record(
            run.fingerprint, run.method, run.inputs, metrics, generator, selection, population
        )
        if run.role == "search":
            return Result(record, {}, {})
        inspections = made_up_inspections(
            run.inputs.training.epochs, task, run.method, run.inputs.split.name, generator
        )
        return Result(record, predictions, inspections)


def _run(prepared: PreparedTask, spec: RunSpec) -> Run:
    method = registry().methods[spec.method]
    return prepared.run(
        method, spec.study, spec.setting, spec.trial, spec.seed, spec.role, spec.round_settings
    )


def _splits(data: TaskData) -> dict[str, MadeUpSplit]:
    """The splits of a task, with a difficulty for each example."""
    generator = np.random.default_rng(0)
    return {
        name: MadeUpSplit(_classes(data.task, split), generator.normal(size=len(split)), "")
        for name, split in data.splits.items()
    }


def _classes(task: Task, split: Split) -> npt.NDArray[Any]:
    return split.labels if task.regression else split.labels.astype(np.int64)
