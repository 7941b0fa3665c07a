"""`--replay FINGERPRINT`: train a recorded run again and say whether the result is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.config import StudyConfig
from harness.errors import StorageError, UserError
from harness.experiment.ablation import load_tasks
from harness.registry.discovery import registry
from harness.runtime.progress import progress, say
from harness.storage.ledger import Ledger
from harness.storage.record import Predictions, Record, Result, RunProvenance
from harness.training.run import Run
from harness.workers.outcomes import failed_result
from harness.workers.populations import train_together
from harness.workers.prepared_task import PreparedTask
from harness.workers.trainer import Trainer
from harness.workers.workshop import Workshop

MAX_DIFFERENCES = 5
"""The number of differences that the answer names; the answer counts the others."""


@dataclass(frozen=True)
class RecordedRun:
    """A run of the ledger, a study that uses it, and the configuration of an ablation of that study."""

    record: Record
    study: str
    config: StudyConfig


@dataclass(frozen=True)
class Replay:
    """The result of a repetition: `differences` from the record in words, none if the runs are equal.

    `compared` names the parts that are equal. `surroundings` name the versions and the machine that are
    not those of the record.
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
        texts = list(self.differences[:MAX_DIFFERENCES])
        if rest := len(self.differences) - len(texts):
            texts.append(f"and {rest} more")
        surroundings = (
            f" (then and now: {', '.join(self.surroundings)})" if self.surroundings else ""
        )
        return f"{run}: not the same: {'; '.join(texts)}{surroundings}"


def find_run(ledger: Ledger, prefix: str) -> RecordedRun:
    """The run whose fingerprint begins with `prefix`.

    Raises:
        StorageError: no fingerprint begins so, or several do.
    """
    record, study = ledger.find_run(prefix)
    for name in ledger.ablations():
        manifest = ledger.manifest(name)
        for task, studies in manifest.studies.items():
            if study in studies.values():
                return RecordedRun(record, study, manifest.view_of(task).config)
    raise StorageError(f"--replay {prefix}: its study {study} is in no ablation of this ledger")


def replay(ledger: Ledger, recorded_run: RecordedRun, runs_folder: Path) -> Replay:
    """Train a recorded run again. The ledger stays as it is.

    Teacher and teacher outputs come from the runs folder, and are made again where they are missing.

    Raises:
        UserError: something that the run depends on has changed.
    """
    record, study = recorded_run.record, recorded_run.study
    task, name = record.inputs.task_name, record.inputs.method
    config = replace(
        recorded_run.config, out=str(runs_folder), tasks=(task,), methods=(name,), baseline=None
    )
    tasks, _ = load_tasks(config)
    trainer = Workshop(tasks).trainer(config, task)
    run = _current_run(trainer.prepared, record, study)
    if run.fingerprint != record.fingerprint:
        raise UserError(f"--replay {record.fingerprint[:16]}: {_other_inputs(record, run)}")
    runs = _with_its_population(trainer.prepared, ledger, run, record)
    label = f"{task}: {name}, seed {run.seed}"
    label += f", and {len(runs) - 1} more runs of its population" * (len(runs) > 1)
    with progress(label, trainer.prepared.outcome.steps * len(runs)) as advance:
        result = _train(trainer, runs, advance)[record.fingerprint]
    # The run's identity does not cover test splits, and their data may have changed.
    splits = [name for name, _ in record.inputs.evaluation if name in result.predictions]
    predictions = {name: ledger.predictions(record.fingerprint, name) for name in splits}
    return Replay(
        record.fingerprint,
        _agreement(record),
        tuple(_differences(record, predictions, result)),
        tuple(_surroundings(record.provenance, result.record.provenance)),
    )


def _train(
    trainer: Trainer, runs: Sequence[Run], advance: Callable[[int], None]
) -> dict[str, Result]:
    """Train runs together; returns their results by fingerprint, and writes nothing."""
    results, reason = train_together(trainer, runs, advance)
    if reason is not None:
        results = [failed_result(run, reason) for run in runs]
    return {result.record.fingerprint: result for result in results}


def _current_run(prepared: PreparedTask, record: Record, study: str) -> Run:
    inputs = record.inputs
    method = registry().resolve(inputs.method)
    settings = () if inputs.halving is None else inputs.halving.round
    return prepared.run(method, study, inputs.setting, 0, inputs.seed, inputs.role, settings)


