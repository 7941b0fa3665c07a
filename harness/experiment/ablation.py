"""One command's work: every method on every task, searched, trained over seeds and recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.analysis.looks import Looks, looks_of, seeds_wanted
from harness.analysis.results import best_trial, score_of
from harness.config import ROUND, StudyConfig
from harness.data.sources import TaskData, load_task_data
from harness.data.tasks import load_task
from harness.errors import DataError, MethodError, NothingLeftError, TeacherError, UserError
from harness.experiment.executor import Executor
from harness.experiment.manifest import ablation_manifest, ablation_name, identity_of
from harness.experiment.search import Asked, Search, Told, open_optuna, run_search
from harness.method import Method
from harness.registry.discovery import chosen_methods
from harness.registry.instantiate import usable
from harness.registry.space import check_names, space_of
from harness.runtime.device import Arithmetic
from harness.runtime.progress import say
from harness.storage.claims import Claims
from harness.storage.fingerprint import fingerprint
from harness.storage.ledger import Ledger, Record
from harness.training.run import Run, report_seeds, search_seeds
from harness.training.task_setup import Materials, prepare

REFUSALS = (TeacherError, MethodError, DataError)
"""What leaves a task out, and does not stop the others."""
SHOWN = 4
"""Methods that a line of progress names; more are counted."""


@dataclass(frozen=True)
class Prepared:
    """An ablation whose manifest is written; `executors` by task, until their runs are trained."""

    name: str
    manifest: dict[str, Any]
    executors: dict[str, Executor]


@dataclass
class Ablation:
    """The studies of one command, and what the ledger's manifest says of them."""

    config: StudyConfig
    arithmetic: Arithmetic
    ledger: Ledger
    claims: Claims
    command: str
    repeat: int | None = None
    """Which repeat of the whole it is, if any: its search and report seeds are that repeat's own."""

    def prepare(self, tasks: Mapping[str, TaskData], refused: dict[str, str]) -> Prepared:
        """Make what the studies need and write the ablation's manifest, before any of their runs.

        What is refused, a task or a method on a task, is noted in `refused` and does not stop the rest.
        Raises `NothingLeftError` when every task is refused.
        """
        studies: dict[str, dict[str, str]] = {}
        ready: dict[str, Materials] = {}
        executors: dict[str, Executor] = {}
        for task, data in tasks.items():
            try:
                self._check_spaces(data)
                materials = prepare(self.config, data, self.arithmetic, Path(self.config.out))
                executor = Executor(self.config, materials, self.ledger, self.claims)
                studies[task] = self._studies(executor, refused)
            except REFUSALS as error:
                refuse(refused, task, error)
            else:
                ready[task], executors[task] = materials, executor
        if not ready:
            raise NothingLeftError("; ".join(refused.values()))
        name = ablation_name(self.config, studies, self.repeat)
        manifest = ablation_manifest(
            self.config,
            self.ledger,
            name,
            studies,
            ready,
            refused,
            command=self.command,
            repeat=self.repeat,
        )
        for materials in ready.values():
            scored = next(iter(materials.data.evaluation.values()))
            self.ledger.write_texts(scored.sha256, scored.ids, scored.texts)
        self.ledger.write_ablation(name, manifest)
        return Prepared(name, manifest, executors)

    def train(self, prepared: Prepared) -> None:
        """Train everything that has no record yet."""
        for task, studies in prepared.manifest["studies"].items():
            # It is dropped with what it holds in a GPU's memory.
            executor = prepared.executors.pop(task)
            looks = looks_of(prepared.manifest, executor.materials.data.task.metrics[0])
            self._run_studies(executor, studies, looks)

    def _check_spaces(self, data: TaskData) -> None:
        for method in chosen_methods(self.config):
            space_of(method, self.config.search, data.task.regression)

    def _studies(self, executor: Executor, refused: dict[str, str]) -> dict[str, str]:
        """Studies on a task by method, without the methods that cannot be used.

        Raises:
            MethodError: nothing is left to compare.
        """
        task = executor.materials.data.task

        def check(method: type[Method]) -> None:
            space = space_of(method, self.config.search, task.regression)
            executor.trainer.check(method, space.fixed)

        kinds, errors = usable(chosen_methods(self.config), self.config.baseline, check)
        for name, error in errors.items():
            refuse(refused, f"{name} on {task.name}", error)
        return {kind.name: self._study(kind, executor) for kind in kinds}

    def _study(self, method: type[Method], executor: Executor) -> str:
        """Write a study's manifest; returns its name."""
        materials = executor.materials
        task = materials.data.task
        space = space_of(method, self.config.search, task.regression)
        shapes = materials.shapes(self.config)
        identity = {
            **identity_of(self.config, self.repeat),
            "round": ROUND,
            "task": task.name,
            "method": method.name,
            "space": {name: repr(d) for name, d in sorted(space.distributions.items())},
            "fixed": space.fixed,
            "teacher_fingerprint": materials.teacher.fingerprint,
            "train": materials.data.train.sha256,
            "selection": materials.data.selection.sha256,
            "evaluation": [[k, split.sha256] for k, split in materials.data.evaluation.items()],
            "precision_used": self.arithmetic.name,
            "run": executor.trainer.run(method, "", {}, 0, 0, "search").fingerprint,
        }
        kind = self.config.source.kind
        name = f"{kind}-{task.name}-{method.name}-{fingerprint(identity)[:8]}"
        self.ledger.write_study(name, {**identity, "shapes": asdict(shapes)})
        return name

    def _run_studies(
        self, executor: Executor, names: Mapping[str, str], looks: Looks | None
    ) -> None:
        """Search and report all methods on a task together: their runs share populations."""
        task, config = executor.materials.data.task, self.config
        methods = {kind.name: kind for kind in chosen_methods(config) if kind.name in names}
        spaces = {
            name: space_of(method, config.search, task.regression)
            for name, method in methods.items()
        }
        storage = open_optuna(self.ledger.url, self.claims)
        sampler = config.search.sampler
        searches = {
            name: Search(storage, study, spaces[name].distributions, sampler, self.claims)
            for name, study in names.items()
        }
        metric, shown = task.metrics[0], f"{task.name}: {_listed(methods)}"

        def evaluate(asked: Mapping[str, list[Asked]]) -> dict[str, dict[int, Told]]:
            runs = [
                executor.trainer.run(
                    methods[name],
                    names[name],
                    spaces[name].setting(trial.params),
                    trial.number,
                    seed,
                    "search",
                    round_settings=[spaces[name].setting(other.params) for other in trials],
                )
                for name, trials in asked.items()
                for trial in trials
                for seed in search_seeds(config.search.seeds, self.repeat or 0)
            ]
            numbers = sorted({run.trial + 1 for run in runs})
            span = "-".join(str(number) for number in sorted({numbers[0], numbers[-1]}))
            records = executor.execute(runs, f"{shown}, search {span} of {config.search.trials}")
            found: dict[str, dict[int, list[Record]]] = {name: {} for name in asked}
            for run in runs:
                trials = found[run.method.name].setdefault(run.trial, [])
                trials.append(records[run.fingerprint])
            return {
                name: {trial: _mean(own, metric) for trial, own in trials.items()}
                for name, trials in found.items()
            }

        run_search(searches, config.search.trials, evaluate)
        storage.engine.dispose()
        reported: dict[str, list[Run]] = {}
        for name, study in names.items():
            chosen = self._best(study, metric)
            if chosen is None:
                label = f"{task.name}: {name}"
                say(f"{label}: every setting failed; see the report for the reasons")
                continue
            trial, setting = chosen
            reported[name] = [
                executor.trainer.run(methods[name], study, setting, trial, seed, "report")
                for seed in report_seeds(config.protocol.seeds, self.repeat or 0)
            ]
        records = self._report(executor, reported, looks, shown)
        for name, own in reported.items():
            used = {key: records[key] for run in own if (key := run.fingerprint) in records}
            executor.kept(names[name]).tidy(own[0].trial, used, metric)

    def _report(
        self,
        executor: Executor,
        runs: Mapping[str, Sequence[Run]],
        looks: Looks | None,
        shown: str,
    ) -> dict[str, Record]:
        """Train the report runs of all methods on a task: all, or until its comparisons are decided."""
        if looks is None:
            seeds = self.config.protocol.seeds
            every = [run for own in runs.values() for run in own]
            return executor.execute(every, f"{shown}, {seeds} report seeds")
        metric = executor.materials.data.task.metrics[0]
        baseline = self.config.baseline
        assert baseline is not None  # the configuration is refused without one
        family = [(name, baseline) for name in runs if name != baseline]
        records: dict[str, Record] = {}
        while True:
            scores = {name: _scores(own, records, metric) for name, own in runs.items()}
            wanted = seeds_wanted(scores, family, looks)
            asked = [run for name, own in runs.items() for run in own[: wanted[name]]]
            if all(run.fingerprint in records for run in asked):
                return records
            records |= executor.execute(
                asked, f"{shown}, {max(wanted.values())} of at most {len(looks.seeds)} report seeds"
            )

    def _best(self, study: str, metric: str) -> tuple[int, Mapping[str, Any]] | None:
        """Number and setting of a study's best trial among those that are asked for now."""
        found = [
            run
            for run in self.ledger.study_runs(study)
            if run.role == "search" and run.trial < self.config.search.trials
        ]
        best = best_trial(found, metric)
        if best is None:
            return None
        return best, next(run.record.inputs["setting"] for run in found if run.trial == best)


