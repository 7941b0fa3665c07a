"""`--replay FINGERPRINT`: train a recorded run again and say whether the result is the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.config import StudyConfig
from harness.errors import StorageError, UserError
from harness.experiment.ablation import load_tasks
from harness.experiment.executor import Executor
from harness.registry.discovery import registry
from harness.runtime.device import choose_arithmetic
from harness.runtime.progress import progress, say
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from harness.storage.record import Predictions, Record, Result, RunProvenance
from harness.training.run import Run
from harness.training.task_setup import prepare

SHOWN = 5
"""Differences that are named; the others are counted."""


@dataclass(frozen=True)
class Recorded:
    """A run of the ledger, a study that uses it, and the configuration of an ablation of that study."""

    record: Record
    study: str
    config: StudyConfig


@dataclass(frozen=True)
class Replay:
    """What a repetition gave: `differences` from the record, each in words; none when it is the same.

    `compared` names what was there to compare; `surroundings` are versions and machine where they are
    not the record's.
    """

    fingerprint: str
    compared: str
    differences: tuple[str, ...]
    surroundings: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The answer in one line."""
        run = f"run {self.fingerprint[:16]}"
        if not self.differences:
            return f"{run}: the same: {self.compared}"
        shown = list(self.differences[:SHOWN])
        if more := len(self.differences) - len(shown):
            shown.append(f"and {more} more")
        elsewhere = f" (then and now: {', '.join(self.surroundings)})" if self.surroundings else ""
        return f"{run}: not the same: {'; '.join(shown)}{elsewhere}"


def find_recorded(ledger: Ledger, prefix: str) -> Recorded:
    """The run whose fingerprint begins with `prefix`.

    Raises:
        StorageError: no run, or several, begin so.
    """
    record, study = ledger.find_run(prefix)
    for name in ledger.ablations():
        manifest = ledger.manifest(name)
        if study in manifest.study_names:
            return Recorded(record, study, manifest.config)
    raise StorageError(f"--replay {prefix}: its study {study} is in no ablation of this ledger")


def replay(ledger: Ledger, found: Recorded, out: Path) -> Replay:
    """Train a recorded run again; nothing is written of it.

    Teacher and teacher outputs are those of `out`, made again where they are gone.

    Raises:
        UserError: something that the run depends on is no longer the same.
    """
    record, study = found.record, found.study
    task, name = record.inputs.task_name, record.inputs.method
    config = replace(found.config, out=str(out), tasks=(task,), methods=(name,), baseline=None)
    tasks, _ = load_tasks(config)
    arithmetic = choose_arithmetic(config.device, config.training.precision)
    materials = prepare(config, tasks[task], arithmetic, out)
    executor = Executor(config, materials, ledger, Claims(ledger))
    run = _again(executor, record, study)
    if run.fingerprint != record.fingerprint:
        raise UserError(f"--replay {record.fingerprint[:16]}: {_other_inputs(record, run)}")
    runs = _with_its_population(executor, ledger, run, record)
    label = f"{task}: {name}, seed {run.seed}"
    label += f", and {len(runs) - 1} more that it was trained with" * (len(runs) > 1)
    with progress(label, executor.trainer.steps * len(runs)) as advance:
        result = executor.repeat(runs, advance)[record.fingerprint]
    # A test split is none of the run's inputs: it may be another one by now.
    scored = [name for name, _ in record.inputs.evaluation if name in result.predictions]
    stored = {name: ledger.predictions(record.fingerprint, name) for name in scored}
    return Replay(
        record.fingerprint,
        _compared(record),
        tuple(_differences(record, stored, result)),
        tuple(_elsewhere(record.provenance, result.record.provenance)),
    )


def _again(executor: Executor, record: Record, study: str) -> Run:
    inputs = record.inputs
    method = registry().resolve(inputs.method)
    settings = () if inputs.halving is None else inputs.halving.round
    return executor.trainer.run(
        method, study, inputs.setting, 0, inputs.seed, inputs.role, settings
    )


def _with_its_population(executor: Executor, ledger: Ledger, run: Run, record: Record) -> list[Run]:
    """The runs that it was trained with, itself among them: alone, its last digits may be other ones.

    It is trained alone, and that is said, where one of the others can no longer be trained.
    """
    names = record.provenance.population
    others = ledger.records(names)
    runs = []
    for name in names:
        again = run if name == run.fingerprint else None
        if again is None and name in others:
            again = _again(executor, others[name], run.study)
        if again is None or again.fingerprint != name:
            say(
                f"warning: run {name[:16]}, which it was trained with, is gone or depends on what has "
                "changed; it is trained alone, and its last digits may be other ones"
            )
            return [run]
        runs.append(again)
    return runs


def _other_inputs(record: Record, run: Run) -> str:
    then, now = record.inputs.plain(), run.inputs.plain()
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    parts = [
        f"{name} ({_short(then.get(name))} then, {_short(now.get(name))} now)" for name in names
    ]
    return f"it cannot be repeated here, for it depends on what has changed: {', '.join(parts)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:16]}..."


def _compared(record: Record) -> str:
    if record.status == "failed":
        return f"it failed in the same way ({record.reason})"
    predictions = " and predictions" if record.inputs.role == "report" else ""
    return f"metrics, losses{predictions} are equal to the last digit"


def _differences(
    record: Record, stored: Mapping[str, Predictions | None], result: Result
) -> list[str]:
    found = []
    now = result.record
    # A reason may hold a line number, or how much memory was free.
    if (record.status, _kind(record.reason)) != (now.status, _kind(now.reason)):
        found.append(f"{record.reason or record.status} then, {now.reason or now.status} now")
    for name in sorted({*record.metrics, *now.metrics}):
        was, is_ = record.metrics.get(name), now.metrics.get(name)
        if was != is_:
            found.append(f"{name} {was} then, {is_} now")
    for split, before in stored.items():
        if before is None and record.inputs.role == "report":
            found.append(f"{split}: the predictions then are not in the ledger")
        elif before is not None:
            found += _different_predictions(split, before, result.predictions[split])
    if record.curves != now.curves:
        found.append("the losses by epoch differ")
    return found


def _kind(reason: str | None) -> str | None:
    return None if reason is None else reason.partition(":")[0]


def _different_predictions(split: str, then: Predictions, now: Predictions) -> list[str]:
    if then.logits.shape != now.logits.shape:
        return [f"{split}: logits of shape {then.logits.shape} then, {now.logits.shape} now"]
    if np.array_equal(then.logits, now.logits):
        return []
    largest = float(np.abs(then.logits - now.logits).max())
    text = f"{split}: logits differ by up to {largest:.2g}"
    if then.logits.shape[1] > 1:
        changed = int((then.logits.argmax(axis=1) != now.logits.argmax(axis=1)).sum())
        text += f", {changed} of {len(then.logits)} predictions differ"
    return [text]


def _elsewhere(then: RunProvenance, now: RunProvenance) -> list[str]:
    pairs = {
        "python": (then.python, now.python),
        "processor": (then.processor, now.processor),
        "revision": (then.revision, now.revision),
        "threads": (then.threads, now.threads),
        **{name: (then.libraries.get(name), version) for name, version in now.libraries.items()},
    }
    return [
        f"{name} {before} and {after}" for name, (before, after) in pairs.items() if before != after
    ]
