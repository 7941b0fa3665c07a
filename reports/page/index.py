"""The index of a runs folder, made of the summaries that lie in its reports."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.errors import StorageError
from reports.kit.palette import SIGNS
from reports.page import verdicts
from reports.page.document import document, script

REPORT = "report.html"
HEAD, PIECE = 2**20, 2**16
"""The first bytes of a report, within which its summary lies, and how many of them are read at once."""

_SUMMARY = re.compile(rb'<script type="application/json" id="summary">(.*?)</script>', re.DOTALL)


NAME_SEPARATOR = "-and-"
"""The text between the names of two ablations in the file name of their comparison."""


@dataclass(frozen=True)
class Comparison:
    """A page of the folder that compares two ablations, with the values of the page's summary."""

    href: str
    names: list[str]
    banners: list[str]


@dataclass(frozen=True)
class Entry:
    """One report of the index: the values of `reports.page.summary`, and the report's address."""

    href: str
    name: str
    title: str
    last: float | None
    """The time of the last record, in seconds since 1970."""
    date: str
    parts: list[str]
    """The ablations that a joint report joins."""
    source: str
    banners: list[str]
    warnings: list[str]
    facts: dict[str, str]
    tasks: list[str]
    methods: list[str]
    missing: int
    failed: int
    verdicts: list[dict[str, Any]]

    @property
    def tally(self) -> str:
        """The number of comparisons with each outcome; empty without comparisons."""
        return verdicts.outcome_tally(verdict["outcome"] for verdict in self.verdicts)


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, newest first; the parts of a joint report follow it."""
    newest_first = sorted(entries, key=lambda entry: -(entry.last or 0.0))
    by_name = {entry.name: entry for entry in newest_first}
    parts = {name for entry in newest_first for name in entry.parts}
    return [
        member
        for entry in newest_first
        if entry.name not in parts
        for member in (entry, *(by_name[name] for name in entry.parts if name in by_name))
    ]


PageState = tuple[int, int, int] | None
"""A file's number, size and time of change; None without the file."""


def page_states(runs: Path, ablations: Sequence[str]) -> list[PageState]:
    """The states of all pages that an index reads. A page that is written again has another state."""
    paths = [*(runs / name / REPORT for name in ablations), *_comparison_pages(runs)]
    return [_state(path) for path in paths]


def _state(path: Path) -> PageState:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _comparison_pages(runs: Path) -> list[Path]:
    return sorted(runs.glob(f"*{NAME_SEPARATOR}*.html"))


def entries(runs: Path, ablations: Sequence[str]) -> dict[str, Entry | None]:
    """Each ablation's entry; None where its folder has no report.

    Raises `StorageError` when a report cannot be read.
    """
    return {name: _entry(runs / name / REPORT, name) for name in ablations}


def comparisons(runs: Path) -> list[Comparison]:
    """The pages of the folder that compare two ablations, in the order of their file names.

    Raises `StorageError` when a page cannot be read.
    """
    summaries = ((path, _summary(path)) for path in _comparison_pages(runs))
    # A report may have such a name, too.
    return [
        Comparison(quote(path.name), **summary)
        for path, summary in summaries
        if summary and "names" in summary
    ]


def render_index(
    runs: Path, reports: Mapping[str, Entry | None], pages: Sequence[Comparison]
) -> str:
    """The index's HTML, with a list of the ablations without an entry."""
    return document(
        "index.html.j2",
        [script("page.js"), script("tables.js")],
        name=f"Reports in {runs.resolve().name}",
        banners=(),
        entries=in_order([entry for entry in reports.values() if entry is not None]),
        parts={name for entry in reports.values() if entry is not None for name in entry.parts},
        comparisons=pages,
        unreported=[name for name, entry in reports.items() if entry is None],
        signs=SIGNS,
    )


def _entry(path: Path, ablation: str) -> Entry | None:
    summary = _summary(path)
    names = {field.name for field in fields(Entry)} - {"href"}
    # A page of another version of the harness has another summary.
    if summary is None or set(summary) != names:
        return None
    return Entry(href=f"{quote(ablation)}/{REPORT}", **summary)


def _summary(path: Path) -> dict[str, Any] | None:
    """The summary that lies in a page; None without a page, or for a page without a summary."""
    if not path.is_file():
        return None
    head, match = b"", None
    try:
        with path.open("rb") as stream:
            while match is None and len(head) < HEAD and (piece := stream.read(PIECE)):
                head += piece
                match = _SUMMARY.search(head)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    return None if match is None else dict(json.loads(match[1]))
