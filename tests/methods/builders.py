"""Methods and float64 inputs for their tests."""

from dataclasses import replace

import torch
from torch import Tensor

from harness.method import Layers, Method, Need, Shapes, Value
from harness.registry import made_up
from harness.registry.case import Case
from harness.registry.discovery import registry
from harness.registry.made_up import EQUAL_WIDTHS as EQUAL_SHAPES
from harness.registry.made_up import EXAMPLES as EXAMPLES
from harness.registry.made_up import context as context
from harness.registry.made_up import own_weights as own_weights

METHODS = registry().methods
UNEQUAL_SHAPES = replace(EQUAL_SHAPES, student_width=6)


def case(name: str, shapes: Shapes = EQUAL_SHAPES) -> Case:
    """A method's case in float64."""
    return Case.of(METHODS[name], shapes, torch.float64)


def build(name: str, shapes: Shapes = EQUAL_SHAPES, seed: int = 0, **structure: Value) -> Method:
    """A method in fp32, made as the executor makes it."""
    return Case.of(METHODS[name], shapes).method(seed, structure)


def shift_parameters(method: Method, seed: int = 0) -> Method:
    """The same method in float64 with its parameters away from where they start."""
    return made_up.shift_parameters(method, seed).double()


def batch(
    shapes: Shapes = EQUAL_SHAPES, seed: int = 0, needs: frozenset[Need] = frozenset()
) -> tuple[Layers, Layers, Tensor]:
    """Student, teacher and labels in float64; the student's tensors are leaves."""
    return made_up.batch(shapes, seed, needs, torch.float64)


def middle(method: type[Method], share: float = 0.4) -> dict[str, Tensor]:
    """A value inside the range of every scalar hyper-parameter."""
    return made_up.middle(method, share, torch.float64)
