"""One zip of a method's test predictions for GLUE's server: `python -m reports.submission RUNS_DIR`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.repeats import read_parts
from harness.analysis.results import MethodResult, read_results
from harness.errors import DataError, StorageError, UserError, one_line
from harness.paths import user_path
from harness.runtime.output import CommandParser, exit_code, leave, printing
from harness.runtime.progress import say
from harness.storage.database import existing_url
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from harness.storage.record import StudyRun
from reports.export.glue import FILES, OfficialFile, zip_files
from reports.kit.files import is_file_name, write_whole


@dataclass(frozen=True)
class ChosenRun:
    """The run whose predictions are submitted for a task.

    `score` is the run's `metric` on `split`, in score units. `choice` says how the run was chosen, in
    words; empty where the user named a seed. `by_score` is whether the score on `split` chose it.
    """

    run: StudyRun
    metric: str
    score: float
    split: str
    choice: str
    by_score: bool


@dataclass(frozen=True)
class Submission:
    """The texts of the files by official name, each task's chosen run, and why a file is left out."""

    files: Mapping[str, str]
    chosen_runs: Mapping[str, ChosenRun]
    omissions: Mapping[str, str]

    @property
    def reasons(self) -> list[str]:
        """The reasons why files are left out, each after the names of its files."""
        names: dict[str, list[str]] = {}
        for name, reason in self.omissions.items():
            names.setdefault(reason, []).append(name)
        return [f"{', '.join(files)}: {reason}" for reason, files in names.items()]


def read_submission(
    ledger: Ledger, ablations: Sequence[str], method: str, seed: int | None = None
) -> Submission:
    """A method's test predictions in these ablations, from one report run for each task.

    The run is the one with `seed`. Without `seed` it is the trial with the best selection score, of the
    first repeat; or of two settings the report run with the highest score on the split of the report,
    and of equal scores the one with the lowest seed. Raises `UserError` when the method is in none
    of these ablations, or when several have the method on one task.
    """
    manifests = _by_task(ledger, ablations, method)
    files, chosen_runs, omissions = {}, {}, {}
    for official in FILES:
        try:
            if official.task not in manifests:
                raise DataError(f"{method} was not trained on the task")
            if official.task not in chosen_runs:
                manifest = manifests[official.task]
                chosen_runs[official.task] = _choose(ledger, manifest, official.task, method, seed)
            files[official.name] = _table(ledger, official, chosen_runs[official.task].run)
        except DataError as error:
            omissions[official.name] = str(error)
    tasks = {official.task for official in FILES if official.name in files}
    return Submission(
        files, {task: chosen_runs[task] for task in chosen_runs if task in tasks}, omissions
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the zip that the command line asks for; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    try:
        path = _write(options)
    except UserError as error:
        say(f"error: {one_line(error)}")
        return 2
    with printing(f"written: {path}"):
        print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="python -m reports.submission", description=__doc__)
    parser.add_argument("runs", type=user_path, metavar="RUNS_DIR", help="folder with ledger.db")
    parser.add_argument(
        "--method",
        metavar="NAME",
        required=True,
        help="the method whose students make the predictions",
    )
    parser.add_argument(
        "--ablation",
        metavar="NAME",
        action="append",
        help="an ablation with runs of the method; may be repeated; default: all",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed of the run; default: the trial with the best selection score, or of settings "
        "each task's best report run",
    )
    parser.add_argument(
        "--out", type=user_path, metavar="FILE", help="default: RUNS_DIR/METHOD-glue.zip"
    )
    parser.add_argument("--storage", metavar="URL", help="the ledger's database, if not ledger.db")
    return parser


def _write(options: argparse.Namespace) -> Path:
    ledger = Ledger(existing_url(options.runs, options.storage))
    try:
        names = _select_ablations(ledger, options.ablation, options.runs)
        submission = read_submission(ledger, names, options.method, options.seed)
    finally:
        ledger.close()
    if not submission.files:
        raise UserError(
            f"--method {options.method}: nothing to submit: {'; '.join(submission.reasons)}"
        )
    path: Path = options.out or _archive_path(options.runs, options.method)
    write_whole(path, zip_files(submission.files))
    for line in _messages(submission):
        say(" ".join(line.split()))
    return path


def _select_ablations(ledger: Ledger, choice: Sequence[str] | None, runs: Path) -> Sequence[str]:
    """The ablations that the user named; by default all but repeats and those with cells."""
    ablations = ledger.ablations()
    if not ablations:
        raise StorageError(f"RUNS_DIR {runs}: the ledger has no ablation yet")
    unknown_names = [name for name in choice or () if name not in ablations]
    if unknown_names:
        raise UserError(
            f"--ablation {unknown_names[0]}: not in the ledger, which has {', '.join(ablations)}"
        )
    manifests = {name: ledger.manifest(name) for name in ablations}
    for name in choice or ():
        if manifests[name].grid is not None:
            raise UserError(
                f"--ablation {name}: has cells. A command with the values of one cell trains nothing "
                "again, and its ablation can be submitted"
            )
    parts = {part for manifest in manifests.values() for part in manifest.repeats}
    parts |= {name for name, manifest in manifests.items() if manifest.grid is not None}
    return list(dict.fromkeys(choice or [name for name in ablations if name not in parts]))


