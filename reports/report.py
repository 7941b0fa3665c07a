"""Write reports with the tables beside them, comparisons of two ablations, and the index of all."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from harness.analysis.ablation_diff import read_ablation_diff
from harness.analysis.compare import AblationResult
from harness.errors import StorageError, UserError, one_line
from harness.runtime.output import LEFT_OUT, printing
from harness.runtime.progress import say
from harness.runtime.threads import count_threads, limit_pools
from harness.storage.database import existing_url
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from reports.evidence import Evidence, reading_evidence
from reports.export.comparisons import comparisons_csv
from reports.export.disagreements import disagreements_csv
from reports.export.results import results_csv
from reports.kit.files import is_file_name, write_whole
from reports.page.ablation_diff import render as render_side_by_side
from reports.page.index import (
    NAME_SEPARATOR,
    REPORT,
    comparisons,
    entries,
    page_states,
    render_index,
)
from reports.page.page import render
from reports.page.paper.parts import paper_parts

TABLES: dict[str, Callable[[Evidence], str | bytes]] = {
    "results.csv": results_csv,
    "comparisons.csv": comparisons_csv,
    "disagreements.csv": disagreements_csv,
}
"""The tables beside a report, each with the function that writes it."""
LATE_TABLES = {"comparisons.csv"}
"""The tables that read verdicts."""


def build_report(ledger: Ledger, ablation: str, path: Path) -> AblationResult:
    """Write an ablation's report to `path` and its tables beside `path`; returns the ablation's result.

    Each file is replaced in one step. Raises `StorageError` when the ledger has no such ablation or a
    file cannot be written.
    """
    with reading_evidence(ledger, ablation) as evidence:
        # What reads no verdict comes first: threads still compute intervals that verdicts need.
        for name in TABLES.keys() - LATE_TABLES:
            write_whole(companion_path(path, name), TABLES[name](evidence))
        page = render(evidence, _links(evidence.manifest, path))
        for name in LATE_TABLES:
            write_whole(companion_path(path, name), TABLES[name](evidence))
        for part in paper_parts(evidence):
            write_whole(companion_path(path, part.file), part.text)
        write_whole(path, page)
        return evidence.result.settled()


def companion_path(report: Path, name: str) -> Path:
    """The path of a file beside a report: `results.csv`, or `NAME-results.csv` beside `NAME.html`."""
    return report.with_name(name if report.name == REPORT else f"{report.stem}-{name}")


def _links(manifest: Manifest, path: Path) -> list[tuple[str, str]]:
    """Texts and addresses of the tables beside a report; and of index and repeats, if it lies there."""
    links = []
    is_home = path.name == REPORT and path.parent.name == manifest.name
    if is_home:
        links.append(("all reports", "../index.html"))
    links += [(name, quote(companion_path(path, name).name)) for name in TABLES]
    if is_home:
        links += [
            (f"repeat {number}", f"../{quote(name)}/{REPORT}")
            for number, name in enumerate(manifest.repeats, start=1)
            if name is not None
        ]
    return links


def build_index(ledger: Ledger, runs: Path) -> Path:
    """Write `index.html` of a runs folder, which links the pages that lie there; returns its path.

    The index is written again while reports change: several commands may end at once, and the last
    index must link the reports of all. Raises `StorageError` when the index cannot be written.
    """
    path, ablations = runs / "index.html", list(filter(is_file_name, ledger.ablations()))
    while True:
        states = page_states(runs, ablations)
        write_whole(path, render_index(runs, entries(runs, ablations), comparisons(runs)))
        if states == page_states(runs, ablations):
            return path


def build_chosen(options: argparse.Namespace) -> int:
    """Build what the options of the command ask for; returns the exit code."""
    try:
        limit_pools(count_threads())
        paths, refusals = _build(options)
    except UserError as error:
        say(f"error: {one_line(error)}")
        return 2
    with printing(f"written: {', '.join(map(str, paths))}"):
        print(*paths, sep="\n")
    for name, reason in refusals.items():
        say(f"left out: {name} ({one_line(reason)})")
    return LEFT_OUT if refusals else 0


def _build(options: argparse.Namespace) -> tuple[list[Path], Mapping[str, StorageError]]:
    if options.compare and options.ablation is not None:
        raise UserError("--compare names two ablations: leave --ablation out")
    ledger = Ledger(existing_url(options.runs, options.storage))
    try:
        if options.compare:
            return _build_comparison(ledger, options.runs, options.out, *options.compare), {}
        return _build_reports(ledger, options.runs, options.out, options.ablation)
    finally:
        ledger.close()


def _build_reports(
    ledger: Ledger, runs: Path, target: Path | None, ablation: str | None
) -> tuple[list[Path], Mapping[str, StorageError]]:
    """The paths of the files, and why ablations whose rows cannot be read have none.

    Raises:
        StorageError: no report can be written.
    """
    names = _select(ledger.ablations(), ablation)
    if target is not None and not names:
        raise UserError(f"--out {target}: the ledger of {runs} has no ablation yet")
    if target is not None and len(names) > 1:
        raise UserError(
            f"--out {target}: the ledger has {len(names)} ablations ({', '.join(names)}); "
            "choose one with --ablation"
        )
    paths, refusals = [], {}
    for name, path in [(name, target or _report_path(runs, name)) for name in names]:
        try:
            build_report(ledger, name, path)
        except StorageError as error:
            refusals[name] = error
        else:
            paths.append(path)
    if refusals and not paths:
        raise next(iter(refusals.values()))
    if target is None:
        paths.append(build_index(ledger, runs))
    return paths, refusals


def _build_comparison(
    ledger: Ledger, runs: Path, target: Path | None, first: str, second: str
) -> list[Path]:
    ablations = ledger.ablations()
    for name in (first, second):
        if name not in ablations:
            matches = difflib.get_close_matches(name, ablations, n=3, cutoff=0.0)
            hint = (
                f"; the nearest are {', '.join(matches)}"
                if matches
                else "; the ledger has no ablation yet"
            )
            raise UserError(f"--compare {name}: not in the ledger{hint}")
    if first == second:
        raise UserError(f"--compare {first}: both names are the same")
    file = f"{first}{NAME_SEPARATOR}{second}.html"
    if target is None and not is_file_name(file):
        raise UserError(f"--compare: {file!r} cannot name a file; give --out")
    path = target or runs / file
    write_whole(path, render_side_by_side(read_ablation_diff(ledger, first, second)))
    return [path] if target is not None else [path, build_index(ledger, runs)]


def _select(ablations: Sequence[str], choice: str | None) -> Sequence[str]:
    if choice is None:
        return ablations
    if choice not in ablations:
        names = ", ".join(ablations) or "none yet"
        raise UserError(f"--ablation {choice}: not in the ledger, which has {names}")
    return [choice]


def _report_path(runs: Path, ablation: str) -> Path:
    """The path of an ablation's report: `RUNS_DIR/ABLATION/report.html`."""
    if not is_file_name(ablation):
        raise UserError(f"ablation {ablation!r} cannot name a folder; give --ablation and --out")
    return runs / ablation / REPORT
