"""The sections of the page in reading order, one line each: the modules of `reports.sections`."""

from __future__ import annotations

from importlib import import_module

from reports.evidence import Evidence
from reports.kit.blocks import Block, Part, Section
from reports.kit.palette import method_styles

CONTENTS = (
    "axes",
    "tuned",
    "repeats",
    "differences",
    "seeds",
    "examples",
    "disagreements",
    "across",
    "compression",
    "search",
    "tuning",
    "losses",
    "inside.targets",
    "inside.similarity",
    "inside.states",
    "inside.angles",
    "teacher",
    "cost",
)


def _section(name: str) -> Section:
    section = import_module(f"reports.sections.{name}").SECTION
    assert isinstance(section, Section), name
    return section


SECTIONS = tuple(map(_section, CONTENTS))


def sections(evidence: Evidence) -> list[tuple[Section, tuple[Block, ...]]]:
    """The page's sections with their blocks, without those that have nothing to show.

    A page on tuned scores leaves out sections on the runs of one best setting, and a page with cells
    those that join all tasks.
    """
    styles = method_styles(evidence.methods)
    of_pools = evidence.manifest.unit == "trial"
    chosen = [
        section
        for section in SECTIONS
        if not (of_pools and section.settings_only)
        and not (evidence.manifest.grid is not None and section.joins_tasks)
    ]
    by_need = sorted(chosen, key=lambda section: section.reads_verdicts)
    blocks = {section.anchor: section.blocks(evidence, styles) for section in by_need}
    return [(section, blocks[section.anchor]) for section in chosen if blocks[section.anchor]]


def sections_by_part(
    evidence: Evidence,
) -> dict[Part, list[tuple[Section, tuple[Block, ...]]]]:
    """The sections of each part of the page."""
    found = sections(evidence)
    return {
        part: [entry for entry in found if entry[0].part == part]
        for part in ("evidence", "appendix")
    }
