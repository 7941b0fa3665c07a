"""A report's page: the verdicts, the sections, and what it takes to repeat the ablation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.offline

from reports import tables
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel
from reports.kit.display import Table
from reports.kit.palette import method_styles
from reports.page import notes, verdicts
from reports.page.contents import Section, sections
from reports.page.document import document, script, slug

MANY_ROWS = 40
"""A table with more rows scrolls in a window of its own."""


def render(evidence: Evidence) -> str:
    """The page's HTML."""
    manifest = evidence.manifest
    styles = method_styles(evidence.methods)
    scores = tables.verdict_table(evidence)
    shown = [(section, _anchored(section)) for section in sections(evidence)]
    panels = [panel for _, found in shown for _, block in found for panel in block.panels]
    return drawn_document(
        "report.html.j2",
        panels,
        name=manifest.get("name", "ablation"),
        summary=summary(evidence),
        source=source_text(manifest.get("source", {})),
        banners=manifest.get("banners", ()),
        facts=_facts(evidence),
        alpha=f"{float(manifest['alpha']):g}",
        sequential=evidence.sequential,
        verdicts=verdicts.task_verdicts(evidence),
        compared=len(evidence.result.comparisons),
        few=verdicts.FEW,
        signs=verdicts.SIGNS,
        styles=styles,
        tally=verdicts.outcome_tally(c.verdict.outcome for c in evidence.result.comparisons),
        overview=verdicts.overview_display(scores, styles) if len(evidence.tasks) > 1 else None,
        scores=verdicts.verdict_display(scores, styles),
        many_rows=MANY_ROWS,
        gaps=notes.gaps(evidence),
        failures=notes.failures(evidence),
        versions=notes.versions(evidence),
        sections=shown,
        command=manifest.get("command", ""),
        methods=_methods(evidence),
        configuration=_named("Configuration", _protocol(evidence) | manifest.get("config", {})),
        provenance=_named("Provenance", manifest.get("provenance", {})),
    )


def drawn_document(template: str, panels: Sequence[Panel], **values: Any) -> str:
    """Fill a template whose figures are these, numbered from 1 in that order."""
    scripts = [script(name) for name in ("page.js", "tables.js", "figures.js", "choices.js")]
    data = "\n".join(map(_line, panels))
    return document(template, scripts, plotly.offline.get_plotlyjs(), data, **values)


def _line(panel: Panel) -> str:
    """A panel's figure and its numbers as a line of JSON."""
    return f'{{"figure": {panel.figure.to_json()}, "numbers": {json.dumps(panel.numbers.csv)}}}'


def summary(evidence: Evidence) -> dict[str, Any]:
    """What the index says of the report, in plain JSON values; it lies in the report itself."""
    return {
        "name": str(evidence.manifest.get("name", "ablation")),
        "source": source_text(evidence.manifest.get("source", {})),
        "banners": list(evidence.manifest.get("banners", ())),
        "facts": _facts(evidence),
        "tasks": list(evidence.tasks),
        "methods": list(evidence.methods),
        "missing": len(notes.gaps(evidence)),
        "failed": len(notes.failures(evidence)),
        "verdicts": [
            {
                "task": comparison.task,
                "method": comparison.method,
                "baseline": comparison.baseline,
                "outcome": comparison.verdict.outcome,
                "difference": display.signed(POINTS * comparison.difference.mean),
            }
            for comparison in evidence.result.comparisons
        ],
    }


def _anchored(section: Section) -> list[tuple[str, Block]]:
    """The section's blocks, each with an anchor of its own that is made of its title."""
    found: dict[str, Block] = {}
    for block in section.blocks:
        anchor = f"{section.anchor}-{slug(block.title) or 'block'}"
        while anchor in found:
            anchor += "-2"
        found[anchor] = block
    return list(found.items())


def source_text(source: Mapping[str, Any]) -> str:
    """The kind of a manifest's source, and its folder where it has one."""
    kind, folder = source.get("kind", "unknown"), source.get("folder")
    return f"{kind}, {folder}" if folder else str(kind)


def _facts(evidence: Evidence) -> dict[str, str]:
    """The design by name: preset, protocol, budget, comparisons."""
    manifest = evidence.manifest
    searched = ", ".join(str(seed) for seed in manifest.get("search_seeds", ())) or "none"
    seeds = str(len(manifest["report_seeds"]))
    level = f"{len(manifest['family'])} at level {manifest['alpha']:g}"
    return {
        "preset": str(manifest.get("preset", "unknown")),
        "students": str(manifest.get("students", "unknown")),
        "protocol": str(manifest.get("protocol", "unknown")),
        "trials of each method": str(manifest["trials"]),
        "search seeds": searched,
        "report seeds": f"at most {seeds}, until decided" if evidence.sequential else seeds,
        "comparisons": f"{level}, split evenly" if evidence.sequential else f"{level}, Holm",
    }


def _protocol(evidence: Evidence) -> dict[str, Any]:
    manifest = evidence.manifest
    sizes, hashes = (
        {task: manifest["tasks"][task].get(fact, {}) for task in evidence.tasks}
        for fact in ("sizes", "sha256")
    )
    return {
        "examples": sizes,
        "SHA-256 of the data": hashes,
        "search seeds": manifest.get("search_seeds", []),
        "report seeds": manifest["report_seeds"],
        "teacher fingerprint": {
            task: teacher["fingerprint"] for task, teacher in evidence.teachers.items()
        },
    }


def _methods(evidence: Evidence) -> list[tuple[str, str, str, Table]]:
    """Name with aliases, summary, paper and hyper-parameters of each method compared."""
    cards = evidence.manifest.get("methods", {})
    found = []
    for method in evidence.methods:
        card = cards.get(method, {})
        aliases = ", ".join(card.get("aliases", ()))
        title = f"{method} (also {aliases})" if aliases else method
        space = _named(f"Hyper-parameters of {method}", card.get("hyper-parameters", {}))
        found.append((title, card.get("summary", ""), card.get("paper") or "", space))
    return found


def _named(label: str, values: dict[str, Any]) -> Table:
    columns = {"name": ("name", None), "value": ("value", None)}
    return display.table(label, tables.flat_table(values), columns)
