"""Runs to records: train what has no record yet, each run once however many workers ask for it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.claims import Claims
from harness.config import StudyConfig
from harness.errors import MethodError
from harness.failures import RunFailed, is_out_of_memory, recorded
from harness.inspection import inspect_run
from harness.kept import KeptStudents
from harness.ledger import Ledger, Predictions, Record, Result, Role
from harness.materials import Materials
from harness.method import Layers, Method, Value
from harness.metrics import evaluate
from harness.population import Population
from harness.progress import progress, say
from harness.provenance import provenance
from harness.randomness import generator, global_seed
from harness.recipe import Member, Recipe, engine_of
from harness.runs import Run, method_source
from harness.sizing import population_size
from harness.student import Blueprint
from harness.tasks import Task
from harness.train import RESULTS_VERSION, Outcome, train_population

NOTHING = Outcome([], 0.0, 0.0, 0)
"""Of a run that could not begin."""
POLL_SECONDS = 1.0

Trained = tuple[Run, Result, dict[str, Tensor] | None, Method | None]
"""A run with its result, and its student's weights and method if they are to be kept."""


class Executor:
    """Trains runs on one task, of any method, and writes their records."""

    def __init__(
        self, config: StudyConfig, materials: Materials, ledger: Ledger, claims: Claims
    ) -> None:
        self.config = config
        self.materials = materials
        self.ledger = ledger
        self.claims = claims
        self._tried: set[str] = set()
        self._kept: dict[str, KeptStudents] = {}
        self.blueprint = Blueprint(materials.start, config.student, materials.data.mean_score)
        self.engine = engine_of(config.training.engine, self.blueprint.config)
        self.recipe = Recipe(
            model=self.blueprint.config,
            inputs=materials.inputs["train"],
            labels=materials.labels,
            teacher=materials.outputs["train"],
            regression=materials.data.task.regression,
            pooling=config.pooling,
            training=config.training,
            weights=config.search.weights,
            arithmetic=materials.arithmetic,
        )

    def run(
        self,
        method: type[Method],
        study: str,
        setting: Mapping[str, Value],
        trial: int,
        seed: int,
        role: Role,
    ) -> Run:
        """The run of a setting and seed, with everything that its result depends on."""
        data, training = self.materials.data, asdict(self.config.training)
        splits = {"selection": data.selection} if role == "search" else data.evaluation
        used = {"precision": self.materials.arithmetic.name, "engine": self.engine}
        inputs = {
            "results_version": RESULTS_VERSION,
            "task": _identity(data.task),
            "source": self.config.source.kind,
            "method": method.name,
            "method_source": method_source(method),
            "setting": dict(setting),
            "seed": seed,
            "role": role,
            "teacher": self.materials.teacher.fingerprint,
            "student": asdict(self.config.student),
            "start": self.materials.start_fingerprint,
            "pooling": self.config.pooling,
            "training": {**training, **used},
            "weights": self.config.search.weights,
            "device": self.materials.arithmetic.device.type,
            "train": data.train.sha256,
            "evaluation": [[name, split.sha256] for name, split in splits.items()],
        }
        return Run(method, study, trial, seed, role, setting, inputs)

    @property
    def steps(self) -> int:
        """Optimizer steps of one run."""
        return self.recipe.schedule().steps_per_epoch * self.config.training.epochs

    @cached_property
    def size(self) -> int:
        """How many runs are trained together; what is asked does not depend on it."""
        weights = self.blueprint.weights(0)
        return population_size(self.recipe, Member(weights, None, {"learning_rate": 1e-6}, 0))

    def kept(self, study: str) -> KeptStudents:
        """The kept students of a study."""
        if study not in self._kept:
            config = self.config
            self._kept[study] = KeptStudents(
                Path(config.out), study, config.keep, self.ledger, self.claims
            )
        return self._kept[study]

    def execute(self, runs: Sequence[Run], label: str) -> dict[str, Record]:
        """The records of all runs, by fingerprint; trains those that have none.

        A run that another worker has claimed is waited for.
        """
        by_fingerprint = {run.fingerprint: run for run in runs}
        records = self._settled(self._records(runs))
        missing = [run for key, run in by_fingerprint.items() if key not in records]
        if not missing:
            return records
        with progress(label, self.steps * len(missing)) as advance:
            while missing:
                self._train_claimed(missing, advance)
                records = self._settled(self._records(missing))
                left = [run for run in missing if run.fingerprint not in records]
                if len(left) == len(missing):
                    time.sleep(POLL_SECONDS)
                missing = left
        return self._records(runs)

    def _records(self, runs: Sequence[Run]) -> dict[str, Record]:
        """The records that exist, by fingerprint, noted as used by the study; settings may repeat."""
        records = self.ledger.records({run.fingerprint for run in runs})
        for run in runs:
            if run.fingerprint in records:
                self.ledger.use_run(run.study, run.role, run.trial, run.seed, run.fingerprint)
        return records

    def _train_claimed(self, runs: Sequence[Run], advance: Callable[[int], None]) -> None:
        """Train a population of the runs that nobody else is training."""
        with ExitStack() as held:
            mine: list[Run] = []
            for run in runs:
                if held.enter_context(self.claims.claim(run.fingerprint)):
                    mine.append(run)
                if len(mine) == self.size:
                    break
            done = self._settled(self.ledger.records([run.fingerprint for run in mine]))
            self._train_and_write([run for run in mine if run.fingerprint not in done], advance)

    def _train_and_write(self, runs: Sequence[Run], advance: Callable[[int], None]) -> None:
        """Train runs together; where that fails, as for lack of memory, each half by itself."""
        if not runs:
            return
        try:
            with recorded():
                trained = self._train(runs, advance)
        except RunFailed as error:
            if len(runs) > 1:
                self._free()
                half = len(runs) // 2
                say(f"warning: {len(runs)} runs together: {error}; going on with {half} at a time")
                for part in (runs[:half], runs[half:]):
                    self._train_and_write(part, advance)
                return
            trained = [(runs[0], self._failed(runs[0], str(error)), None, None)]
        self._write(trained)

    def _train(self, runs: Sequence[Run], advance: Callable[[int], None]) -> list[Trained]:
        """Train runs as one population. Raises what concerns all of them."""
        members: list[Member] = []
        sound: list[Run] = []
        trained: list[Trained] = []
        for run in runs:
            try:
                with recorded():
                    members.append(self._member(run))
            except RunFailed as error:
                trained.append((run, self._failed(run, str(error)), None, None))
            else:
                sound.append(run)
        if not members:
            return trained
        names = [run.fingerprint for run in sound]
        population, outcomes = train_population(members, self.recipe, advance)
        places = {member: place for place, member in enumerate(population.order)}
        seen = self._predict(population, sound)
        for member, (run, outcome) in enumerate(zip(sound, outcomes, strict=True)):
            if outcome.failure is not None:
                result = self._failed(run, outcome.failure, outcome, names)
                trained.append((run, result, None, None))
                continue
            place = places[member]
            method = population.method(place)
            layers = {name: found[place] for name, found in seen.items()}
            result = self._result(run, method, layers, outcome, names)
            keeps = run.role == "report" and result.record.status == "complete"
            weights = population.network.weights(place) if keeps else None
            trained.append((run, result, weights, method))
        return trained

    def _predict(self, population: Population, runs: Sequence[Run]) -> dict[str, list[Layers]]:
        """By split: what every member of the population says of its examples."""
        if not population.members:
            return {}
        looked_at = any(group.matches_layers for group in population.groups)
        names = {name for run in runs for name, _ in run.inputs["evaluation"]}
        return {
            name: population.predict(
                self.materials.inputs[name], self.config.pooling if looked_at else None
            )
            for name in sorted(names)
        }

    def _free(self) -> None:
        """Give back what a population held before another one is made."""
        gc.collect()
        if self.materials.arithmetic.device.type == "cuda":
            torch.cuda.empty_cache()

    def _settled(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """The records that stand: a command tries once more what had too little memory before it."""
        return {
            key: record
            for key, record in records.items()
            if key in self._tried or not is_out_of_memory(record.reason)
        }

    def check(self, method: type[Method], fixed: Mapping[str, Value]) -> None:
        """Build a method once: what cannot be used is refused before any training.

        Raises:
            MethodError: the method cannot be used with this teacher and depth.
        """
        searched = {
            name: hyper.distribution.to_external_repr(0)
            for name, hyper in method.space.items()
            if hyper.kind == "structural" and name not in fixed
        }
        try:
            with recorded():
                self._method(method, {**searched, **fixed}, 0)
        except RunFailed as error:
            if isinstance(error.__cause__, MethodError):
                raise error.__cause__ from None
            raise MethodError(f"{method.name}: {error}") from error

    def _method(self, method: type[Method], setting: Mapping[str, Value], seed: int) -> Method:
        structure = {
            name: setting[name]
            for name, hyper in method.space.items()
            if hyper.kind == "structural"
        }
        shapes = self.materials.shapes(self.config.student.layers)
        with global_seed("method", seed):
            return method(shapes, structure, generator("method", seed))

    def _member(self, run: Run) -> Member:
        return Member(
            weights=self.blueprint.weights(run.seed),
            method=self._method(run.method, run.setting, run.seed),
            setting=run.setting,
            seed=run.seed,
        )

    def repeat(self, runs: Sequence[Run], advance: Callable[[int], None]) -> dict[str, Result]:
        """Train runs together whether or not they have records, and write nothing."""
        trained = self._train(runs, advance)
        return {run.fingerprint: result for run, result, _, _ in trained}

    def _write(self, trained: Sequence[Trained]) -> None:
        """Keep students and write the records, in one transaction: a population is there whole."""
        for run, result, weights, method in trained:
            if result.record.reason is not None:
                say(f"warning: {run.method.name}, seed {run.seed}: failed: {result.record.reason}")
            elif weights is not None:
                folder = self.materials.teacher.folder
                kept = self.kept(run.study)
                kept.save(run.fingerprint, self.blueprint.config, weights, method, folder)
            self._tried.add(run.fingerprint)
        self.ledger.write_runs([result for _, result, _, _ in trained])

    def _result(
        self,
        run: Run,
        method: Method | None,
        layers: Mapping[str, Layers],
        outcome: Outcome,
        population: Sequence[str],
    ) -> Result:
        try:
            with recorded():
                predictions, inspections, metrics = self._evaluate(run, method, layers)
                wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
                if wrong:
                    raise RunFailed(f"{wrong[0]} is not a finite number")
        except RunFailed as error:
            return self._failed(run, str(error), outcome, population)
        record = self._record(run, outcome, metrics, None, population)
        return Result(record, predictions if run.role == "report" else {}, inspections)

    def _failed(
        self,
        run: Run,
        reason: str,
        outcome: Outcome = NOTHING,
        population: Sequence[str] = (),
    ) -> Result:
        return Result(self._record(run, outcome, {}, reason, population), {}, {})

    def _record(
        self,
        run: Run,
        outcome: Outcome,
        metrics: dict[str, float],
        failure: str | None,
        population: Sequence[str],
    ) -> Record:
        surroundings = {
            **provenance(),
            "threads": torch.get_num_threads(),
            "population": list(population) or [run.fingerprint],
        }
        return Record(
            fingerprint=run.fingerprint,
            inputs=dict(run.inputs),
            status="complete" if failure is None else "failed",
            reason=failure,
            metrics=metrics,
            curves=outcome.curves,
            seconds=outcome.seconds,
            examples_per_second=outcome.examples_per_second,
            peak_memory=float(outcome.peak_memory),
            provenance=surroundings,
        )

    def _evaluate(
        self, run: Run, method: Method | None, layers: Mapping[str, Layers]
    ) -> tuple[dict[str, Predictions], dict[str, object], dict[str, float]]:
        predictions: dict[str, Predictions] = {}
        inspections: dict[str, object] = {}
        metrics: dict[str, float] = {}
        data = self.materials.data
        for position, name in enumerate(name for name, _ in run.inputs["evaluation"]):
            split = data.splits[name]
            logits = layers[name].logits.numpy()
            if not np.isfinite(logits).all():
                raise RunFailed(f"the logits of {name} are not finite numbers")
            scores = evaluate(data.task, split.labels, logits)
            # The first split's metrics carry plain names; a further one (MNLI's) its own.
            metrics |= scores if position == 0 else {f"{k} ({name})": v for k, v in scores.items()}
            predictions[name] = Predictions(logits, split.labels.astype(np.float64), split.ids)
            if position == 0 and method is not None and method.matches_layers():
                outputs = self.materials.outputs[name]
                inspections |= inspect_run(method, name, layers[name], outputs)
        return predictions, inspections, metrics


def _identity(task: Task) -> Any:
    """A task's identity, with the metrics of a user's own."""
    return {**task.identity, "metrics": list(task.metrics)} if task.custom else task.identity
