"""Timeline and cost: when runs were trained, what they cost, and the scores for that cost."""

from reports.sections.cost.blocks import SECTION

__all__ = ["SECTION"]
