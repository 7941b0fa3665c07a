"""The index of a runs folder: its reports, read from the summary that lies in each of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.errors import StorageError
from reports.page import verdicts
from reports.page.document import document, script

REPORT = "report.html"
HEAD = 2**20
"""A report's summary lies within so many bytes."""

_SUMMARY = re.compile(rb'<script type="application/json" id="summary">(.*?)</script>', re.DOTALL)


BETWEEN = "-and-"
"""Stands between the names of two ablations in the name of the page that compares them."""


@dataclass(frozen=True)
class Comparison:
    """A page of the folder that sets two ablations side by side, as its own summary has it."""

    href: str
    names: list[str]
    banners: list[str]


@dataclass(frozen=True)
class Entry:
    """One report of the index: what `reports.page.summary` says, and where the report lies."""

    href: str
    name: str
    source: str
    banners: list[str]
    facts: dict[str, str]
    tasks: list[str]
    methods: list[str]
    missing: int
    failed: int
    verdicts: list[dict[str, Any]]

    @property
    def tally(self) -> str:
        """How many comparisons have which outcome; empty without any."""
        return verdicts.outcome_tally(verdict["outcome"] for verdict in self.verdicts)


def entries(runs: Path, ablations: Sequence[str]) -> dict[str, Entry | None]:
    """Each ablation's entry; None where its folder has no report.

    Raises `StorageError` when a report cannot be read.
    """
    return {name: _entry(runs / name / REPORT, name) for name in ablations}


def comparisons(runs: Path) -> list[Comparison]:
    """The pages of the folder that compare two ablations, by their files' names.

    Raises `StorageError` when one cannot be read.
    """
    found = ((path, _summary(path)) for path in sorted(runs.glob(f"*{BETWEEN}*.html")))
    # A report may have been written under such a name, too.
    return [Comparison(quote(path.name), **own) for path, own in found if own and "names" in own]


def render_index(
    runs: Path, found: Mapping[str, Entry | None], compared: Sequence[Comparison]
) -> str:
    """The index's HTML. Ablations without an entry are named."""
    return document(
        "index.html.j2",
        [script("page.js")],
        name=f"Reports in {runs.resolve().name}",
        banners=(),
        entries=[entry for entry in found.values() if entry is not None],
        comparisons=compared,
        without=[name for name, entry in found.items() if entry is None],
        few=verdicts.FEW,
        signs=verdicts.SIGNS,
    )


def _entry(path: Path, ablation: str) -> Entry | None:
    found = _summary(path)
    return None if found is None else Entry(href=f"{quote(ablation)}/{REPORT}", **found)


def _summary(path: Path) -> dict[str, Any] | None:
    """A page's summary of itself; None where there is no page, or no summary in it."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            found = _SUMMARY.search(stream.read(HEAD))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    return None if found is None else dict(json.loads(found[1]))
