"""One self-contained HTML page: Plotly once, no request to anywhere, texts escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup

from reports import display, notes, tables
from reports.display import Table
from reports.evidence import Evidence
from reports.palette import method_styles
from reports.sections import sections

_JSON_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render(evidence: Evidence) -> str:
    """The page's HTML."""
    manifest = evidence.manifest
    styles = method_styles(evidence.methods)
    return _template().render(
        name=manifest.get("name", "ablation"),
        source=_source_text(manifest.get("source", {})),
        banners=manifest.get("banners", ()),
        facts=_facts(evidence),
        verdicts=[
            (comparison.verdict, styles[comparison.method].colour)
            for comparison in evidence.result.comparisons
        ],
        scores=display.verdict_display(tables.verdict_table(evidence), styles),
        gaps=notes.gaps(evidence),
        failures=notes.failures(evidence),
        versions=notes.versions(evidence),
        sections=sections(evidence),
        command=manifest.get("command", ""),
        methods=_methods(evidence),
        configuration=_named("Configuration", _protocol(evidence) | manifest.get("config", {})),
        provenance=_named("Provenance", manifest.get("provenance", {})),
        plotly=Markup(plotly.offline.get_plotlyjs()),  # noqa: S704 - the library's own script
        figure_json=figure_json,
    )


def figure_json(figure: go.Figure) -> Markup:
    """A figure as JSON that cannot end the script element it stands in."""
    escaped = str(figure.to_json()).translate(_JSON_ESCAPES)
    return Markup(escaped)  # noqa: S704 - no character with a meaning in HTML is left


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _source_text(source: dict[str, Any]) -> str:
    kind, folder = source.get("kind", "unknown"), source.get("folder")
    return f"{kind}, {folder}" if folder else str(kind)


def _facts(evidence: Evidence) -> str:
    """The design in one line: preset, protocol, budget."""
    manifest = evidence.manifest
    trials, seeds = manifest["trials"], manifest["report_seeds"]
    parts = [
        f"preset {manifest.get('preset', 'unknown')}",
        f"protocol {manifest.get('protocol', 'unknown')}",
        f"{trials} trial{'' if trials == 1 else 's'} for every method",
        f"search seed{'' if len(manifest.get('search_seeds', ())) == 1 else 's'} "
        + (", ".join(str(seed) for seed in manifest.get("search_seeds", ())) or "none"),
        f"{len(seeds)} report seed{'' if len(seeds) == 1 else 's'}",
        f"{len(manifest['family'])} comparison{'' if len(manifest['family']) == 1 else 's'}"
        f" at level {manifest['alpha']:g} (Holm)",
    ]
    return " · ".join(parts)


def _protocol(evidence: Evidence) -> dict[str, Any]:
    manifest = evidence.manifest
    sizes = {task: manifest["tasks"][task].get("sizes", {}) for task in evidence.tasks}
    return {
        "examples": sizes,
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
