"""The contents name every section, once."""

import json
import pkgutil
from dataclasses import replace
from importlib import import_module

import pytest

import reports.sections
from harness.analysis.comparison import Awaited, Comparison
from reports.evidence import Evidence
from reports.kit.blocks import Block, Section
from reports.kit.palette import method_styles
from reports.page import contents
from reports.page.contents import SECTIONS, sections


def test_every_section_is_in_the_contents() -> None:
    modules = pkgutil.walk_packages(reports.sections.__path__, "reports.sections.")
    found = [getattr(import_module(module.name), "SECTION", None) for module in modules]
    assert {s.anchor for s in found if isinstance(s, Section)} == {s.anchor for s in SECTIONS}


def test_anchors_differ() -> None:
    anchors = [section.anchor for section in SECTIONS]
    assert len(anchors) == len(set(anchors))


def test_the_picker_knows_the_marks_of_every_method_of_a_key(evidence: Evidence) -> None:
    panels = [
        panel for _, blocks in sections(evidence) for block in blocks for panel in block.panels
    ]
    methods = {*evidence.methods}
    keys = [panel for panel in panels if panel.key and methods.issuperset(dict(panel.key))]
    assert len(keys) >= 4
    for panel in keys:
        data = json.loads(panel.figure.to_json())["data"]
        marks = {trace["meta"] for trace in data if "meta" in trace}
        assert marks == {name for name, _ in panel.key}, panel.caption


@pytest.mark.parametrize(
    "section",
    [section for section in SECTIONS if not section.reads_verdicts],
    ids=lambda section: section.anchor,
)
def test_a_section_without_verdicts_waits_for_no_comparison(
    section: Section, evidence: Evidence
) -> None:
    def wait() -> tuple[Comparison, ...]:
        raise AssertionError("the section looks at a comparison")

    styles = method_styles(evidence.methods)
    result = replace(evidence.result, comparisons=Awaited(wait), along_axes=Awaited(wait))
    assert section.blocks(replace(evidence, result=result), styles) is not None


def test_sections_without_verdicts_are_made_first(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[bool] = []

    def noted(section: Section) -> Section:
        def maker(*_: object) -> tuple[Block, ...]:
            order.append(section.reads_verdicts)
            return (Block(section.title, notes=("a note",)),)

        return replace(section, maker=maker)

    monkeypatch.setattr(contents, "SECTIONS", tuple(map(noted, SECTIONS)))
    made = [section.anchor for section, _ in sections(evidence)]
    assert made == [section.anchor for section in SECTIONS]
    assert order == sorted(order)
    assert set(order) == {False, True}
