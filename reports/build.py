"""Build reports from a ledger, on any machine: `python -m reports.build RUNS_DIR`."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from harness.compare import AblationResult
from harness.errors import StorageError, UserError, one_line
from harness.ledger import Ledger
from harness.storage import existing_url, host
from reports.evidence import read_evidence
from reports.index import REPORT, entries, render_index
from reports.page import render
from reports.results import results_csv


def build_report(ledger: Ledger, ablation: str, path: Path) -> AblationResult:
    """Write an ablation's report to `path` and its runs beside it, and return what they show.

    Each file is replaced in one step. Raises `StorageError` when the ledger has no such ablation or a
    file cannot be written.
    """
    evidence = read_evidence(ledger, ablation)
    _write(results_path(path), results_csv(evidence))
    _write(path, render(evidence))
    return evidence.result


def results_path(report: Path) -> Path:
    """Where a report's runs lie: `results.csv`, or `NAME-results.csv` beside a report of that name."""
    name = "results.csv" if report.name == REPORT else f"{report.stem}-results.csv"
    return report.with_name(name)


def build_index(ledger: Ledger, runs: Path) -> Path:
    """Write `index.html` of a runs folder, which links the reports that lie there; returns its path.

    It is written again while reports change: several commands may end at once, and the last one to
    write must have seen the others' reports. Raises `StorageError` when it cannot be written.
    """
    path, ablations = runs / "index.html", list(filter(_is_folder_name, ledger.ablations()))
    while True:
        shown = entries(runs, ablations)
        _write(path, render_index(runs, shown))
        if shown == entries(runs, ablations):
            return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the reports that the command line asks for; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        for path in _build(given.runs, given.out, given.ablation, given.storage):
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
    return parser


def _build(runs: Path, out: Path | None, ablation: str | None, storage: str | None) -> list[Path]:
    ledger = Ledger(existing_url(runs, storage))
    try:
        names = _chosen(ledger.ablations(), ablation, runs)
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
    finally:
        ledger.close()


def _chosen(found: Sequence[str], wanted: str | None, runs: Path) -> Sequence[str]:
    if not found:
        raise StorageError(f"RUNS_DIR {runs}: the ledger has no ablation yet")
    if wanted is None:
        return found
    if wanted not in found:
        raise UserError(f"--ablation {wanted}: not in the ledger, which has {', '.join(found)}")
    return [wanted]


def _place(runs: Path, ablation: str) -> Path:
    """The ablation's own folder, which must lie in the runs folder."""
    if not _is_folder_name(ablation):
        raise UserError(f"ablation {ablation!r} cannot name a folder; give --ablation and --out")
    return runs / ablation / REPORT


def _is_folder_name(ablation: str) -> bool:
    return ablation not in ("", ".", "..") and Path(ablation).name == ablation


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        own = f".{path.name}-{hashlib.sha256(host().encode()).hexdigest()[:8]}-"
        for left in path.parent.iterdir():
            if left.name.startswith(own) and not psutil.pid_exists(
                int(left.name.removeprefix(own))
            ):
                left.unlink(missing_ok=True)  # a killed process's
        temporary = path.with_name(f"{own}{os.getpid()}")
        try:
            temporary.write_text(text, encoding="utf-8", errors="replace")
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
