"""Made-up outputs of models, settings and masks, on which methods are checked without any data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from harness.method import Context, Layers, Method, Need, Shapes
from harness.runtime.randomness import generator

EQUAL_WIDTHS = Shapes(6, 8, 3, 8, 3, teacher_heads=2, student_heads=2, epochs=3)
OTHER_WIDTHS = Shapes(8, 12, 4, 6, 2, teacher_heads=3, student_heads=2, epochs=3)
OTHER_DEPTHS = Shapes(8, 12, 4, 12, 2, teacher_heads=3, student_heads=3, epochs=3)
EXAMPLES = 7
PLACES = 5
LENGTHS = (5, 2, 4, 5, 1, 3, 5)
MASK = torch.arange(PLACES) < torch.tensor(LENGTHS)[:, None]
"""True (EXAMPLES, PLACES) where a token is."""
WORDS = torch.tensor(
    [
        [0, 0, 1, 2, 3],
        [0, 1, -1, -1, -1],
        [0, 1, 1, 2, -1],
        [-1, 0, 1, 2, 2],
        [0, -1, -1, -1, -1],
        [0, 1, 2, -1, -1],
        [-1, 0, 0, 1, 2],
    ]
)
"""The numbers of the tokens' words (EXAMPLES, PLACES), as in `Context`."""
PROGRESS = (0.35, 0.6, 0.85, 0.0)
"""Shares of a training's steps; the first stands for all, unless losses change with the progress."""


def batch(
    shapes: Shapes,
    seed: int = 0,
    needs: frozenset[Need] = frozenset(),
    dtype: torch.dtype = torch.float32,
) -> tuple[Layers, Layers, Tensor]:
    """Student, teacher and labels; the student's tensors are leaves.

    As from the core, a field that no need names is empty.
    """
    student, teacher, labels = _drawn(shapes, seed, dtype)
    student, teacher = (
        tree_map(Tensor.clone, blank_fields(layers, needs)) for layers in (student, teacher)
    )
    for tensor in tensors(student):
        tensor.requires_grad_()
    return student, teacher, labels.clone()


@cache
def _drawn(shapes: Shapes, seed: int, dtype: torch.dtype) -> tuple[Layers, Layers, Tensor]:
    """All that student and teacher could return, and labels. A method may write to copies only."""
    source = generator("batch", seed)
    student, teacher = (
        random_layers(source, *sizes, shapes.outputs, dtype)
        for sizes in (
            (shapes.student_layers, shapes.student_width, shapes.student_heads),
            (shapes.teacher_layers, shapes.teacher_width, shapes.teacher_heads),
        )
    )
    return student, teacher, torch.randint(shapes.outputs, (EXAMPLES,), generator=source)


def random_layers(
    source: torch.Generator, layers: int, width: int, heads: int, outputs: int, dtype: torch.dtype
) -> Layers:
    """Everything that a model of this shape could return, at random."""

    def random_normal(*size: int) -> Tensor:
        return torch.randn(EXAMPLES, *size, generator=source, dtype=torch.float64).to(dtype)

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


def blank_fields(layers: Layers, needs: frozenset[Need]) -> Layers:
    """The outputs that a model returns for these needs, of everything that it could return."""
    parts = slice(None) if "qkv" in needs else slice(-1, None) if "last-qkv" in needs else slice(0)
    return Layers(
        layers.logits,
        layers.states,
        layers.tokens if "tokens" in needs else (),
        layers.scores if "scores" in needs else (),
        layers.queries[parts],
        layers.keys[parts],
        layers.values[parts],
    )


def change_padding(layers: Layers) -> Layers:
    """The same outputs with other values at padded tokens, and at pairs with a padded token."""
    source = generator("padding")
    pairs = MASK[:, :, None] & MASK[:, None, :]

    def change(values: Tensor, mask: Tensor) -> Tensor:
        noise = 50 * torch.randn(values.shape, generator=source, dtype=values.dtype)
        return torch.where(mask, values, noise)

    return replace(
        layers,
        tokens=tuple(change(states, MASK[:, :, None]) for states in layers.tokens),
        scores=tuple(change(scores, pairs[:, None]) for scores in layers.scores),
        queries=tuple(change(part, MASK[:, None, :, None]) for part in layers.queries),
        keys=tuple(change(part, MASK[:, None, :, None]) for part in layers.keys),
        values=tuple(change(part, MASK[:, None, :, None]) for part in layers.values),
    )


def tensors(layers: Layers) -> list[Tensor]:
    """All tensors that a model returns."""
    leaves: list[Tensor] = tree_leaves(layers)
    return leaves


def shift_parameters(method: Method, seed: int = 0) -> Method:
    """The same method with its parameters away from where they start."""
    source = generator("moved", seed)
    for parameter in method.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=source)
    return method


def middle(
    method: type[Method], share: float = 0.4, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """A value inside the range of every scalar hyper-parameter."""
    values = {}
    for name, hyper in method.space.items():
        if hyper.kind == "scalar":
            distribution = hyper.distribution
            assert isinstance(distribution, FloatDistribution | IntDistribution)
            value = distribution.low + share * (distribution.high - distribution.low)
            values[name] = torch.tensor(value, dtype=dtype)
    return values


def context(
    scalars: Mapping[str, Tensor],
    progress: float = PROGRESS[0],
    needs: frozenset[Need] = frozenset(),
    rows: Tensor | None = None,
) -> Context:
    """The context of a step in the second epoch, after a share of the steps.

    As from the core, it has words only where `needs` names them. `rows` are the examples of the batch;
    by default it has each once.
    """
    dtype = next((value.dtype for value in scalars.values()), torch.float32)
    share = torch.tensor(progress, dtype=dtype)
    examples = torch.arange(EXAMPLES) if rows is None else rows
    given = Context(torch.tensor(1), scalars, MASK[examples], share)
    return replace(given, words=WORDS[examples]) if "words" in needs else given


def own_weights(method: type[Method]) -> set[str]:
    """The weights of a method's own terms."""
    return {name for name in method.space if name.endswith("_weight")} - {"kd_weight"}
