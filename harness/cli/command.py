"""What the command does, from its arguments to the report."""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import transformers

from harness.analysis.compare import AblationResult
from harness.cli.arguments import Request, parser, replay_request, request
from harness.cli.dry_run import TaskPlan, plan_task
from harness.cli.listing import show_list
from harness.cli.replay import find_recorded, replay
from harness.cli.summary import show, summary
from harness.config import StudyConfig
from harness.data.sources import TaskData
from harness.errors import NothingLeftError, UserError, one_line
from harness.experiment.ablation import REFUSALS, Ablation, load_tasks, refuse
from harness.experiment.manifest import command_line, students_in_words
from harness.experiment.repeats import JointAblation, repeat_config
from harness.registry.discovery import registry
from harness.runtime.cpu import hold_memory, set_threads
from harness.runtime.device import Arithmetic, choose_arithmetic
from harness.runtime.progress import say
from harness.stats import minimum_pairs, minimum_seeds
from harness.storage.claims import Claims
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger

BAD_INPUT, RUNS_FAILED, NOT_THE_SAME = 2, 1, 1


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command of `harness.study`; returns its exit code."""
    options = parser().parse_intermixed_args(arguments)
    if options.debug:
        logging.basicConfig()
        logging.getLogger("harness").setLevel(logging.INFO)
    try:
        if options.list is not None:
            show_list(options.list, options.json)
            return 0
        if options.replay is not None:
            return _replay(options)
        return _run(request(options))
    except UserError as error:
        if options.debug:
            raise
        say(f"error: {one_line(error)}")
        return BAD_INPUT


def _run(asked: Request) -> int:
    started = time.perf_counter()
    config = asked.config
    arithmetic = choose_arithmetic(config.device, config.training.precision)
    _quieten(config.threads)
    _announce(asked, arithmetic)
    tasks, refused = load_tasks(config)
    if asked.dry_run:
        plans = _plans(config, arithmetic, tasks, refused)
        _answer(asked, {"plan": [plan.plain() for plan in plans], "refused": refused})
        for plan in plans:
            (say if asked.json else print)(plan.line())
        return 0
    out = Path(config.out)
    ledger = Ledger(storage_url(out, config.storage))
    with Claims(ledger) as claims:
        name = _train(ledger, claims, config, arithmetic, tasks, refused)
    result, path = _report(ledger, name, out)
    show(result, asked.json)
    answer = summary(result, path, time.perf_counter() - started)
    _answer(asked, answer)
    (say if asked.json else print)(f"report: {path}")
    if asked.open:
        webbrowser.open(path.absolute().as_uri())
    ledger.close()
    return RUNS_FAILED if answer["failures"] else 0


def _plans(
    config: StudyConfig,
    arithmetic: Arithmetic,
    tasks: Mapping[str, TaskData],
    refused: dict[str, str],
) -> list[TaskPlan]:
    """The plan of each task that is not refused. Raises `NothingLeftError` when all are."""
    plans = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, data in tasks.items():
            try:
                plans.append(plan_task(config, data, arithmetic, Path(scratch)))
            except REFUSALS as error:
                refuse(refused, name, error)
    if not plans:
        raise NothingLeftError("; ".join(refused.values()))
    return plans


def _train(
    ledger: Ledger,
    claims: Claims,
    config: StudyConfig,
    arithmetic: Arithmetic,
    tasks: Mapping[str, TaskData],
    refused: dict[str, str],
) -> str:
    """Train what has no record yet, once or in repeats; returns the name of what is to be reported."""
    if config.protocol.repeats == 1:
        ablation = Ablation(config, arithmetic, ledger, claims, command_line())
        prepared = ablation.prepare(tasks, refused)
        ablation.train(prepared)
        return prepared.name
    joint = JointAblation(config, ledger, command_line(), refused)
    for repeat in range(config.protocol.repeats):
        one = Ablation(
            repeat_config(config, repeat), arithmetic, ledger, claims, command_line(), repeat
        )
        own: dict[str, str] = {}
        try:
            prepared = one.prepare(tasks, own)
        except NothingLeftError as error:
            if repeat == 0:
                raise
            joint.leave_out(repeat, error)
            continue
        joint.add(repeat, prepared.name, own)
        one.train(prepared)
    return joint.name


def _replay(options: argparse.Namespace) -> int:
    prefix, out, storage = replay_request(options)
    if storage is None and not (out / "ledger.db").is_file():
        raise UserError(f"--out {out}: has no ledger.db")
    ledger = Ledger(storage_url(out, storage))
    found = find_recorded(ledger, prefix)
    _quieten(found.record.provenance.threads)
    answer = replay(ledger, found, out)
    ledger.close()
    if options.json:
        print(json.dumps({**asdict(answer), "same": not answer.differences}))
    (say if options.json else print)(answer.sentence)
    return NOT_THE_SAME if answer.differences else 0


def _report(ledger: Ledger, name: str, out: Path) -> tuple[AblationResult, Path]:
    """Write the reports, of repeats too, and the index of all; returns what the first one shows."""
    from reports.build import build_index, build_report  # plotly is only needed here

    for part in filter(None, ledger.manifest(name).repeats):
        build_report(ledger, part, out / part / "report.html")
    path = out / name / "report.html"
    result = build_report(ledger, name, path)
    build_index(ledger, out)
    return result, path


def _announce(asked: Request, arithmetic: Arithmetic) -> None:
    config = asked.config
    source = config.source.folder or config.source.kind
    say(
        f"preset {config.preset}: data {source}, teacher "
        f"{config.teacher.checkpoint or config.teacher.pretrained}, {students_in_words(config)}, "
        f"{arithmetic.name} on {arithmetic.device.type}"
    )
    for note in asked.notes:
        say(note)
    for name, reason in registry().broken.items():
        say(f"warning: the plug-in {name} cannot be imported ({reason})")
    _warn_of_few_seeds(config)


def _warn_of_few_seeds(config: StudyConfig) -> None:
    if config.baseline is None:
        return
    comparisons = len(config.tasks) * (len(config.methods) - 1)
    sequential = config.protocol.stopping == "sequential"
    least = (minimum_pairs if sequential else minimum_seeds)(comparisons, config.protocol.alpha)
    repeats = config.protocol.repeats
    pairs, unit = (config.protocol.seeds, "report seeds") if repeats == 1 else (repeats, "repeats")
    if pairs < least:
        say(
            f"warning: {pairs} {unit} cannot reach p < {config.protocol.alpha:g} "
            f"in a family of {comparisons} comparison(s); at least {least} can"
        )


def _quieten(threads: int) -> None:
    """Keep libraries' progress bars and advice out of the output, and set up the processor."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    set_threads(threads)
    hold_memory()


def _answer(asked: Request, answer: dict[str, Any]) -> None:
    if asked.json:
        print(json.dumps(answer))
