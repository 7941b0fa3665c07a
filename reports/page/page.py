"""A report's page: the verdicts, the sections, and what it takes to repeat the ablation."""

from __future__ import annotations

from collections.abc import Iterable

from reports.evidence import Evidence
from reports.kit.blocks import Block, Section
from reports.kit.palette import method_styles
from reports.page import configuration, notes, scores, verdicts
from reports.page.contents import sections
from reports.page.document import drawn_document, slug
from reports.page.summary import facts, source_text, summary


def render(evidence: Evidence) -> str:
    """The page's HTML."""
    manifest = evidence.manifest
    styles = method_styles(evidence.methods)
    table = scores.verdict_table(evidence)
    anchored = [(section, _anchored(section, blocks)) for section, blocks in sections(evidence)]
    panels = [panel for _, blocks in anchored for _, block in blocks for panel in block.panels]
    return drawn_document(
        "report.html.j2",
        panels,
        name=manifest.name,
        summary=summary(evidence),
        source=source_text(manifest.source),
        banners=manifest.banners,
        facts=facts(evidence),
        alpha=f"{manifest.alpha:g}",
        sequential=evidence.sequential,
        verdicts=verdicts.task_verdicts(evidence),
        compared=len(evidence.result.comparisons),
        few=verdicts.FEW,
        signs=verdicts.SIGNS,
        styles=styles,
        tally=verdicts.outcome_tally(c.verdict.outcome for c in evidence.result.comparisons),
        overview=scores.overview_display(table, styles) if len(evidence.tasks) > 1 else None,
        scores=scores.verdict_display(table, styles),
        gaps=notes.gaps(evidence),
        failures=notes.failures(evidence),
        versions=notes.versions(evidence),
        sections=anchored,
        command=manifest.command,
        methods=configuration.method_cards(evidence),
        configuration=configuration.configuration_table(evidence),
        provenance=configuration.provenance_table(evidence),
    )


def _anchored(section: Section, blocks: Iterable[Block]) -> list[tuple[str, Block]]:
    """The section's blocks, each with an anchor of its own that is made of its title."""
    anchored: dict[str, Block] = {}
    for block in blocks:
        anchor = f"{section.anchor}-{slug(block.title) or 'block'}"
        while anchor in anchored:
            anchor += "-2"
        anchored[anchor] = block
    return list(anchored.items())