def _with_its_population(
    prepared: PreparedTask, ledger: Ledger, run: Run, record: Record
) -> list[Run]:
    """The runs that were trained together with a run, this run among them.

    Trained alone, the run may differ in its last digits. If one of the other runs cannot be trained
    again, the function warns and returns the run alone.
    """
    names = record.provenance.population
    records = ledger.records(names)
    runs = []
    for name in names:
        candidate = run if name == run.fingerprint else None
        if candidate is None and name in records:
            candidate = _current_run(prepared, records[name], run.study)
        if candidate is None or candidate.fingerprint != name:
            say(
                f"warning: run {name[:16]} of the same population is gone, or its inputs have changed; "
                f"run {run.fingerprint[:16]} is trained alone, and its last digits may differ"
            )
            return [run]
        runs.append(candidate)
    return runs


def _other_inputs(record: Record, run: Run) -> str:
    recorded_inputs, inputs = record.inputs.plain(), run.inputs.plain()
    parts = []
    for name in sorted({*recorded_inputs, *inputs}):
        recorded_value, value = recorded_inputs.get(name), inputs.get(name)
        if recorded_value != value:
            parts.append(f"{name} ({_shorten(recorded_value)} then, {_shorten(value)} now)")
    return f"the run cannot be repeated here, because its inputs have changed: {', '.join(parts)}"


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:16]}..."


def _agreement(record: Record) -> str:
    if record.status == "failed":
        return f"both runs failed in the same way ({record.reason})"
    predictions = " and predictions" if record.inputs.role == "report" else ""
    return f"metrics, losses{predictions} are equal to the last digit"


def _differences(
    record: Record, predictions: Mapping[str, Predictions | None], result: Result
) -> list[str]:
    differences, repetition = [], result.record
    # The rest of a reason may hold a line number, or the free memory.
    if (record.status, _kind(record.reason)) != (repetition.status, _kind(repetition.reason)):
        differences.append(
            f"{record.reason or record.status} then, {repetition.reason or repetition.status} now"
        )
    for name in sorted({*record.metrics, *repetition.metrics}):
        recorded_value, value = record.metrics.get(name), repetition.metrics.get(name)
        if recorded_value != value:
            differences.append(f"{name} {recorded_value} then, {value} now")
    for name in sorted({*record.selection, *repetition.selection}):
        recorded_value, value = record.selection.get(name), repetition.selection.get(name)
        if recorded_value != value:
            differences.append(f"{name} (selection) {recorded_value} then, {value} now")
    for split, recorded_predictions in predictions.items():
        if recorded_predictions is None and record.inputs.role == "report":
            differences.append(f"{split}: the ledger has no predictions of the run")
        elif recorded_predictions is not None:
            differences += _different_predictions(
                split, recorded_predictions, result.predictions[split]
            )
    if record.curves != repetition.curves:
        differences.append("the losses by epoch differ")
    return differences


def _kind(reason: str | None) -> str | None:
    return None if reason is None else reason.partition(":")[0]


def _different_predictions(split: str, original: Predictions, repetition: Predictions) -> list[str]:
    if original.logits.shape != repetition.logits.shape:
        return [
            f"{split}: logits of shape {original.logits.shape} then, {repetition.logits.shape} now"
        ]
    if np.array_equal(original.logits, repetition.logits):
        return []
    deviation = float(np.abs(original.logits - repetition.logits).max())
    text = f"{split}: logits differ by up to {deviation:.2g}"
    if original.logits.shape[1] > 1:
        changes = int((original.logits.argmax(axis=1) != repetition.logits.argmax(axis=1)).sum())
        text += f", {changes} of {len(original.logits)} predictions differ"
    return [text]


def _surroundings(original: RunProvenance, repetition: RunProvenance) -> list[str]:
    pairs = {
        "python": (original.python, repetition.python),
        "processor": (original.processor, repetition.processor),
        "revision": (original.revision, repetition.revision),
        "threads": (original.threads, repetition.threads),
        **{
            name: (original.libraries.get(name), version)
            for name, version in repetition.libraries.items()
        },
    }
    return [
        f"{name} {recorded_version} and {version}"
        for name, (recorded_version, version) in pairs.items()
        if recorded_version != version
    ]
