"""The command, from its request to the report."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import webbrowser
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.analysis.compare import AblationResult
from harness.analysis.damages import find_contradictions
from harness.axis_names import task_in_cell
from harness.cli.arguments import Request, replay_request
from harness.cli.calibration import Rates, machine_rates
from harness.cli.dry_run import TaskPlan, plan_task, plan_total
from harness.cli.planned_workers import plan_workers, planned_workers
from harness.cli.replay import find_run, replay
from harness.cli.summary import show, summary
from harness.config import StudyConfig
from harness.data.splits import TaskData
from harness.errors import NothingLeftError, UserError
from harness.experiment.ablation import ON, REFUSALS, Ablation, load_tasks, refuse
from harness.experiment.exports import export_students
from harness.experiment.grid import GridAblation, check_cells
from harness.experiment.manifest import command_line, students_in_words
from harness.experiment.repeats import JointAblation
from harness.experiment.scheduler import Scheduler
from harness.experiment.search import open_optuna
from harness.experiment.speeds import measure_speeds
from harness.experiment.student_checks import check_students
from harness.grid import Cell
from harness.registry.discovery import registry
from harness.runtime.device import Arithmetic, choose_arithmetic, device_name
from harness.runtime.output import LEFT_OUT, printing
from harness.runtime.progress import say
from harness.runtime.threads import threads_in_words
from harness.stats import minimum_pairs, minimum_seeds
from harness.stats.tuned_power import minimum_trials
from harness.storage.claims import Claims
from harness.storage.database import check_storage, storage_url
from harness.storage.ledger import Ledger
from harness.storage.repair import set_aside_damaged, set_aside_manifests
from harness.tracking.trackers import tracking
from harness.workers.local import LocalWorker, Workers
from harness.workers.prepared_task import PreparedTask
from harness.workers.workshop import Workshop, settle_process, teacher_key

if TYPE_CHECKING:
    from harness.workers.clusters import Cluster

RUNS_FAILED, DIFFERENT_RESULT = 1, 1


def run_study(request: Request, words: Sequence[str], cluster: Cluster | None) -> int:
    """Run a study, or plan it, and print the answer; returns the exit code.

    `words` are the arguments of the command. Without a cluster this process trains.

    Raises:
        UserError: something that the user gave cannot be used.
    """
    if request.dry_run:
        return _dry_run(request)
    start = time.perf_counter()
    result, path = study(request, words, cluster)
    answer = summary(result, path, time.perf_counter() - start)
    with printing(f"the work is done: report: {path}"):
        show(result, request.json)
        _answer(request, answer)
        (say if request.json else print)(f"report: {path}")
    if request.opens_report:
        webbrowser.open(path.absolute().as_uri())
    return _left_out(result.manifest.refused) or (RUNS_FAILED if answer["failures"] else 0)


def _left_out(refusals: Mapping[str, str]) -> int:
    """The exit code for refusals, which are said last: `LEFT_OUT` for a task or a repeat, or else 0.

    A method that cannot be used on a task is left out of a set of methods, and the set is done.
    """
    tasks = {name: reason for name, reason in refusals.items() if ON not in name}
    for name, reason in tasks.items():
        say(f"left out: {name} ({reason})")
    return LEFT_OUT if tasks else 0


def study(
    request: Request, words: Sequence[str], cluster: Cluster | None
) -> tuple[AblationResult, Path]:
    """Run a study, and write its report; returns the result and the report's path.

    `words` are the arguments of the command. Without a cluster this process trains.

    Raises:
        UserError: something that the user gave cannot be used.
    """
    config = request.config
    settle_process(config.threads)
    if cluster is None:
        _announce(request, _process_in_words(_arithmetic(config)))
    tasks, refusals = load_tasks(config)
    check_cells(request.cells, tasks)
    check_students(request.configs, tasks)
    runs_folder = Path(config.out)
    ledger = Ledger(storage_url(runs_folder, config.storage))
    with closing(ledger):
        if request.repairs:
            _repair(ledger, runs_folder / "damaged")
        with _workers(request, cluster, tasks) as workers:
            name, prepared = _train(ledger, request, command_line(words), workers, tasks, refusals)
        if request.measures_latency:
            measure_speeds(ledger, name, prepared, _arithmetic(config))
        result, path = _report(ledger, name, runs_folder)
        if request.exports is not None:
            refused = {**result.manifest.refused, **export_students(ledger, result, runs_folder)}
            result = replace(result, manifest=replace(result.manifest, refused=refused))
        return result, path


def _repair(ledger: Ledger, folder: Path) -> None:
    """Set the damaged manifests and runs aside, and say so."""
    for name in set_aside_manifests(ledger, folder):
        manifest = f"the manifest of the ablation '{name}'"
        say(f"set aside in {folder}: {manifest}; its command writes it again")
    find_contradictions(ledger)
    damages = set_aside_damaged(ledger, folder)
    for damage in damages:
        say(f"set aside, to be trained again: {damage.sentence}")
    runs = "run lies" if len(damages) == 1 else "runs lie"
    say(f"{len(damages)} damaged {runs} in {folder} now" if damages else "no run is damaged")


def _workers(request: Request, cluster: Cluster | None, tasks: Mapping[str, TaskData]) -> Workers:
    """This process, or the workers of a cluster."""
    if cluster is None:
        return LocalWorker(Workshop(tasks))
    from harness.workers.dask_workers import DaskWorkers  # only clusters need Dask

    Path(request.config.out).mkdir(parents=True, exist_ok=True)  # workers look for it
    workers = DaskWorkers(cluster)
    _announce(request, f"{workers.count} worker(s)")
    return workers


def _dry_run(request: Request) -> int:
    """Print the plan of each task, and with several workers the plan of all tasks on them."""
    config = request.config
    check_storage(Path(config.out), config.storage)
    workers = planned_workers(config)
    settle_process(workers.threads)
    arithmetic = _arithmetic(config)
    words = "" if config.cluster.kind == "local" else f"{workers.words}; planned with "
    _announce(request, words + _process_in_words(arithmetic))
    tasks, refusals = load_tasks(config)
    check_cells(request.cells, tasks)
    check_students(request.configs, tasks)
    rates = machine_rates(arithmetic)
    plans = _plans(request, arithmetic, tasks, refusals, workers.count, rates)
    owner = " a worker" if workers.count > 1 else ""
    answer: dict[str, Any] = {"plan": [plan.plain() for plan in plans], "refused": refusals}
    lines = [plan.line(owner) for plan in plans]
    assumed = f"{device_name(arithmetic.device)}, {_process_in_words(arithmetic)}; {rates.words}"
    total = plan_total(plans, len(tasks), len(request.cells), assumed)
    answer["total"] = asdict(total)
    lines.append(total.line(owner))
    if config.cluster.kind != "local":
        whole = plan_workers(plans, config, workers)
        answer["workers"] = whole.plain()
        lines.append(whole.line())
    with printing():
        _answer(request, answer)
        for line in lines:
            (say if request.json else print)(line)
    return _left_out(refusals)


def _arithmetic(config: StudyConfig) -> Arithmetic:
    return choose_arithmetic(config.device, config.training.precision)


def _process_in_words(arithmetic: Arithmetic) -> str:
    threads = threads_in_words(torch.get_num_threads())
    return f"{arithmetic.name} on {arithmetic.device.type}, {threads}"


def _plans(
    request: Request,
    arithmetic: Arithmetic,
    tasks: Mapping[str, TaskData],
    refusals: dict[str, str],
    workers: int,
    rates: Rates,
) -> list[TaskPlan]:
    """The plan of each task, in each cell, that is not refused.

    Raises:
        NothingLeftError: all tasks are refused.
    """
    plans: list[TaskPlan] = []
    teachers: set[str] = set()
    cells = request.cells or (Cell({}, request.config),)
    with tempfile.TemporaryDirectory() as scratch:
        for task, cell in product(tasks, cells):
            teacher = teacher_key(cell.config, task)
            plan = partial(
                plan_task,
                cell.config,
                tasks[task],
                arithmetic,
                Path(scratch),
                rates,
                workers,
                exports=request.exports is not None,
            )
            try:
                plans.append(plan(cell=cell.name, shares_teacher=teacher in teachers))
            except REFUSALS as error:
                refuse(refusals, task_in_cell(task, cell.name), error)
            else:
                teachers.add(teacher)
    if not plans:
        raise NothingLeftError("; ".join(dict.fromkeys(refusals.values())))
    return plans


def _train(
    ledger: Ledger,
    request: Request,
    command: str,
    workers: Workers,
    tasks: Mapping[str, TaskData],
    refusals: dict[str, str],
) -> tuple[str, Mapping[str, PreparedTask]]:
    """Train the runs without a record, once, in repeats or in cells.

    Returns:
        The ablation's name, and its tasks by their names in the manifest, without repeats.
    """
    from reports.running import RunningPage  # only reports need plotly

    config = request.config
    page = RunningPage(ledger, Path(config.out), say)
    with Claims(ledger) as claims, tracking(request.tracker, Path(config.out)) as track:
        optuna = open_optuna(ledger.url, claims)
        study: Ablation | JointAblation | GridAblation

        def update() -> None:
            if study.name:
                page.update(study.name)

        scheduler = Scheduler(ledger, claims, workers, update, track, page.advance)

        def ablation(config: StudyConfig, repeat: int | None) -> Ablation:
            return Ablation(config, ledger, claims, optuna, command, repeat)

        def ablation_in(cell: Cell, number: int) -> Ablation:
            part = (None, cell.name, number)
            return Ablation(cell.config, ledger, claims, optuna, command, *part)

        if request.cells:
            study = GridAblation(request.cells, ledger, command, refusals)
            scheduler.start(study.flow(ablation_in, tasks, scheduler))
        elif config.protocol.repeats == 1:
            study = ablation(config, None)
            scheduler.start(study.flow(tasks, refusals, scheduler))
        else:
            study = JointAblation(config, ledger, command, refusals)
            scheduler.start(study.flow(ablation, tasks, scheduler))
        try:
            scheduler.finish()
        except BaseException:
            if study.name:
                page.stop(study.name)
            raise
        optuna.engine.dispose()
    return study.name, {} if isinstance(study, JointAblation) else study.prepared


def replay_run(options: argparse.Namespace) -> int:
    """Train a recorded run again and compare; returns the exit code. Raises `UserError`."""
    prefix, runs_folder, storage = replay_request(options)
    if storage is None and not (runs_folder / "ledger.db").is_file():
        raise UserError(f"--out {runs_folder}: has no ledger.db")
    ledger = Ledger(storage_url(runs_folder, storage))
    recorded_run = find_run(ledger, prefix)
    settle_process(recorded_run.record.provenance.threads)
    answer = replay(ledger, recorded_run, runs_folder)
    ledger.close()
    with printing(answer.sentence):
        if options.json:
            print(json.dumps({**asdict(answer), "same": not answer.differences}))
        (say if options.json else print)(answer.sentence)
    return DIFFERENT_RESULT if answer.differences else 0


def _report(ledger: Ledger, name: str, runs_folder: Path) -> tuple[AblationResult, Path]:
    """Write the report, the reports of the repeats, and the index; returns the result and the report."""
    from reports.report import build_index, build_report  # only reports need plotly

    for part in filter(None, ledger.manifest(name).repeats):
        build_report(ledger, part, runs_folder / part / "report.html")
    path = runs_folder / name / "report.html"
    result = build_report(ledger, name, path)
    build_index(ledger, runs_folder)
    return result, path


def _announce(request: Request, workers: str) -> None:
    config = request.config
    source = config.source.folder or config.source.kind
    students = "; ".join(dict.fromkeys(map(students_in_words, request.configs)))
    say(
        f"preset {config.preset}: data {source}, teacher "
        f"{config.teacher.checkpoint or config.teacher.pretrained}, {students}, " + workers
    )
    for note in request.notes:
        say(note)
    for name, reason in registry().import_errors.items():
        say(f"warning: the plug-in {name} cannot be imported ({reason})")
    if request.cells:
        say(f"{len(request.cells)} cells: {'; '.join(cell.name for cell in request.cells)}")
    _warn_of_few_seeds(config, len(request.configs))


def _warn_of_few_seeds(config: StudyConfig, cells: int) -> None:
    if config.baseline is None:
        return
    comparisons = cells * len(config.tasks) * (len(config.methods) - 1)
    protocol = config.protocol
    is_sequential = protocol.stopping == "sequential"
    minimum = (minimum_pairs if is_sequential else minimum_seeds)(comparisons, protocol.alpha)
    pairs, unit, verb = config.report_runs, "report seeds", "cannot"
    if protocol.repeats > 1:
        pairs, unit = protocol.repeats, "repeats"
    elif protocol.unit == "methods":
        unit = "trials"
        if pairs >= minimum:
            minimum, verb = minimum_trials(protocol.budget, comparisons, protocol.alpha), "may not"
    if pairs < minimum:
        units = unit if pairs > 1 else unit.removesuffix("s")
        say(
            f"warning: {pairs} {units} {verb} reach p < {protocol.alpha:g} "
            f"in a family of {comparisons} comparison(s); at least {minimum} can"
        )


def _answer(request: Request, answer: dict[str, Any]) -> None:
    if request.json:
        print(json.dumps(answer))
