"""Search space: trials, importances and contours."""

from reports.sections.space.blocks import SECTION

__all__ = ["SECTION"]
