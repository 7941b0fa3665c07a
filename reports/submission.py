"""One zip of a method's test predictions for GLUE's server: `python -m reports.submission RUNS_DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.repeats import read_parts
from harness.analysis.results import MethodResult, read_results
from harness.errors import DataError, StorageError, UserError, one_line
from harness.storage.database import existing_url
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from harness.storage.record import StudyRun
from reports.export.glue import FILES, OfficialFile, zipped
from reports.kit.files import is_file_name, write_whole


@dataclass(frozen=True)
class Chosen:
    """The run whose predictions are submitted for a task, of `runs` complete report runs.

    `score` is its `metric` (in score units) on `split`, by which the highest was taken unless a seed was
    asked for.
    """

    run: StudyRun
    runs: int
    metric: str
    score: float
    split: str


@dataclass(frozen=True)
class Submission:
    """`files` are texts by official name, `left_out` says why there is no other; `chosen` is by task."""

    files: Mapping[str, str]
    chosen: Mapping[str, Chosen]
    left_out: Mapping[str, str]

    @property
    def reasons(self) -> list[str]:
        """Why files are left out, those of one reason together."""
        names: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            names.setdefault(reason, []).append(name)
        return [f"{', '.join(own)}: {reason}" for reason, own in names.items()]


def read_submission(
    ledger: Ledger, ablations: Sequence[str], method: str, seed: int | None = None
) -> Submission:
    """A method's test predictions in these ablations, each task's of one report run.

    That is the run with the highest score on the split that is reported, the lowest seed of equal ones,
    or the run with `seed`. Raises `UserError` when the method is in none of these ablations, or on one
    task in several.
    """
    manifests = _by_task(ledger, ablations, method)
    files, chosen, left_out = {}, {}, {}
    for official in FILES:
        try:
            if official.task not in manifests:
                raise DataError(f"{method} was not trained on the task")
            if official.task not in chosen:
                manifest = manifests[official.task]
                chosen[official.task] = _choose(ledger, manifest, official.task, method, seed)
            files[official.name] = _table(ledger, official, chosen[official.task].run)
        except DataError as error:
            left_out[official.name] = str(error)
    used = {official.task for official in FILES if official.name in files}
    return Submission(files, {task: chosen[task] for task in chosen if task in used}, left_out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the zip that the command line asks for; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        path = _write(given)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports.submission", description=__doc__)
    parser.add_argument("runs", type=Path, metavar="RUNS_DIR", help="folder with ledger.db")
    parser.add_argument("--method", metavar="NAME", required=True, help="whose students answer")
    parser.add_argument(
        "--ablation",
        metavar="NAME",
        action="append",
        help="where its runs are, may be given several times; default: all",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="the report run to take; default: each task's best on the evaluation split",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: RUNS_DIR/METHOD-glue.zip"
    )
    parser.add_argument("--storage", metavar="URL", help="the ledger's database, if not ledger.db")
    return parser


def _write(given: argparse.Namespace) -> Path:
    ledger = Ledger(existing_url(given.runs, given.storage))
    try:
        names = _chosen_ablations(ledger, given.ablation, given.runs)
        submission = read_submission(ledger, names, given.method, given.seed)
    finally:
        ledger.close()
    if not submission.files:
        raise UserError(
            f"--method {given.method}: nothing to submit: {'; '.join(submission.reasons)}"
        )
    path: Path = given.out or _place(given.runs, given.method)
    write_whole(path, zipped(submission.files))
    for line in _said(submission, by_score=given.seed is None):
        print(" ".join(line.split()), file=sys.stderr)
    return path


def _chosen_ablations(ledger: Ledger, wanted: Sequence[str] | None, runs: Path) -> Sequence[str]:
    """Those that were named; by default all, of repeats of the whole the one over them."""
    found = ledger.ablations()
    if not found:
        raise StorageError(f"RUNS_DIR {runs}: the ledger has no ablation yet")
    unknown = [name for name in wanted or () if name not in found]
    if unknown:
        raise UserError(f"--ablation {unknown[0]}: not in the ledger, which has {', '.join(found)}")
    repeats = {part for name in found for part in ledger.manifest(name).repeats}
    return list(dict.fromkeys(wanted or [name for name in found if name not in repeats]))


def _place(runs: Path, method: str) -> Path:
    if not is_file_name(method):
        raise UserError(f"--method {method}: cannot name a file; give --out")
    return runs / f"{method}-glue.zip"


def _by_task(ledger: Ledger, ablations: Sequence[str], method: str) -> dict[str, Manifest]:
    """The manifest with the method's study on each of GLUE's tasks."""
    glue = {official.task for official in FILES}
    found: dict[str, Manifest] = {}
    methods: dict[str, None] = {}
    for name in ablations:
        manifest = ledger.manifest(name)
        for task, studies in manifest.studies.items():
            methods |= dict.fromkeys(studies)
            if task not in glue or method not in studies:
                continue
            if task in found and _is_demo(manifest):
                continue
            if task in found and not _is_demo(found[task]):
                raise UserError(
                    f"--method {method}: on {task} it is in {found[task].name} and in {name}; choose "
                    "with --ablation"
                )
            found[task] = manifest
    if method not in methods:
        known = ", ".join(methods) or "none"
        raise UserError(f"--method {method}: not in the ledger, which has {known}")
    return found


def _is_demo(manifest: Manifest) -> bool:
    """What cannot be submitted, and so is never in the way of what can."""
    return manifest.source.kind == "demo"


def _choose(ledger: Ledger, manifest: Manifest, task: str, method: str, seed: int | None) -> Chosen:
    """Raises `DataError` when there is no such run."""
    if _is_demo(manifest):
        raise DataError("the demo's data are made up and have no test split")
    results = [result for result in _results(ledger, manifest, task) if result.method == method]
    runs = [run for own in results for run in own.report if run.record.status == "complete"]
    wanted = [run for run in runs if seed in (None, run.seed)]
    if not wanted:
        which = "" if seed is None else f" with seed {seed}"
        raise DataError(f"no report run{which} is complete")
    metric = results[0].metric
    best = max(wanted, key=lambda run: (run.record.metrics[metric], -run.seed))
    split = best.record.inputs.split.name
    return Chosen(best, len(runs), metric, best.record.metrics[metric], split)


def _results(ledger: Ledger, manifest: Manifest, task: str) -> list[MethodResult]:
    """The results on a task, of all repeats where the whole was repeated."""
    if manifest.joint:
        parts = read_parts(ledger, manifest).values()
        return [result for part in parts for result in part if result.task == task]
    return read_results(ledger, manifest, task, manifest.studies[task])


def _table(ledger: Ledger, official: OfficialFile, run: StudyRun) -> str:
    predicted = ledger.predictions(run.record.fingerprint, official.split)
    if predicted is None:
        raise DataError(
            f"the run with seed {run.seed} has no predictions of split {official.split}: a run makes "
            "them when it is trained, if the data have that split then; add its file and train into "
            "another --out"
        )
    return official.table(predicted)


def _said(submission: Submission, by_score: bool) -> list[str]:
    lines = [
        f"{task}: seed {one.run.seed}, {one.metric} {100 * one.score:.2f} on {one.split}"
        + f", the highest of {one.runs} report runs" * by_score
        for task, one in submission.chosen.items()
    ]
    if by_score:
        lines.append("runs chosen by these scores flatter the method: compare by means over seeds")
    if submission.left_out:
        lines += [f"left out: {reason}" for reason in submission.reasons]
        lines.append(
            f"warning: GLUE's server wants all {len(FILES)} files: add the missing "
            f"{len(submission.left_out)} from its sample submission, whose scores are not the method's"
        )
    return lines


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
