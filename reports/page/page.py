"""A report's page: the verdicts, the sections, and the tables for repeating the ablation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from reports.evidence import Evidence
from reports.kit.blocks import Block, Section
from reports.kit.palette import SIGNS, method_styles
from reports.page import configuration, notes, scores, status, verdicts
from reports.page.contents import sections_by_part
from reports.page.document import figures_document, slug
from reports.page.paper.parts import paper_parts
from reports.page.summary import facts, summary, title

MOST_METHODS = 6
"""The most methods that figures show before the reader picks others: as many as there are colours."""
OPEN_TASKS = 2
"""The most tasks whose tables stand open; of more tasks an overview does."""


def render(evidence: Evidence, links: Sequence[tuple[str, str]] = ()) -> str:
    """The page's HTML, with links to other files: their texts and relative addresses."""
    manifest = evidence.manifest
    styles = method_styles(evidence.methods)
    state = status.evidence_progress(evidence)
    parts = {
        name: [
            (section, _anchor_blocks(section, _untitled(evidence, blocks)))
            for section, blocks in group
        ]
        for name, group in sections_by_part(evidence).items()
    }
    panels = [
        panel
        for group in parts.values()
        for _, blocks in group
        for _, block in blocks
        for panel in block.panels
    ]
    return figures_document(
        "report.html.j2",
        panels,
        name=title(manifest),
        ablation=manifest.name,
        summary=summary(evidence),
        banners=evidence.result.banners,
        warnings=status.notices(evidence, state),
        state=state,
        reach=status.reach(evidence),
        subject=verdicts.subject(manifest),
        facts=facts(evidence),
        design=_design(facts(evidence)),
        files=links,
        family=manifest.family,
        baseline=manifest.baseline,
        tables=[
            (
                evidence.task_label(task),
                verdicts.findings(evidence.comparisons(task)),
                scores.verdict_display(
                    scores.verdict_table(evidence, task), styles, manifest.baseline
                ),
            )
            for task in evidence.tasks
        ],
        reading=scores.reading(evidence),
        overview=scores.overview_display(evidence, styles)
        if len(evidence.tasks) > OPEN_TASKS and manifest.grid is None
        else None,
        verdicts=verdicts.task_verdicts(evidence),
        comparison_count=len(evidence.result.comparisons),
        open_verdicts=verdicts.OPEN_VERDICTS,
        signs=SIGNS,
        styles=styles,
        first_methods=first_methods(evidence),
        gaps=notes.gaps(evidence),
        failures=notes.failures(evidence),
        versions=notes.versions(evidence),
        parts=parts,
        paper=paper_parts(evidence),
        command=manifest.command,
        dashboard=f"optuna-dashboard {manifest.storage}",
        methods=configuration.method_cards(evidence),
        split_facts=configuration.data_table(evidence),
        configuration=configuration.configuration_table(evidence),
        provenance=configuration.provenance_table(evidence),
    )


def _design(design: Mapping[str, str]) -> str:
    """The students and the numbers of runs, in one line."""
    counts = ("trials", "runs", "report seeds", "repeats", "budget")
    numbers = [f"{name}: {value}" for name, value in design.items() if name.startswith(counts)]
    return "; ".join([design["students"], *numbers])


def first_methods(evidence: Evidence) -> set[str]:
    """The methods that figures show at first: of more than `MOST_METHODS` the best and the baseline.

    The best have the highest mean score over their tasks.
    """
    methods = evidence.methods
    if len(methods) <= MOST_METHODS:
        return set(methods)
    scores: dict[str, list[float]] = {}
    for result in evidence.result.results:
        if not math.isnan(result.mean):
            scores.setdefault(result.method, []).append(result.mean)
    baseline = [method for method in methods if method == evidence.manifest.baseline]
    others = [method for method in methods if method not in baseline]
    best = sorted(others, key=lambda name: -float(np.mean(scores[name])) if name in scores else 1.0)
    return {*baseline, *best[: MOST_METHODS - len(baseline)]}


def _untitled(evidence: Evidence, blocks: Iterable[Block]) -> list[Block]:
    """The blocks; with a single task its name is no title, since the page's title has it."""
    label = evidence.task_label(evidence.tasks[0]) if len(evidence.tasks) == 1 else None
    return [replace(block, title="") if block.title == label else block for block in blocks]


def _anchor_blocks(section: Section, blocks: Iterable[Block]) -> list[tuple[str, Block]]:
    """The section's blocks, each with an anchor made of its title and unique in the section."""
    blocks_by_anchor: dict[str, Block] = {}
    for block in blocks:
        anchor = f"{section.anchor}-{slug(block.title) or 'block'}"
        while anchor in blocks_by_anchor:
            anchor += "-2"
        blocks_by_anchor[anchor] = block
    return list(blocks_by_anchor.items())
