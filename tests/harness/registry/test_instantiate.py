"""Checks whether methods can be used."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from harness.errors import MethodError
from harness.method import Context, Layers, Method, Shapes, Value
from harness.registry.instantiate import check_method
from harness.registry.made_up import EQUAL_WIDTHS


class Counted(Method):
    """A method that counts how often it is made."""

    name = "counted"
    made: ClassVar[list[Shapes]] = []

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.made.append(shapes)
        if shapes.outputs == 1:
            raise MethodError("counted: no scores; use kd")

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        return {}


def test_tasks_of_the_same_shapes_make_a_method_once() -> None:
    Counted.made.clear()
    other = replace(EQUAL_WIDTHS, outputs=EQUAL_WIDTHS.outputs + 1)
    for shapes in (EQUAL_WIDTHS, EQUAL_WIDTHS, other):
        check_method(Counted, shapes, (), {})
    assert Counted.made == [EQUAL_WIDTHS, other]


def test_each_task_of_shapes_that_a_method_refuses_is_refused() -> None:
    for _ in range(2):
        with pytest.raises(MethodError, match="no scores"):
            check_method(Counted, replace(EQUAL_WIDTHS, outputs=1), (), {})
