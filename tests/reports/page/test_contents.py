"""The contents name every section, once."""

import pkgutil
from importlib import import_module

import reports.sections
from reports.kit.blocks import Section
from reports.page.contents import SECTIONS


def test_every_section_is_in_the_contents() -> None:
    modules = pkgutil.walk_packages(reports.sections.__path__, "reports.sections.")
    found = [getattr(import_module(module.name), "SECTION", None) for module in modules]
    assert {s.anchor for s in found if isinstance(s, Section)} == {s.anchor for s in SECTIONS}


def test_anchors_differ() -> None:
    anchors = [section.anchor for section in SECTIONS]
    assert len(anchors) == len(set(anchors))
