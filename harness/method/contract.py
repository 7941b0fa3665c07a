"""The contract of a method: an `nn.Module` that sees one student and returns unweighted loss terms.

The core owns the loop, the optimiser, the device and the population. So that it can batch runs with
`torch.func.vmap`, `terms` follows four rules: no Python branching on tensor values, no `.item()`, no
in-place writes, and only operations that have a batching rule (write KL from log-softmax).
Random draws happen in `__init__`, from the generator passed in, and are kept as buffers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from optuna.distributions import BaseDistribution, FloatDistribution
from torch import Tensor, nn

from harness.errors import MethodError

Value = float | int | str | bool
Pooling = Literal["cls", "mean"]
Form = Literal["verified", "second-hand", "ours"]
Need = Literal["tokens", "scores", "qkv", "last-qkv"]
"""What a method can ask for beside pooled states: every token's states, attention scores, Q/K/V."""


@dataclass(frozen=True)
class Layers:
    """What a method sees of one model for one batch.

    `logits` (B, outputs) and `states` (B, layers, width), the pooled states of layers 1..n, are in
    fp32 (the embeddings, layer 0, are not among them). The rest is empty but for what the method
    `needs`; what it holds at padded places is of no meaning, but finite:

    - `tokens`: every token's states, of the embeddings and of layers 1..n, each (B, T, width), fp32;
    - `scores`: attention before the softmax, of layers 1..n, each (B, heads, T, T);
    - `queries` (unscaled), `keys`, `values` of layers 1..n, each (B, heads, T, head width); with
      `last-qkv` of layer n alone.

    Scores, queries, keys and values have the precision of products: `widened` makes them fp32.
    """

    logits: Tensor
    states: Tensor
    tokens: tuple[Tensor, ...] = ()
    scores: tuple[Tensor, ...] = ()
    queries: tuple[Tensor, ...] = ()
    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()


torch.export.register_dataclass(Layers)


@dataclass(frozen=True)
class View:
    """What models hand out of a batch: how states are pooled, and what else. Populations have one."""

    pooling: Pooling
    needs: frozenset[Need] = frozenset()


@dataclass(frozen=True)
class Context:
    """What else a method may use.

    The `epoch` (0-based, a scalar tensor), the `scalars` of its setting by name (0-d, fp32; they may
    differ between the runs of one population), and the `mask` (B, T), true where a token is.
    """

    epoch: Tensor
    scalars: Mapping[str, Tensor]
    mask: Tensor


@dataclass(frozen=True)
class Shapes:
    """Depths, widths and heads of teacher and student, outputs, and epochs of a run."""

    teacher_layers: int
    teacher_width: int
    student_layers: int
    student_width: int
    outputs: int
    teacher_heads: int = 1
    student_heads: int = 1
    epochs: int = 1


@dataclass(frozen=True)
class Hyper:
    """One hyper-parameter: its distribution, its kind, why it has this range.

    A `scalar` may differ inside a population; a `structural` one is given to the constructor. With
    `default` set it is not searched unless `search.space` opens it.
    """

    distribution: BaseDistribution
    kind: Literal["scalar", "structural"]
    why: str
    default: Value | None = None


def weight(low: float, high: float, why: str) -> Hyper:
    """A log-uniform weight of one loss term."""
    return Hyper(FloatDistribution(low, high, log=True), "scalar", why)


DISTILLATION: Mapping[str, Hyper] = {
    "temperature": Hyper(
        FloatDistribution(1.0, 10.0),
        "scalar",
        "softens both distributions; published grids end at 20",
    ),
    "kd_weight": Hyper(
        FloatDistribution(0.1, 1.0), "scalar", "share of the distillation term; 1 leaves labels out"
    ),
}
"""Hyper-parameters of the logit distillation that every method but `finetune` includes."""


class Method(nn.Module, ABC):
    """Base of all methods. A subclass's docstring is its card.

    A term named `x` is weighted by the hyper-parameter `x_weight`, which `space` must declare. The
    cross-entropy and the distillation of the logits belong to the core: `terms` returns the rest.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    form: ClassVar[Form] = "ours"
    """How sure we are of the formula: read in a public implementation, in a summary, or our reading."""
    aliases: ClassVar[tuple[str, ...]] = ()
    space: ClassVar[Mapping[str, Hyper]] = DISTILLATION
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What it reads beside pooled states. The teacher then runs in every step, and is not cached."""
    pooling: ClassVar[Pooling | None] = None
    """How its states are pooled, where that is a part of the method; else as the study says."""
    batched: ClassVar[bool] = True
    """Whether `torch.func.vmap` can batch it; one that it cannot runs member by member."""
    simplex_scale: float = 1.0
    """Multiplies the terms where weights are a simplex, and so at most 1."""

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        """Build projections and buffers.

        Args:
            shapes: depths and widths of teacher and student.
            structure: the structural hyper-parameters of the setting.
            generator: the run's own, for initial weights and fixed random draws.

        Raises:
            MethodError: the method cannot be used with these shapes.
        """
        super().__init__()
        self.shapes = shapes

    @abstractmethod
    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """Named scalar loss terms, unweighted; gradients reach the student and this module only."""

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """What the report shows of the inside: `target` (B, m, width), and `attention` (B, m, n) if any.

        `student` and `teacher` hold logits and pooled states of up to some thousand examples.
        """
        return {}

    def forward(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """The entry that `torch.func.functional_call` reaches."""
        return self.terms(student, teacher, labels, context)

    @classmethod
    def view(cls, pooling: Pooling) -> View:
        """What the models of its runs hand out, in a study that pools states that way."""
        return View(cls.pooling or pooling, cls.needs)

    @classmethod
    def uses_teacher(cls) -> bool:
        """Whether any term reads the teacher."""
        return any(name.endswith("_weight") for name in cls.space)

    @classmethod
    def inspects(cls) -> bool:
        """Whether it has something to show of its inside."""
        return cls.inspect is not Method.inspect

    @classmethod
    def matches_layers(cls) -> bool:
        """Whether any term reads intermediate layers."""
        return any(name.endswith("_weight") and name != "kd_weight" for name in cls.space)


def query_projection(shapes: Shapes, generator: torch.Generator) -> nn.Module:
    """The student's side of a match: the identity, or a learned map to the teacher's width."""
    if shapes.student_width == shapes.teacher_width:
        return nn.Identity()
    return learned_map(shapes.student_width, shapes.teacher_width, generator)


def learned_map(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A bias-free linear map that starts at the identity, or, between widths, at random."""
    linear = nn.Linear(inputs, outputs, bias=False)
    if inputs == outputs:
        nn.init.eye_(linear.weight)
    else:
        nn.init.xavier_uniform_(linear.weight, generator=generator)
    return linear


def require_depth(shapes: Shapes, name: str) -> None:
    """Refuse a student that is deeper than its teacher."""
    if shapes.student_layers > shapes.teacher_layers:
        raise MethodError(f"{name} needs a student no deeper than its teacher")


def require_pair(shapes: Shapes, name: str) -> None:
    """Refuse a student without a layer below its last one."""
    if shapes.student_layers < 2:
        raise MethodError(f"{name} leaves out the last student layer: it needs at least 2")


def require_equal_widths(shapes: Shapes, name: str, instead: str) -> None:
    """Refuse different widths, naming the method to use instead."""
    if shapes.teacher_width != shapes.student_width:
        raise MethodError(
            f"{name} needs a student as wide as its teacher ({shapes.student_width} and "
            f"{shapes.teacher_width}); use {instead}"
        )