def _archive_path(runs: Path, method: str) -> Path:
    if not is_file_name(method):
        raise UserError(f"--method {method}: cannot name a file; give --out")
    return runs / f"{method}-glue.zip"


def _by_task(ledger: Ledger, ablations: Sequence[str], method: str) -> dict[str, Manifest]:
    """The manifest with the method's study on each of GLUE's tasks."""
    glue = {official.task for official in FILES}
    manifests: dict[str, Manifest] = {}
    methods: dict[str, None] = {}
    for name in ablations:
        manifest = ledger.manifest(name)
        for task, studies in manifest.studies.items():
            methods |= dict.fromkeys(studies)
            if task not in glue or method not in studies:
                continue
            if task in manifests and _is_demo(manifest):
                continue
            if task in manifests and not _is_demo(manifests[task]):
                raise UserError(
                    f"--method {method}: {manifests[task].name} and {name} both have the method on "
                    f"{task}; choose with --ablation"
                )
            manifests[task] = manifest
    if method not in methods:
        names = ", ".join(methods) or "none"
        raise UserError(f"--method {method}: not in the ledger, which has {names}")
    return manifests


def _is_demo(manifest: Manifest) -> bool:
    """Whether the data are the demo's, whose predictions cannot be submitted."""
    return manifest.source.kind == "demo"


def _choose(
    ledger: Ledger, manifest: Manifest, task: str, method: str, seed: int | None
) -> ChosenRun:
    """The run to submit for a task. Raises `DataError` when no report run fits."""
    if _is_demo(manifest):
        raise DataError("the demo's data are made up and have no test split")
    results = [result for result in _results(ledger, manifest, task) if result.method == method]
    runs = [run for result in results for run in result.report if run.record.status == "complete"]
    candidates = [run for run in runs if seed in (None, run.seed)]
    if not candidates:
        condition = "" if seed is None else f" with seed {seed}"
        raise DataError(f"no report run{condition} is complete")
    metric = results[0].metric
    by_selection = manifest.config.protocol.unit == "methods" and seed is None
    if by_selection:
        # A choice by the reported scores would flatter the method, also a choice among repeats.
        best = next(run for r in results for run in r.report if run.trial == r.best_trial)
        choice = f"the best selection score of {len(results[0].report)} trials"
    else:
        best = max(candidates, key=lambda run: (run.record.metrics[metric], -run.seed))
        choice = f"the highest of {len(runs)} report runs" if seed is None else ""
    return ChosenRun(
        run=best,
        metric=metric,
        score=best.record.metrics[metric],
        split=best.record.inputs.split.name,
        choice=choice,
        by_score=seed is None and not by_selection,
    )


def _results(ledger: Ledger, manifest: Manifest, task: str) -> list[MethodResult]:
    """The results on a task; of a joint ablation, the results of all repeats."""
    if manifest.is_joint:
        parts = read_parts(ledger, manifest).values()
        return [result for part in parts for result in part if result.task == task]
    return read_results(ledger, manifest, task, manifest.studies[task])


def _table(ledger: Ledger, official: OfficialFile, run: StudyRun) -> str:
    predictions = ledger.predictions(run.record.fingerprint, official.split)
    if predictions is None and (damage := ledger.damages.get(run.record.fingerprint)):
        raise DataError(f"{damage.sentence}; --repair trains it again")
    if predictions is None:
        raise DataError(
            f"the run with seed {run.seed} has no predictions of split {official.split}: a run makes "
            "the predictions when it is trained, if the data have the split; add the split's file and "
            "train into another --out"
        )
    return official.table(predictions)


def _messages(submission: Submission) -> list[str]:
    lines = [
        f"{task}: seed {chosen.run.seed}, {chosen.metric} {100 * chosen.score:.2f} on {chosen.split}"
        + f", {chosen.choice}" * bool(chosen.choice)
        for task, chosen in submission.chosen_runs.items()
    ]
    if any(chosen.by_score for chosen in submission.chosen_runs.values()):
        lines.append(
            "a run chosen by its score flatters the method: compare methods by means over seeds"
        )
    if submission.omissions:
        lines += [f"left out: {reason}" for reason in submission.reasons]
        lines.append(
            f"warning: GLUE's server wants all {len(FILES)} files: add the missing "
            f"{len(submission.omissions)} from its sample submission, whose scores are not the method's"
        )
    return lines


def entry() -> None:
    """The console script."""
    leave(main())


if __name__ == "__main__":
    entry()
