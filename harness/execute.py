"""Runs to records: train what has no record yet, each run once however many workers ask for it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.claims import Claims
from harness.config import StudyConfig
from harness.errors import MethodError
from harness.evaluation import Evaluation
from harness.failures import RunFailed, is_out_of_memory, recorded
from harness.halving import Halving, round_of
from harness.kept import KeptStudents
from harness.ledger import Ledger, Record, Result, Role, Status
from harness.making import check_method, make_method
from harness.materials import Materials
from harness.method import Layers, Method, Pooling, Value, View
from harness.model_card import model_card
from harness.progress import progress, say
from harness.provenance import provenance
from harness.recipe import Member, Recipe, engine_of
from harness.runs import Run, method_source
from harness.sizing import population_size
from harness.student import Blueprint
from harness.tasks import Task
from harness.teacher_outputs import TeacherOutputs
from harness.train import RESULTS_VERSION, Outcome, train_population

NOTHING = Outcome([], 0.0, 0.0, 0)
"""Of a run that could not begin."""
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Trained:
    """A run with its result."""

    run: Run
    result: Result


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
        self._sizes: dict[View, int] = {}
        self._recipes: dict[View, Recipe] = {}
        self._placed: dict[Pooling, TeacherOutputs] = {}
        self.blueprint = Blueprint(materials.start, config.student, materials.data.mean_score)
        self.engine = engine_of(config.training.engine, self.blueprint.config)
        self.rungs = config.search.rungs
        if self.rungs and self.engine == "reference":
            raise MethodError(
                "search.rungs: runs of this kind of encoder are trained one at a time, and not in rounds"
            )
        self.evaluation = Evaluation(materials)

    def run(
        self,
        method: type[Method],
        study: str,
        setting: Mapping[str, Value],
        trial: int,
        seed: int,
        role: Role,
        company: Sequence[Mapping[str, Value]] = (),
    ) -> Run:
        """The run of a setting and seed, with everything that its result depends on.

        With rungs that is the `company` of its round's settings, too.
        """
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
        if self.rungs and role == "search":
            inputs["halving"] = {"rungs": list(self.rungs), "round": [dict(own) for own in company]}
        return Run(method, study, trial, seed, role, setting, inputs)

    @property
    def steps(self) -> int:
        """Optimizer steps of one run."""
        schedule = self.recipe(View(self.config.pooling)).schedule()
        return schedule.steps_per_epoch * self.config.training.epochs

    def recipe(self, view: View) -> Recipe:
        """How the runs of methods with that view are trained."""
        if view not in self._recipes:
            materials, config = self.materials, self.config
            self._recipes[view] = Recipe(
                model=self.blueprint.config,
                inputs=materials.inputs["train"],
                labels=materials.labels,
                teacher=self._outputs(view.pooling),
                regression=materials.data.task.regression,
                view=view,
                training=config.training,
                weights=config.search.weights,
                arithmetic=materials.arithmetic,
                live=materials.teacher.model if view.needs else None,
            )
        return self._recipes[view]

    def _outputs(self, pooling: Pooling) -> TeacherOutputs:
        """The training split's, where batches find them fastest: one copy for all views."""
        if pooling not in self._placed:
            outputs = self.materials.outputs["train"][pooling]
            self._placed[pooling] = outputs.on(self.materials.arithmetic.device)
        return self._placed[pooling]

    def view(self, run: Run) -> View:
        """What the models of a run hand out."""
        return run.method.view(self.config.pooling)

    def size(self, runs: Sequence[Run]) -> int:
        """How many runs of one view are trained together; what is asked does not depend on it."""
        view = self.view(runs[0])
        if view not in self._sizes:
            matching = [run for run in runs if run.method.matches_layers()]
            self._sizes[view] = population_size(
                self.recipe(view), self._member((matching or [*runs])[0])
            )
        return self._sizes[view]

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
        # Of all runs, not of the missing: a study that goes on or is shared has the same populations.
        populations = self._populations([*by_fingerprint.values()])
        with progress(label, self.steps * len(missing)) as advance:
            while missing:
                self._train_claimed(populations, {run.fingerprint for run in missing}, advance)
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

    def _train_claimed(
        self,
        populations: Sequence[Sequence[Run]],
        missing: set[str],
        advance: Callable[[int], None],
    ) -> None:
        """Train the first population of which nobody else is training a part."""
        for population in populations:
            runs = [run for run in population if run.fingerprint in missing]
            with ExitStack() as held:
                claims = (held.enter_context(self.claims.claim(r.fingerprint)) for r in runs)
                if not runs or not all(claims):
                    continue
                done = self._settled(self.ledger.records([run.fingerprint for run in runs]))
                self._train_and_write([r for r in runs if r.fingerprint not in done], advance)
                return

    def _populations(self, runs: Sequence[Run]) -> list[list[Run]]:
        """The runs in populations of one view, and of the size that pays or of one inseparable group."""
        by_view: dict[View, list[Run]] = {}
        for run in runs:
            by_view.setdefault(self.view(run), []).append(run)
        for view in by_view:
            self.recipe(view)  # what lies on the GPU lies there before any size is chosen
        populations: list[list[Run]] = []
        for alike in by_view.values():
            size = self.size(alike)
            begun: list[Run] = []
            for group in self._inseparable(alike):
                if not begun or len(begun) + len(group) > size:
                    begun = []
                    populations.append(begun)
                begun += group
        return populations

    def _inseparable(self, runs: Sequence[Run]) -> list[list[Run]]:
        """Runs that must be trained together: with rungs those of a study's round, else each alone."""
        if not self.rungs:
            return [[run] for run in runs]
        groups: dict[str, list[Run]] = {}
        for run in runs:
            key = round_of(run) if run.role == "search" else run.fingerprint
            groups.setdefault(key, []).append(run)
        return list(groups.values())

    def _train_and_write(self, runs: Sequence[Run], advance: Callable[[int], None]) -> None:
        """Train runs together; where that raises, each half by itself, down to what is inseparable.

        After a lack of memory no population of this view is larger than the half.
        """
        parts = [runs] if runs else []
        while parts:
            part = parts.pop(0)
            reason = self._try(part, advance)
            if reason is None:
                continue
            groups = self._inseparable(part)
            if len(groups) == 1:
                self._write([Trained(run, self._failed(run, reason)) for run in part])
                continue
            half = (len(groups) + 1) // 2
            halves = [
                [run for group in own for run in group] for own in (groups[:half], groups[half:])
            ]
            parts[:0] = halves
            if is_out_of_memory(reason):
                self._sizes[self.view(part[0])] = len(halves[0])
            say(f"warning: {len(part)} runs together: {reason}; going on with {len(halves[0])}")
            gc.collect()
            if self.materials.arithmetic.device.type == "cuda":
                torch.cuda.empty_cache()

    def _try(self, runs: Sequence[Run], advance: Callable[[int], None]) -> str | None:
        """Train and write runs; returns the reason when they cannot be trained together.

        The exception is not handed on: it holds the population, and so its memory.
        """
        try:
            with recorded():
                trained = self._train(runs, advance, keep=True)
        except RunFailed as error:
            return str(error)
        self._write(trained)
        return None

    def _train(
        self, runs: Sequence[Run], advance: Callable[[int], None], keep: bool
    ) -> list[Trained]:
        """Train runs as one population, and `keep` its students. Raises what concerns all of them."""
        members: list[Member] = []
        sound: list[Run] = []
        trained: list[Trained] = []
        for run in runs:
            try:
                with recorded():
                    members.append(self._member(run))
            except RunFailed as error:
                trained.append(Trained(run, self._failed(run, str(error))))
            else:
                sound.append(run)
        if not members:
            return trained
        names = [run.fingerprint for run in sound]
        halving = None
        if self.rungs and all(run.role == "search" for run in sound):
            metric = self.materials.data.task.metrics[0]
            halving = Halving(self.rungs, metric, sound, self.evaluation.selection_scores)
        population, outcomes = train_population(
            members, self.recipe(self.view(sound[0])), advance, halving
        )
        places = {member: place for place, member in enumerate(population.order)}
        seen = self.evaluation.predict(population, sound)
        for member, (run, outcome) in enumerate(zip(sound, outcomes, strict=True)):
            if outcome.failure is not None:
                trained.append(Trained(run, self._failed(run, outcome.failure, outcome, names)))
                continue
            if halving is not None and member in halving.pruned:
                pruned = halving.pruned[member]
                record = self._record(
                    run, outcome, dict(pruned.metrics), "pruned", pruned.reason, names
                )
                trained.append(Trained(run, Result(record, {}, {})))
                continue
            place = places[member]
            method = population.method(place)
            layers = {name: found[place] for name, found in seen.items()}
            result = self._result(run, method, layers, outcome, names)
            trained.append(Trained(run, result))
            wanted = keep and run.role == "report" and self.config.keep != "none"
            if wanted and result.record.status == "complete":
                self.kept(run.study).save(
                    run.fingerprint,
                    self.blueprint.config,
                    population.network.weights(place),
                    method,
                    self.materials.teacher.folder,
                    model_card(run, result.record, self.materials, self.config),
                )
        return trained

    def _settled(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """The records that stand: a command tries once more what had too little memory before it."""
        return {
            key: record
            for key, record in records.items()
            if key in self._tried or not is_out_of_memory(record.reason)
        }

    def check(self, method: type[Method], fixed: Mapping[str, Value]) -> None:
        """Refuse a method that cannot be used with this teacher and depth. Raises `MethodError`."""
        encoders = (self.blueprint.config, self.materials.teacher.model.config)
        check_method(method, self.materials.shapes(self.config), encoders, fixed)

    def _member(self, run: Run) -> Member:
        return Member(
            weights=self.blueprint.weights(run.seed),
            method=make_method(
                run.method, self.materials.shapes(self.config), run.setting, run.seed
            ),
            setting=run.setting,
            seed=run.seed,
        )

    def repeat(self, runs: Sequence[Run], advance: Callable[[int], None]) -> dict[str, Result]:
        """Train runs together whether or not they have records, and write nothing."""
        try:
            with recorded():
                trained = self._train(runs, advance, keep=False)
        except RunFailed as error:
            return {run.fingerprint: self._failed(run, str(error)) for run in runs}
        return {one.run.fingerprint: one.result for one in trained}

    def _write(self, trained: Sequence[Trained]) -> None:
        """Write the records in one transaction: a population is there whole or not at all."""
        for one in trained:
            record = one.result.record
            if record.status == "failed":
                say(f"warning: {one.run.method.name}, seed {one.run.seed}: failed: {record.reason}")
            self._tried.add(one.run.fingerprint)
        self.ledger.write_runs([one.result for one in trained])

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
                predictions, inspections, metrics = self.evaluation.of(
                    run, method, layers, self.view(run).pooling
                )
                wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
                if wrong:
                    raise RunFailed(f"{wrong[0]} is not a finite number")
        except RunFailed as error:
            return self._failed(run, str(error), outcome, population)
        record = self._record(run, outcome, metrics, "complete", None, population)
        return Result(record, predictions if run.role == "report" else {}, inspections)

    def _failed(
        self,
        run: Run,
        reason: str,
        outcome: Outcome = NOTHING,
        population: Sequence[str] = (),
    ) -> Result:
        return Result(self._record(run, outcome, {}, "failed", reason, population), {}, {})

    def _record(
        self,
        run: Run,
        outcome: Outcome,
        metrics: dict[str, float],
        status: Status,
        reason: str | None,
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
            status=status,
            reason=reason,
            metrics=metrics,
            curves=outcome.curves,
            seconds=outcome.seconds,
            examples_per_second=outcome.examples_per_second,
            peak_memory=float(outcome.peak_memory),
            provenance=surroundings,
        )


def _identity(task: Task) -> Any:
    """A task's identity, with the metrics of a user's own."""
    return {**task.identity, "metrics": list(task.metrics)} if task.custom else task.identity
