"""How runs on one task are trained, and what comes of each; nothing is written of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.config import StudyConfig
from harness.data.tasks import Task
from harness.errors import MethodError
from harness.evaluation.inspection import Inspector, Look
from harness.evaluation.scoring import Evaluation
from harness.method import Layers, Method, Pooling, Value, View
from harness.models.student import Blueprint
from harness.models.teacher_outputs import TeacherOutputs
from harness.registry.instantiate import check_method, make_method
from harness.registry.source import method_source
from harness.runtime.failures import RunFailed, recorded
from harness.runtime.provenance import provenance
from harness.storage.ledger import Record, Result, Role, Status
from harness.training.halving import Halving
from harness.training.loop import RESULTS_VERSION, Outcome, train_population
from harness.training.recipe import Member, Recipe, engine_of
from harness.training.run import Run
from harness.training.task_setup import Materials

NOTHING = Outcome([], 0.0, 0.0, 0)
"""Of a run that could not begin."""


@dataclass(frozen=True)
class Trained:
    """A run with its result."""

    run: Run
    result: Result


Keep = Callable[[Run, Record, Mapping[str, Tensor], Method | None], None]
"""Keeps a report run's student: its weights by name, and its method with what it has learned."""


class Trainer:
    """Makes runs on one task, of any method, and trains them in populations."""

    def __init__(self, config: StudyConfig, materials: Materials) -> None:
        self.config = config
        self.materials = materials
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
        self.inspector = Inspector(materials, self.blueprint)

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
                live_teacher=materials.teacher.model if view.needs else None,
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

    def check(self, method: type[Method], fixed: Mapping[str, Value]) -> None:
        """Refuse a method that cannot be used with this teacher and depth. Raises `MethodError`."""
        encoders = (self.blueprint.config, self.materials.teacher.model.config)
        check_method(method, self.materials.shapes(self.config), encoders, fixed)

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
    ) -> list[Trained]:
        """Train runs as one population, and `keep` its students. Raises what concerns all of them."""
        members: list[Member] = []
        sound: list[Run] = []
        trained: list[Trained] = []
        for run in runs:
            try:
                with recorded():
                    members.append(self.member(run))
            except RunFailed as error:
                trained.append(Trained(run, self.failed(run, str(error))))
            else:
                sound.append(run)
        if not members:
            return trained
        names = [run.fingerprint for run in sound]
        halving = None
        if self.rungs and all(run.role == "search" for run in sound):
            metric = self.materials.data.task.metrics[0]
            halving = Halving(self.rungs, metric, sound, self.evaluation.selection_scores)
        look = self._look(sound, members)
        population, outcomes = train_population(
            [members.pop(0) for _ in sound],  # their initial weights leave memory
            self.recipe(self.view(sound[0])),
            advance,
            None if halving is None else halving.stay,
            look,
        )
        places = {member: place for place, member in enumerate(population.indices)}
        seen = self.evaluation.predict(population, sound)
        for member, (run, outcome) in enumerate(zip(sound, outcomes, strict=True)):
            if outcome.failure is not None:
                trained.append(Trained(run, self.failed(run, outcome.failure, outcome, names)))
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
            inside = {} if look is None else look.records(member)
            result = self._result(run, method, layers, inside, outcome, names)
            trained.append(Trained(run, result))
            if keep is not None and run.role == "report" and result.record.status == "complete":
                keep(run, result.record, population.network.weights(place), method)
        return trained

    def _look(self, runs: Sequence[Run], members: Sequence[Member]) -> Look | None:
        """What looks inside report runs while they are trained; nobody reads it of a search's."""
        methods = [member.method for member in members if member.method is not None]
        if any(run.role != "report" for run in runs):
            return None
        return Look(self.inspector, runs, methods, self.view(runs[0]).pooling)

    def _result(
        self,
        run: Run,
        method: Method | None,
        layers: Mapping[str, Layers],
        inside: Mapping[str, object],
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
            return self.failed(run, str(error), outcome, population)
        record = self._record(run, outcome, metrics, "complete", None, population)
        shown = {**inspections, **inside}
        return Result(record, predictions if run.role == "report" else {}, shown)

    def failed(
        self,
        run: Run,
        reason: str,
        outcome: Outcome = NOTHING,
        population: Sequence[str] = (),
    ) -> Result:
        """The result of a run that raised."""
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
