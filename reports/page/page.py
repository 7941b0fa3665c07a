"""A report's page: the verdicts, the sections, and the tables for repeating the ablation."""

from __future__ import annotations

from collections.abc import Iterable

from reports.evidence import Evidence
from reports.kit.blocks import Block, Section
from reports.kit.palette import method_styles
from reports.page import configuration, notes, scores, verdicts
from reports.page.contents import sections
from reports.page.document import figures_document, slug
from reports.page.summary import facts, source_text, summary


def render(evidence: Evidence) -> str:
    """The page's HTML."""
    manifest = evidence.manifest
    styles = method_styles(evidence.methods)
    table = scores.verdict_table(evidence)
    anchored_sections = [
        (section, _anchor_blocks(section, blocks)) for section, blocks in sections(evidence)
    ]
    panels = [
        panel for _, blocks in anchored_sections for _, block in blocks for panel in block.panels
    ]
    return figures_document(
        "report.html.j2",
        panels,
        name=manifest.name,
        summary=summary(evidence),
        source=source_text(manifest.source),
        banners=evidence.result.banners,
        facts=facts(evidence),
        alpha=f"{manifest.alpha:g}",
        sequential=evidence.sequential,
        budget=manifest.budget,
        unit=manifest.unit,
        verdicts=verdicts.task_verdicts(evidence),
        comparison_count=len(evidence.result.comparisons),
        open_verdicts=verdicts.OPEN_VERDICTS,
        signs=verdicts.SIGNS,
        styles=styles,
        tally=verdicts.outcome_tally(c.verdict.outcome for c in evidence.result.comparisons),
        overview=scores.overview_display(table, styles)
        if len(evidence.tasks) > 1 and evidence.manifest.grid is None
        else None,
        scores=scores.verdict_display(table, styles, manifest.unit),
        gaps=notes.gaps(evidence),
        failures=notes.failures(evidence),
        versions=notes.versions(evidence),
        sections=anchored_sections,
        command=manifest.command,
        methods=configuration.method_cards(evidence),
        split_facts=configuration.data_table(evidence),
        configuration=configuration.configuration_table(evidence),
        provenance=configuration.provenance_table(evidence),
    )


def _anchor_blocks(section: Section, blocks: Iterable[Block]) -> list[tuple[str, Block]]:
    """The section's blocks, each with an anchor made of its title and unique in the section."""
    blocks_by_anchor: dict[str, Block] = {}
    for block in blocks:
        anchor = f"{section.anchor}-{slug(block.title) or 'block'}"
        while anchor in blocks_by_anchor:
            anchor += "-2"
        blocks_by_anchor[anchor] = block
    return list(blocks_by_anchor.items())
