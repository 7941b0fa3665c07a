"""Workers that prepare tasks as a command does, and make the results of runs up instead of training."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
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
from harness.analysis.selection import selection_metrics
from harness.data.scores import label_loss
from harness.data.splits import Split, TaskData
from harness.data.tasks import Task
from harness.registry.discovery import registry
from harness.runtime.randomness import derive
from harness.storage.record import LABEL_LOSS, Predictions, Result
from harness.training.run import Run
from harness.workers.jobs import Advance, Job, Preparation, RunSpec, Sizing, Training
from harness.workers.local import LocalWorker
from harness.workers.populations import PopulationResults
from harness.workers.prepared_task import PreparedTask, TaskOutcome
from harness.workers.workshop import Workshop

SKILLS = (1.5, 0.05, 7)
"""The lowest skill, and the distance and the number of skills. Methods take the skills in turn."""


PATTERNS = 24
"""The patterns of a method's runs on a task. Scores of many runs are slow to compute."""


@dataclass(frozen=True)
class Pattern:
    """What runs share: predictions by split, metrics, selection scores, and inspections by name."""

    predictions: Mapping[str, Predictions]
    metrics: Mapping[str, float]
    selection: Mapping[str, float]
    inspections: Mapping[str, Any]


class MadeUpWorkers(LocalWorker):
    """One worker in this process. A study with these workers leaves the ledger of a trained study.

    A task is prepared once, so all studies must agree on what a preparation depends on.
    """

    def __init__(self, tasks: Mapping[str, TaskData]) -> None:
        super().__init__(Workshop(tasks))
        self.tasks = tasks
        self._outcomes: dict[str, TaskOutcome] = {}
        self._patterns: dict[tuple[str, str, int], Pattern] = {}
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
        """The result of a run. The run's fingerprint decides alone."""
        generator = np.random.default_rng(derive(run.fingerprint))
        pattern = self._pattern(run, prepared.task, int(generator.integers(PATTERNS)))
        selection: dict[str, float] = {}
        if run.role == "search" or run.inputs.selection is not None:
            loss = pattern.selection[LABEL_LOSS] + 0.01 * float(generator.random())
            selection = {**pattern.selection, LABEL_LOSS: loss}
        metrics = selection_metrics(selection) if run.role == "search" else pattern.metrics
        record = made_up_record(
            run.fingerprint, run.method, run.inputs, metrics, generator, selection, population
        )
        is_report = run.role == "report"
        predictions, inspections = (pattern.predictions, pattern.inspections)
        return Result(record, predictions if is_report else {}, inspections if is_report else {})

    def _pattern(self, run: Run, task: Task, number: int) -> Pattern:
        """One of the patterns of a method's runs on a task."""
        key = (task.name, run.method.name, number)
        if key not in self._patterns:
            generator = np.random.default_rng(derive(*key))
            splits = self._splits[task.name]
            low, step, skills = SKILLS
            skill = low + step * (list(registry().methods).index(run.method.name) % skills)
            evaluation = {name: splits[name] for name in task.evaluation}
            predictions, metrics = made_up_predictions(task, evaluation, skill, generator)
            part = {"selection": splits["selection"]}
            logits, selection = made_up_predictions(task, part, skill, generator)
            labels = splits["selection"].labels
            selection[LABEL_LOSS] = label_loss(task, labels, logits["selection"].logits)
            inspections = made_up_inspections(
                run.inputs.training.epochs, task, run.method, next(iter(evaluation)), generator
            )
            self._patterns[key] = Pattern(predictions, metrics, selection, inspections)
        return self._patterns[key]


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
