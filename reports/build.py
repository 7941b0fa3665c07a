"""Build reports from a ledger, on any machine: `python -m reports.build RUNS_DIR`."""

from __future__ import annotations

import argparse
import difflib
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.analysis.ablation_diff import side_by_side
from harness.analysis.compare import AblationResult
from harness.errors import UserError, one_line
from harness.storage.database import existing_url
from harness.storage.ledger import Ledger
from reports.evidence import read_evidence
from reports.export.disagreements import disagreements_csv
from reports.export.results import results_csv
from reports.kit.files import is_file_name, write_whole
from reports.page.ablation_diff import render as render_side_by_side
from reports.page.index import BETWEEN, REPORT, comparisons, entries, render_index
from reports.page.page import render

YOUNG = 100_000
"""Objects made before Python looks for cycles among them. What a report is made of lives until it is
written: with Python's own number, hundreds, a twentieth of the time goes to looking in vain."""


def build_report(ledger: Ledger, ablation: str, path: Path) -> AblationResult:
    """Write an ablation's report to `path`, its tables for others beside it, and return what they show.

    Each file is replaced in one step. Raises `StorageError` when the ledger has no such ablation or a
    file cannot be written.
    """
    evidence = read_evidence(ledger, ablation)
    write_whole(beside(path, "results.csv"), results_csv(evidence))
    write_whole(beside(path, "disagreements.csv"), disagreements_csv(evidence))
    write_whole(path, render(evidence))
    return evidence.result


def beside(report: Path, name: str) -> Path:
    """Where a report's file lies: `results.csv`, or `NAME-results.csv` beside a report of that name."""
    return report.with_name(name if report.name == REPORT else f"{report.stem}-{name}")


def build_index(ledger: Ledger, runs: Path) -> Path:
    """Write `index.html` of a runs folder, which links the pages that lie there; returns its path.

    It is written again while reports change: several commands may end at once, and the last one to
    write must have seen the others' reports. Raises `StorageError` when it cannot be written.
    """
    path, ablations = runs / "index.html", list(filter(is_file_name, ledger.ablations()))
    while True:
        shown = entries(runs, ablations), comparisons(runs)
        write_whole(path, render_index(runs, *shown))
        if shown == (entries(runs, ablations), comparisons(runs)):
            return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the reports that the command line asks for; returns the exit code."""
    given = _parser().parse_args(arguments)
    gc.set_threshold(YOUNG)
    try:
        for path in _build(given):
            print(path)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports.build", description=__doc__)
    parser.add_argument("runs", type=Path, metavar="RUNS_DIR", help="folder with ledger.db")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write a single report")
    parser.add_argument("--ablation", metavar="NAME", help="only this one; default: all")
    parser.add_argument("--storage", metavar="URL", help="the ledger's database, if not ledger.db")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="NAME",
        help="instead of reports: one page that sets two ablations side by side",
    )
    return parser


def _build(given: argparse.Namespace) -> list[Path]:
    if given.compare and given.ablation is not None:
        raise UserError("--compare names both ablations: leave --ablation out")
    ledger = Ledger(existing_url(given.runs, given.storage))
    try:
        if given.compare:
            return _build_comparison(ledger, given.runs, given.out, *given.compare)
        return _build_reports(ledger, given.runs, given.out, given.ablation)
    finally:
        ledger.close()


def _build_reports(
    ledger: Ledger, runs: Path, out: Path | None, ablation: str | None
) -> list[Path]:
    names = _chosen(ledger.ablations(), ablation)
    if out is not None and not names:
        raise UserError(f"--out {out}: the ledger of {runs} has no ablation yet")
    if out is not None and len(names) > 1:
        raise UserError(
            f"--out {out}: the ledger has {len(names)} ablations ({', '.join(names)}); "
            "choose one with --ablation"
        )
    paths = [out or _place(runs, name) for name in names]
    for name, path in zip(names, paths, strict=True):
        build_report(ledger, name, path)
    if out is None:
        paths.append(build_index(ledger, runs))
    return paths


def _build_comparison(
    ledger: Ledger, runs: Path, out: Path | None, first: str, second: str
) -> list[Path]:
    known = ledger.ablations()
    for name in (first, second):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
            hint = f"; the nearest are {', '.join(near)}" if near else ", which has none yet"
            raise UserError(f"--compare {name}: not in the ledger{hint}")
    if first == second:
        raise UserError(f"--compare {first}: both names are the same")
    file = f"{first}{BETWEEN}{second}.html"
    if out is None and not is_file_name(file):
        raise UserError(f"--compare: {file!r} cannot name a file; give --out")
    path = out or runs / file
    write_whole(path, render_side_by_side(side_by_side(ledger, first, second)))
    return [path] if out is not None else [path, build_index(ledger, runs)]


def _chosen(found: Sequence[str], wanted: str | None) -> Sequence[str]:
    if wanted is None:
        return found
    if wanted not in found:
        there = ", ".join(found) or "none yet"
        raise UserError(f"--ablation {wanted}: not in the ledger, which has {there}")
    return [wanted]


def _place(runs: Path, ablation: str) -> Path:
    """The ablation's own folder, which must lie in the runs folder."""
    if not is_file_name(ablation):
        raise UserError(f"ablation {ablation!r} cannot name a folder; give --ablation and --out")
    return runs / ablation / REPORT


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
