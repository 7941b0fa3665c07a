"""The contract of a method: an `nn.Module` that sees one student and returns unweighted loss terms.

The core owns the loop, the optimiser, the device and the population. The core batches runs with
`torch.func.vmap`; therefore `terms` follows four rules: no Python branching on tensor values, no
`.item()`, no in-place writes, and only operations with a batching rule (write KL from log-softmax).
A method draws random numbers in `__init__`, from the generator passed in, and stores them in buffers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from optuna.distributions import BaseDistribution, FloatDistribution
from torch import Tensor, nn

from harness.errors import MethodError
from harness.pooling_table import Pooling

Value = float | int | str | bool
Form = Literal["verified", "second-hand", "ours"]
Need = Literal["tokens", "words", "scores", "qkv", "last-qkv"]
"""Tensors that a method can ask for beside pooled states: token states, the words that tokens belong to
(`Context.words`), attention scores, Q/K/V."""


@dataclass(frozen=True)
class Layers:
    """The outputs of one model for one batch.

    `logits` (B, outputs) and `states` (B, layers, width) are fp32; `states` are the pooled states of
    layers 1..n, without the embeddings (layer 0). The other fields are empty unless the method
    `needs` them. Their values at padded tokens are finite, but have no meaning:

    - `tokens`: every token's states, of the embeddings and of layers 1..n, each (B, T, width), fp32;
    - `scores`: attention before the softmax, of layers 1..n, each (B, heads, T, T);
    - `queries` (unscaled), `keys`, `values` of layers 1..n, each (B, heads, T, head width); with
      `last-qkv` of layer n alone.

    Scores, queries, keys and values have the precision of matrix products: `to_fp32` converts them.
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
    """The outputs that one population's models return: the pooling of the states, and more `needs`."""

    pooling: Pooling
    needs: frozenset[Need] = frozenset()


@dataclass(frozen=True)
class Context:
    """Further inputs of a method's terms.

    `epoch` is a scalar tensor, counted from 0. `scalars` are the setting's scalar hyper-parameters by
    name (0-d, fp32); they may differ between the runs of one population. `mask` (B, T) is true where
    a token is. `progress` (0-d, fp32) is the share of the training's steps that are done: 0 in the first
    step, and below 1 in the last. `words` (B, T) are the numbers of the words in a text that tokens
    belong to, from 0, and -1 for padding and tokens that the tokenizer adds. It is empty unless the
    method `needs` words.
    """

    epoch: Tensor
    scalars: Mapping[str, Tensor]
    mask: Tensor
    progress: Tensor
    words: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))