def load_tasks(config: StudyConfig) -> tuple[dict[str, TaskData], dict[str, str]]:
    """The data of every task that can be read, and why the others cannot.

    Raises:
        UserError: no task can be read.
    """
    tasks: dict[str, TaskData] = {}
    refused: dict[str, str] = {}
    check_names(chosen_methods(config), config.search)
    for name in config.tasks:
        try:
            tasks[name] = load_task_data(
                load_task(name, config.task_files), config.source, config.protocol
            )
        except DataError as error:
            refuse(refused, name, error)
    if not tasks:
        raise DataError("; ".join(refused.values()))
    return tasks, refused


def refuse(refused: dict[str, str], name: str, error: UserError) -> None:
    """Note why a task, or a method on a task, is left out, and say so."""
    refused[name] = str(error)
    say(f"{name} is left out: {error}")


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed) if len(listed) <= SHOWN else f"{len(listed)} methods"


def _scores(
    runs: Sequence[Run], records: Mapping[str, Record], metric: str
) -> dict[int, float | None]:
    """The scores of the runs that have ended, by seed; None where one failed."""
    ended = {run.seed: records[run.fingerprint] for run in runs if run.fingerprint in records}
    return {seed: score_of(record, metric) for seed, record in ended.items()}


def _mean(records: list[Record], metric: str) -> Told:
    """A trial's selection score; None when a run failed, else `pruned` when one was."""
    statuses = {record.status for record in records}
    if "failed" in statuses:
        return None
    if "pruned" in statuses:
        return "pruned"
    return sum(record.metrics[metric] for record in records) / len(records)
