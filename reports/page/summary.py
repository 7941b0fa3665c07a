"""A summary of a report, for the head of its page and for the index of the runs folder."""

from __future__ import annotations

from typing import Any

from harness.axis_names import value_text
from harness.config import Criterion
from harness.storage.manifest import Source
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.page import notes

CRITERIA: dict[Criterion, str] = {
    "metric": "the first metric, ties by the loss on the labels",
    "loss": "the loss on the labels",
}
"""Each criterion of a selection in words."""


def summary(evidence: Evidence) -> dict[str, Any]:
    """The summary that lies in the report's page and makes its entry in the index; plain JSON values."""
    return {
        "name": evidence.manifest.name,
        "source": source_text(evidence.manifest.source),
        "banners": list(evidence.result.banners),
        "facts": facts(evidence),
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
                "difference": display.signed_text(POINTS * comparison.difference.mean),
            }
            for comparison in evidence.result.comparisons
        ],
    }


def source_text(source: Source) -> str:
    """The kind of a source, with its folder if it has a folder."""
    return f"{source.kind}, {source.folder}" if source.folder else source.kind


def facts(evidence: Evidence) -> dict[str, str]:
    """The design of the ablation by name: preset, protocol, budget, comparisons."""
    manifest = evidence.manifest
    search_seeds = ", ".join(str(seed) for seed in manifest.search_seeds) or "none"
    seeds = str(len(manifest.report_seeds))
    level = f"{len(manifest.family)} at level {manifest.alpha:g}"
    config = manifest.config
    axes = {}
    if manifest.grid is not None:
        level += f"; along the axes {len(manifest.grid.family)}, a family of their own"
        axes["axes"] = "; ".join(
            f"{key}={', '.join(map(value_text, values))}"
            for key, values in manifest.grid.axes.items()
        )
    if config.protocol.unit == "methods":
        return {
            "preset": manifest.preset,
            **axes,
            "students": manifest.students,
            "protocol": manifest.protocol,
            "trials of each method": f"at most {manifest.trials}, until decided"
            if evidence.sequential
            else str(manifest.trials),
            "budget of a tuner": f"{config.protocol.budget} trials",
            "selection by": CRITERIA[config.search.criterion],
            "comparisons": f"{level}, split evenly" if evidence.sequential else f"{level}, Holm",
        }
    return {
        "preset": manifest.preset,
        **axes,
        "students": manifest.students,
        "protocol": manifest.protocol,
        "trials of each method": str(manifest.trials),
        "search seeds": search_seeds,
        "selection by": CRITERIA[config.search.criterion],
        "report seeds": f"at most {seeds}, until decided" if evidence.sequential else seeds,
        "comparisons": f"{level}, split evenly" if evidence.sequential else f"{level}, Holm",
    }
