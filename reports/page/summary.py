"""A report in a few facts: the head of its page, and its entry in the index of the runs folder."""

from __future__ import annotations

from typing import Any

from harness.storage.manifest import Source
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.page import notes


def summary(evidence: Evidence) -> dict[str, Any]:
    """The report's entry in the index, in plain JSON values; the summary lies in the page itself."""
    return {
        "name": evidence.manifest.name,
        "source": source_text(evidence.manifest.source),
        "banners": list(evidence.manifest.banners),
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
                "difference": display.signed(POINTS * comparison.difference.mean),
            }
            for comparison in evidence.result.comparisons
        ],
    }


def source_text(source: Source) -> str:
    """The kind of a manifest's source, and its folder where it has one."""
    return f"{source.kind}, {source.folder}" if source.folder else source.kind


def facts(evidence: Evidence) -> dict[str, str]:
    """The design by name: preset, protocol, budget, comparisons."""
    manifest = evidence.manifest
    searched = ", ".join(str(seed) for seed in manifest.search_seeds) or "none"
    seeds = str(len(manifest.report_seeds))
    level = f"{len(manifest.family)} at level {manifest.alpha:g}"
    return {
        "preset": manifest.preset,
        "students": manifest.students,
        "protocol": manifest.protocol,
        "trials of each method": str(manifest.trials),
        "search seeds": searched,
        "report seeds": f"at most {seeds}, until decided" if evidence.sequential else seeds,
        "comparisons": f"{level}, split evenly" if evidence.sequential else f"{level}, Holm",
    }
