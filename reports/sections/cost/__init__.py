"""Cost: what runs cost, and the scores for that cost."""

from reports.sections.cost.blocks import SECTION

__all__ = ["SECTION"]
