"""The contents name every section, once."""

import json
import pkgutil
from importlib import import_module

import reports.sections
from reports.evidence import Evidence
from reports.kit.blocks import Section
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
