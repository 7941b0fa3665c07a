"""Methods and inputs for their tests."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor
from torch.utils._pytree import tree_leaves

from harness.method import Context, Layers, Method, Shapes, Value
from harness.registry.discovery import registry
from harness.registry.space import any_value
from harness.runtime.randomness import generator, global_seed

METHODS = registry().methods
EQUAL_SHAPES = Shapes(6, 8, 3, 8, 3, teacher_heads=2, student_heads=2, epochs=3)
UNEQUAL_SHAPES = replace(EQUAL_SHAPES, student_width=6)
EXAMPLES = 7
PLACES = 5
LENGTHS = (5, 2, 4, 5, 1, 3, 5)
MASK = torch.arange(PLACES) < torch.tensor(LENGTHS)[:, None]


def build(name: str, shapes: Shapes = EQUAL_SHAPES, seed: int = 0, **structure: Value) -> Method:
    """A method made as the executor makes it."""
    method = METHODS[name]
    options = {h: any_value(d) for h, d in method.space.items() if d.kind == "structural"}
    with global_seed("contract", seed):
        return method(shapes, {**options, **structure}, generator("contract", seed))


def shift_parameters(method: Method, seed: int = 0) -> Method:
    """The same method in float64 with its parameters away from where they start."""
    source = generator("moved", seed)
    for parameter in method.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=source)
    return method.double()


def batch(shapes: Shapes = EQUAL_SHAPES, seed: int = 0) -> tuple[Layers, Layers, Tensor]:
    """Student, teacher and labels in float64; the student's tensors are leaves."""
    source = generator("batch", seed)
    student = random_layers(
        source, shapes.student_layers, shapes.student_width, shapes.student_heads, shapes.outputs
    )
    for tensor in tensors(student):
        tensor.requires_grad_()
    teacher = random_layers(
        source, shapes.teacher_layers, shapes.teacher_width, shapes.teacher_heads, shapes.outputs
    )
    return student, teacher, torch.randint(shapes.outputs, (EXAMPLES,), generator=source)


def random_layers(
    source: torch.Generator, layers: int, width: int, heads: int, outputs: int
) -> Layers:
    """Everything that a model of this shape could hand out, at random."""

    def random_normal(*size: int) -> Tensor:
        return torch.randn(EXAMPLES, *size, generator=source, dtype=torch.float64)

    def random_tuple(count: int, *size: int) -> tuple[Tensor, ...]:
        return tuple(random_normal(*size) for _ in range(count))

    parts = [random_tuple(layers, heads, PLACES, width // heads) for _ in range(3)]
    return Layers(
        random_normal(outputs),
        random_normal(layers, width),
        random_tuple(layers + 1, PLACES, width),
        random_tuple(layers, heads, PLACES, PLACES),
        *parts,
    )


def tensors(layers: Layers) -> list[Tensor]:
    """All tensors of what a model hands out."""
    leaves: list[Tensor] = tree_leaves(layers)
    return leaves


def middle(method: type[Method], share: float = 0.4) -> dict[str, Tensor]:
    """A value inside the range of every scalar hyper-parameter."""
    values = {}
    for name, hyper in method.space.items():
        if hyper.kind == "scalar":
            distribution = hyper.distribution
            assert isinstance(distribution, FloatDistribution | IntDistribution)
            value = distribution.low + share * (distribution.high - distribution.low)
            values[name] = torch.tensor(value, dtype=torch.float64)
    return values


def context(scalars: Mapping[str, Tensor]) -> Context:
    return Context(torch.tensor(1), scalars, MASK)