@dataclass(frozen=True)
class Shapes:
    """Layers, widths and heads of teacher and student, outputs of the task, epochs of a run."""

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
    """One hyper-parameter: its distribution, its kind, and `why` it has this range.

    A `scalar` may differ between the runs of a population; the constructor gets a `structural` one. A
    hyper-parameter with a `default` is not searched unless `search.space` opens it.
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
        "a higher temperature makes both distributions softer; published grids end at 20",
    ),
    "kd_weight": Hyper(
        FloatDistribution(0.1, 1.0),
        "scalar",
        "share of the distillation term; 1 ignores the labels",
    ),
}
"""Hyper-parameters of the logit distillation, which most methods include."""


class Method(nn.Module, ABC):
    """Base of all methods. The docstring of a subclass is the method's card.

    The core multiplies a term named `x` by the hyper-parameter `x_weight`, which `space` must declare.
    A term that reads no layers, but the logits, has the name `logits`. The core adds cross-entropy and
    logit distillation: `terms` returns the other terms. Without `kd_weight` in `space` it adds
    cross-entropy only.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    form: ClassVar[Form] = "ours"
    """Source of the formula: a public implementation, a summary, or our own reading."""
    aliases: ClassVar[tuple[str, ...]] = ()
    space: ClassVar[Mapping[str, Hyper]] = DISTILLATION
    needs: ClassVar[frozenset[Need]] = frozenset()
    """Tensors that the method reads beside pooled states. With any, the teacher runs in every step."""
    pooling: ClassVar[Pooling | None] = None
    """Pooling of the states if the method fixes it; None takes the study's pooling."""
    supports_vmap: ClassVar[bool] = True
    """Whether `torch.func.vmap` can batch `terms`; otherwise the core computes them run by run."""
    supports_graphs: ClassVar[bool] = True
    """Whether a CUDA graph can hold `terms`: operations of torch alone, on the device. A method without
    `supports_vmap` cannot be held either."""
    simplex_scale: float = 1.0
    """Factor of the terms if the weights form a simplex, in which no weight is above 1."""

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        """Build projections and buffers.

        Args:
            shapes: layers and widths of teacher and student.
            structure: the structural hyper-parameters of the setting, by name.
            generator: the run's generator, for initial weights and fixed random draws.

        Raises:
            MethodError: the method does not work with these shapes.
        """
        super().__init__()
        self.shapes = shapes

    @abstractmethod
    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """Unweighted loss terms by name, each a scalar.

        Gradients reach the student and this module only. `labels` are (B,).
        """

    def factors(self, context: Context) -> dict[str, Tensor]:
        """Factors of the losses in a step, by the names of terms: 0-d, 1 where a term has none.

        The core multiplies its terms `label` and `kd` and the method's terms by them, beside their
        weights. A factor reads the context and the structural hyper-parameters alone.
        """
        return {}

    def inspect(self, student: Layers, teacher: Layers) -> dict[str, Tensor]:
        """Tensors for the report: `target` (B, m, width), and `attention` (B, m, n) if there is any.

        `student` and `teacher` hold logits and pooled states of up to some thousand examples. If
        attention is limited to some layers, a buffer `layer_mask` (m, n) is true where it is allowed.
        """
        return {}

    def forward(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`terms`, for `torch.func.functional_call`."""
        return self.terms(student, teacher, labels, context)

    @classmethod
    def view(cls, pooling: Pooling) -> View:
        """The outputs that this method's runs need in a study with that pooling."""
        return View(cls.pooling or pooling, cls.needs)

    @classmethod
    def uses_teacher(cls) -> bool:
        """Whether any term reads the teacher."""
        return any(name.endswith("_weight") for name in cls.space)

    @classmethod
    def inspects(cls) -> bool:
        """Whether the method returns tensors for the report."""
        return cls.inspect is not Method.inspect

    @classmethod
    def matches_layers(cls) -> bool:
        """Whether any term reads intermediate layers. A term named `logits` reads logits only."""
        weights = {name for name in cls.space if name.endswith("_weight")}
        return bool(weights - {"kd_weight", "logits_weight"})


def query_projection(shapes: Shapes, generator: torch.Generator) -> nn.Module:
    """A map from student width to teacher width: the identity if equal, otherwise a learned map."""
    if shapes.student_width == shapes.teacher_width:
        return nn.Identity()
    return learned_map(shapes.student_width, shapes.teacher_width, generator)


def learned_map(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear map without a bias that starts at the identity, or at random between two widths."""
    linear = nn.Linear(inputs, outputs, bias=False)
    if inputs == outputs:
        nn.init.eye_(linear.weight)
    else:
        nn.init.xavier_uniform_(linear.weight, generator=generator)
    return linear


def require_depth(shapes: Shapes, name: str) -> None:
    """Raise MethodError if the student is deeper than its teacher."""
    if shapes.student_layers > shapes.teacher_layers:
        raise MethodError(f"{name} needs a student no deeper than its teacher")


def require_pair(shapes: Shapes, name: str) -> None:
    """Raise MethodError if the student has no layer below its last layer."""
    if shapes.student_layers < 2:
        raise MethodError(
            f"{name} does not match the last student layer: it needs at least 2 layers"
        )


def require_equal_widths(shapes: Shapes, name: str, instead: str) -> None:
    """Raise MethodError if the widths differ; the message names the method to use instead."""
    if shapes.teacher_width != shapes.student_width:
        raise MethodError(
            f"{name} needs a student as wide as its teacher ({shapes.student_width} and "
            f"{shapes.teacher_width}); use {instead}"
        )
