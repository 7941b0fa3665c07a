"""The layer maps of "Layer-Selection Strategy Doesn't Matter (Much)", with that paper's loss.

The teacher runs in every step, because a cache of all tokens' states would be too large.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.method import (
    DISTILLATION,
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    query_projection,
    require_depth,
    weight,
)
from harness.method.layer_maps import skip_map
from harness.method.losses import masked_mean

_SPACE: Mapping[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(1.0, 1000.0, "a mean over the width is small; published 72"),
}
_BATCH = 32
"""Examples of the authors' batch, by which their loss divides once more."""


class TokenMap(Method):
    """LAYER = mean_{j=0..m} MSE(W_j h_j, t_A(j)), states of all tokens; a subclass chooses A.

    Layer 0 are the embeddings. Reduction: mean over width, all tokens of the batch, and layers.
    """

    space = _SPACE
    needs = frozenset({"tokens"})

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_depth(shapes, self.name)
        self.simplex_scale = shapes.teacher_width / _BATCH
        maps = [query_projection(shapes, generator) for _ in range(shapes.student_layers + 1)]
        self.state_maps = nn.ModuleList(maps)

    @abstractmethod
    def targets(self, states: tuple[Tensor, ...]) -> list[Tensor]:
        """The states t_A(j) (B, T, width), j = 0..m, from those of the teacher's layers 0..n."""

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the squared distance of the states."""
        mask = context.mask[:, :, None]
        distances = [
            masked_mean((state_map(states) - targets).square(), mask)
            for state_map, states, targets in zip(
                self.state_maps, student.tokens, self.targets(teacher.tokens), strict=True
            )
        ]
        return {"layer": torch.stack(distances).mean()}


class FixedTokenMap(TokenMap):
    """A `TokenMap` whose map depends on the depths only."""

    @staticmethod
    @abstractmethod
    def layer_map(students: int, teachers: int) -> list[int]:
        """Teacher layers of student layers 0..m; 0 are the embeddings."""

    def targets(self, states: tuple[Tensor, ...]) -> list[Tensor]:
        """The states of the map's layers."""
        layers = self.layer_map(self.shapes.student_layers, self.shapes.teacher_layers)
        return [states[layer] for layer in layers]


class ForwardMatching(FixedTokenMap):
    """LAYER = mean_{j=0..m} MSE(W_j h_j, t_A(j)), states of every token; A(j) = j·n/m, A(0) = 0.

    Paper: "Revisiting Intermediate-Layer Matching in Knowledge Distillation: Layer-Selection Strategy
    Doesn't Matter (Much)" (2025), arXiv 2502.04499 (verified), its forward map: 12 → 4 matches layers
    3, 6, 9, 12, and embeddings to embeddings. States are not normalised. If m does not divide n, A(j) is
    rounded half up (ours; theirs rounds up at 12 → 9). W_j is the identity, or a learned map for each
    layer if the widths differ. (The authors' code keeps these maps outside of the optimiser, so that
    they stay as they were drawn.) The student must not be deeper than its teacher.
    Reduction: mean over width, all tokens of the batch without padding, and layers. The authors sum over
    the width and divide once more by the examples of the batch; their weight 3 at 32 examples and a
    width of 768 is 72 here. With simplex weights the term is multiplied by width / 32, as theirs.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "forward-matching"
    summary = "every token's states, every n/m-th teacher layer in order"
    paper = "arXiv 2502.04499 (2025)"
    form = "verified"

    @staticmethod
    def layer_map(students: int, teachers: int) -> list[int]:
        """The skip map, and embeddings to embeddings."""
        return [0, *skip_map(students, teachers)]


class ReverseMatching(FixedTokenMap):
    """`forward-matching` upside down: 12 → 4 matches student layers 1 to 4 to layers 12, 9, 6, 3.

    Paper: arXiv 2502.04499 (2025) (verified), its reverse map. Embeddings match embeddings. Loss,
    reduction and requirements are as in `forward-matching`.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "reverse-matching"
    summary = "every token's states, every n/m-th teacher layer in reverse order"
    paper = "arXiv 2502.04499 (2025)"
    form = "verified"

    @staticmethod
    def layer_map(students: int, teachers: int) -> list[int]:
        """The skip map in reverse order, and embeddings to embeddings."""
        return [0, *skip_map(students, teachers)[::-1]]


class AllToOneMatching(FixedTokenMap):
    """Every student layer, the embeddings too, matches the teacher's middle layer: 6 of 12.

    Paper: arXiv 2502.04499 (2025) (verified), its all-to-one map. The middle is n/2, rounded half up.
    Loss, reduction and requirements are as in `forward-matching`.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "all-to-one-matching"
    summary = "every token's states, every student layer to the teacher's middle layer"
    paper = "arXiv 2502.04499 (2025)"
    form = "verified"

    @staticmethod
    def layer_map(students: int, teachers: int) -> list[int]:
        """The middle layer, m + 1 times."""
        return [(teachers + 1) // 2] * (students + 1)


class RandomMatching(TokenMap):
    """`forward-matching` shuffled: 12 → 4 matches student layers 1 to 4 to 3, 6, 9, 12 in any order.

    Paper: arXiv 2502.04499 (2025) (verified), its random map. The run's seed draws the order once, all
    m! orders equally likely, the forward one among them. Embeddings match embeddings. Loss, reduction
    and requirements are as in `forward-matching`.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "random-matching"
    summary = "every token's states, every n/m-th teacher layer in an order drawn from the seed"
    paper = "arXiv 2502.04499 (2025)"
    form = "verified"

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.register_buffer("order", torch.randperm(shapes.student_layers, generator=generator))
        self.order: Tensor

    def targets(self, states: tuple[Tensor, ...]) -> list[Tensor]:
        """The states of the skip map's layers in the drawn order, after the embeddings."""
        layers = skip_map(self.shapes.student_layers, self.shapes.teacher_layers)
        chosen = torch.stack([states[layer] for layer in layers]).index_select(0, self.order)
        return [states[0], *chosen.unbind(0)]
