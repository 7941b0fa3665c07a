"""The axes of a command line: `--vary KEY=V1,V2` and a list of `--student-layers`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.errors import UserError
from harness.grid import Axis, read_axis

STUDENT_LAYERS = "student.layers"


def chosen_axes(student_layers: str | None, texts: Sequence[str]) -> list[Axis]:
    """The axes in the order of the table: depths first, then `texts`, the values of `--vary`.

    Raises:
        UserError: an axis cannot be read.
    """
    axes = []
    if is_list(student_layers):
        assert student_layers is not None
        for number in student_layers.split(","):
            if not re.fullmatch("[+-]?[0-9]{1,9}", number):
                raise UserError(
                    f"--student-layers {student_layers}: must be a whole number, or several with commas"
                )
        axes.append(read_axis(f"{STUDENT_LAYERS}={student_layers}"))
    return axes + [read_axis(text) for text in texts]


def is_list(student_layers: str | None) -> bool:
    """Whether `--student-layers` names several depths."""
    return student_layers is not None and "," in student_layers
