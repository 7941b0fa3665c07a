"""Runs to records: train what has no record yet, each run once however many workers ask for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from harness.claims import Claims
from harness.config import StudyConfig
from harness.errors import MethodError
from harness.failures import RunFailed, is_out_of_memory, recorded
from harness.inspection import inspect_run
from harness.kept import KeptStudents
from harness.ledger import Ledger, Predictions, Record, Role
from harness.materials import Materials
from harness.method import Method, Value
from harness.metrics import evaluate
from harness.progress import progress, say
from harness.provenance import provenance
from harness.randomness import generator, global_seed, key_dropout
from harness.runs import Run, method_source
from harness.student import make_student
from harness.tasks import Task
from harness.train import RESULTS_VERSION, Member, Outcome, Recipe, train_population

NOTHING = Outcome([], 0.0, 0.0, 0)
"""Of a run that could not begin."""
POLL_SECONDS = 1.0
POPULATION = 4
"""Runs trained together; their results do not depend on it."""


@dataclass(frozen=True)
class Result:
    """A run's record with its predictions, by split, and what was looked at inside."""

    record: Record
    predictions: dict[str, Predictions]
    inspections: dict[str, object]


class Executor:
    """Trains the runs of one method on one task and writes their records."""

    def __init__(
        self,
        config: StudyConfig,
        materials: Materials,
        method: type[Method],
        study: str,
        ledger: Ledger,
        claims: Claims,
    ) -> None:
        self.config = config
        self.materials = materials
        self.method = method
        self.study = study
        self.ledger = ledger
        self.claims = claims
        self.kept = KeptStudents(Path(config.out), study, config.keep, ledger, claims)
        self._tried: set[str] = set()
        self.recipe = Recipe(
            inputs=materials.inputs["train"],
            labels=materials.labels,
            teacher=materials.outputs["train"],
            regression=materials.data.task.regression,
            pooling=config.pooling,
            training=config.training,
            weights=config.search.weights,
            arithmetic=materials.arithmetic,
        )

    def run(self, setting: Mapping[str, Value], trial: int, seed: int, role: Role) -> Run:
        """The run of a setting and seed, with everything that its result depends on."""
        data, training = self.materials.data, asdict(self.config.training)
        splits = {"selection": data.selection} if role == "search" else data.evaluation
        inputs = {
            "results_version": RESULTS_VERSION,
            "task": _identity(data.task),
            "source": self.config.source.kind,
            "method": self.method.name,
            "method_source": method_source(self.method),
            "setting": dict(setting),
            "seed": seed,
            "role": role,
            "teacher": self.materials.teacher.fingerprint,
            "student": asdict(self.config.student),
            "start": self.materials.start_fingerprint,
            "pooling": self.config.pooling,
            "training": {**training, "precision": self.materials.arithmetic.name},
            "weights": self.config.search.weights,
            "device": self.materials.arithmetic.device.type,
            "train": data.train.sha256,
            "evaluation": [[name, split.sha256] for name, split in splits.items()],
        }
        return Run(trial, seed, role, setting, inputs)

    @property
    def steps(self) -> int:
        """Optimizer steps of one run."""
        return self.recipe.schedule().steps_per_epoch * self.config.training.epochs

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
                self.ledger.use_run(self.study, run.role, run.trial, run.seed, run.fingerprint)
        return records

    def _train_claimed(self, runs: Sequence[Run], advance: Callable[[int], None]) -> None:
        """Train up to `POPULATION` of the runs that nobody else is training."""
        with ExitStack() as held:
            mine: list[Run] = []
            for run in runs:
                if held.enter_context(self.claims.claim(run.fingerprint)):
                    mine.append(run)
                if len(mine) == POPULATION:
                    break
            done = self._settled(self.ledger.records([run.fingerprint for run in mine]))
            population = [run for run in mine if run.fingerprint not in done]
            for run in self._train_together(population, advance):
                self._train_together([run], advance)

    def _train_together(self, runs: Sequence[Run], advance: Callable[[int], None]) -> list[Run]:
        """Train and write runs; returns those that had too little memory beside the others."""
        crowded = []
        for run, member, result in self._train(runs, advance):
            if len(runs) > 1 and is_out_of_memory(result.record.reason):
                crowded.append(run)
            else:
                self._write(run, member, result)
        return crowded

    def _train(
        self, runs: Sequence[Run], advance: Callable[[int], None]
    ) -> Iterator[tuple[Run, Member | None, Result]]:
        """Train runs as one population; yields each as it ends, without a member if that failed."""
        members: list[Member] = []
        by_member: dict[int, Run] = {}
        for run in runs:
            try:
                with recorded():
                    members.append(self._member(run))
            except RunFailed as error:
                yield run, None, self._failed(run, str(error))
            else:
                by_member[id(members[-1])] = run
        for member, outcome in train_population(members, self.recipe, advance):
            run = by_member[id(member)]
            yield run, member, self._result(run, member, outcome)

    def _settled(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """The records that stand: a command tries once more what had too little memory before it."""
        return {
            key: record
            for key, record in records.items()
            if key in self._tried or not is_out_of_memory(record.reason)
        }

    def check(self, fixed: Mapping[str, Value]) -> None:
        """Build student and method once: what cannot be used is refused before any training.

        Raises:
            MethodError: the method or the depth cannot be used with this teacher.
        """
        searched = {
            name: hyper.distribution.to_external_repr(0)
            for name, hyper in self.method.space.items()
            if hyper.kind == "structural" and name not in fixed
        }
        try:
            with recorded():
                self._method({**searched, **fixed}, 0)
                self._new_student(0)
        except RunFailed as error:
            if isinstance(error.__cause__, MethodError):
                raise error.__cause__ from None
            raise MethodError(f"{self.method.name}: {error}") from error

    def _method(self, setting: Mapping[str, Value], seed: int) -> Method:
        structure = {
            name: setting[name]
            for name, hyper in self.method.space.items()
            if hyper.kind == "structural"
        }
        shapes = self.materials.shapes(self.config.student.layers)
        with global_seed("method", seed):
            return self.method(shapes, structure, generator("method", seed))

    def _new_student(self, seed: int) -> PreTrainedModel:
        materials = self.materials
        return make_student(materials.start, self.config.student, seed, materials.data.mean_score)

    def _member(self, run: Run) -> Member:
        student = self._new_student(run.seed)
        method = self._method(run.setting, run.seed)
        return Member(
            model=student,
            dropout=key_dropout(student),
            method=method.to(self.materials.arithmetic.device),
            setting=run.setting,
            seed=run.seed,
        )

    def repeat(self, run: Run, advance: Callable[[int], None]) -> Result:
        """Train a run whether or not it has a record, and write nothing."""
        ((_, _, result),) = self._train([run], advance)
        return result

    def _write(self, run: Run, member: Member | None, result: Result) -> None:
        if result.record.reason is not None:
            say(f"warning: {self.method.name}, seed {run.seed}: failed: {result.record.reason}")
        elif member is not None and run.role == "report":
            teacher = self.materials.teacher.folder
            self.kept.save(run.fingerprint, member.model, member.method, teacher)
        self._tried.add(run.fingerprint)
        predictions = result.predictions if run.role == "report" else {}
        self.ledger.write_run(result.record, predictions, result.inspections)

    def _result(self, run: Run, member: Member, outcome: Outcome) -> Result:
        if outcome.failure is not None:
            return self._failed(run, outcome.failure, outcome)
        try:
            with recorded():
                predictions, inspections, metrics = self._evaluate(run, member)
                wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
                if wrong:
                    raise RunFailed(f"{wrong[0]} is not a finite number")
        except RunFailed as error:
            return self._failed(run, str(error), outcome)
        return Result(self._record(run, outcome, metrics, None), predictions, inspections)

    def _failed(self, run: Run, reason: str, outcome: Outcome = NOTHING) -> Result:
        return Result(self._record(run, outcome, {}, reason), {}, {})

    def _record(
        self, run: Run, outcome: Outcome, metrics: dict[str, float], failure: str | None
    ) -> Record:
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
            provenance={**provenance(), "threads": torch.get_num_threads()},
        )

    def _evaluate(
        self, run: Run, member: Member
    ) -> tuple[dict[str, Predictions], dict[str, object], dict[str, float]]:
        predictions: dict[str, Predictions] = {}
        inspections: dict[str, object] = {}
        metrics: dict[str, float] = {}
        data = self.materials.data
        for position, name in enumerate(name for name, _ in run.inputs["evaluation"]):
            split = data.splits[name]
            layers, seen = inspect_run(
                member,
                name,
                self.materials.inputs[name],
                self.materials.outputs[name],
                self.config.pooling,
                self.materials.arithmetic,
            )
            logits = layers.logits.numpy()
            if not np.isfinite(logits).all():
                raise RunFailed(f"the logits of {name} are not finite numbers")
            scores = evaluate(data.task, split.labels, logits)
            # The first split's metrics carry plain names; a further one (MNLI's) its own.
            metrics |= scores if position == 0 else {f"{k} ({name})": v for k, v in scores.items()}
            predictions[name] = Predictions(logits, split.labels.astype(np.float64), split.ids)
            if position == 0:
                inspections |= seen
        return predictions, inspections, metrics


def _identity(task: Task) -> Any:
    """A task's identity, with the metrics of a user's own."""
    return {**task.identity, "metrics": list(task.metrics)} if task.custom else task.identity
