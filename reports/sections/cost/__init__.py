"""Timeline and cost: when which runs were trained, what they cost, and what quality that buys."""

from reports.sections.cost.blocks import SECTION

__all__ = ["SECTION"]
