"""Results of one population's runs: records, predictions and inspections from the outcomes."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harness.analysis.selection import selection_metrics
from harness.evaluation.inspection import InspectionRecorder
from harness.evaluation.scoring import Evaluation, RunScores
from harness.method import Method
from harness.runtime.failures import RunFailed, convert_failures
from harness.runtime.provenance import provenance
from harness.storage.record import Record, Result, RunProvenance, Status
from harness.training.halving import Pruning
from harness.training.loop import Outcome
from harness.training.population import Population
from harness.training.run import Run

NO_TRAINING = Outcome([], 0.0, 0.0, 0)
"""The outcome of a run that could not begin."""


class PopulationOutcomes:
    """The outcomes of runs in one population, in the order of `runs`.

    `population` holds the members that reached the last epoch. `prunings` are by the run's index.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        outcomes: Sequence[Outcome],
        population: Population,
        prunings: Mapping[int, Pruning],
        recorder: InspectionRecorder | None,
        evaluation: Evaluation,
    ) -> None:
        self.runs = runs
        self.outcomes = outcomes
        self.population = population
        self.prunings = prunings
        self.recorder = recorder
        self.evaluation = evaluation
        self.fingerprints = [run.fingerprint for run in runs]
        self.rows = {index: row for row, index in enumerate(population.indices)}
        self.predictions = evaluation.predict(population, runs)

    def result(self, index: int) -> Result:
        """The result of a run: complete, pruned or failed."""
        run, outcome = self.runs[index], self.outcomes[index]
        if outcome.failure is not None:
            return failed_result(run, outcome.failure, outcome, self.fingerprints)
        if index in self.prunings:
            return self._pruned_result(index)
        try:
            with convert_failures():
                scores = self._scores(index)
        except RunFailed as error:
            return failed_result(run, str(error), outcome, self.fingerprints)
        record = _record(run, outcome, scores.metrics, "complete", None, self.fingerprints)
        record = replace(record, selection=scores.selection)
        inspections = dict(scores.inspections)
        if self.recorder is not None:
            inspections |= self.recorder.records(index)
        return Result(record, scores.predictions if run.role == "report" else {}, inspections)

    def student(self, index: int) -> tuple[dict[str, Tensor], Method | None]:
        """The weights by name of a run's student, and its method with what it has learned."""
        row = self.rows[index]
        return self.population.network.weights(row), self.population.method(row)

    def _pruned_result(self, index: int) -> Result:
        run, outcome, pruning = self.runs[index], self.outcomes[index], self.prunings[index]
        metrics = selection_metrics(pruning.scores)
        record = _record(run, outcome, metrics, "pruned", pruning.reason, self.fingerprints)
        return Result(replace(record, selection=pruning.scores), {}, {})

    def _scores(self, index: int) -> RunScores:
        """The scores of a run. Raises `RunFailed` where a metric is not a finite number."""
        run, row = self.runs[index], self.rows[index]
        outputs = {split: layers[row] for split, layers in self.predictions.items()}
        pooling = self.population.recipe.view.pooling
        scores = self.evaluation.score(run, self.population.method(row), outputs, pooling)
        for name, value in (*scores.metrics.items(), *scores.selection.items()):
            if not np.isfinite(value):
                raise RunFailed(f"{name} is not a finite number")
        return scores


def failed_result(
    run: Run, reason: str, outcome: Outcome = NO_TRAINING, population: Sequence[str] = ()
) -> Result:
    """The result of a run that failed, alone or in a population of runs with these fingerprints."""
    record = _record(run, outcome, {}, "failed", reason, population or [run.fingerprint])
    return Result(record, {}, {})


def _record(
    run: Run,
    outcome: Outcome,
    metrics: dict[str, float],
    status: Status,
    reason: str | None,
    population: Sequence[str],
) -> Record:
    surroundings = RunProvenance(
        **vars(provenance()),
        threads=torch.get_num_threads(),
        population=tuple(population),
        worker=_worker(),
    )
    return Record(
        fingerprint=run.fingerprint,
        inputs=run.inputs,
        status=status,
        reason=reason,
        metrics=metrics,
        selection={},
        curves=tuple(outcome.curves),
        seconds=outcome.seconds,
        examples_per_second=outcome.examples_per_second,
        peak_memory=float(outcome.peak_memory),
        provenance=surroundings,
    )


def _worker() -> str:
    """The name of this process: machine, process number, and the GPU that it alone sees."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    return name if gpu is None else f"{name}, GPU {gpu}"
