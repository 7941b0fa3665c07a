"""Across methods and tasks: ranks, aggregates and effects, all in one view."""

from reports.sections.across.blocks import SECTION

__all__ = ["SECTION"]
