"""Networks: the classifiers of a population, in the form that both engines share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from harness.method import Layers, Need, Pooling
from harness.pooling_table import pooling_row
from harness.runtime.randomness import DropoutKey


@dataclass(frozen=True)
class Leaf:
    """A tensor in training: (members, ...) if `is_stacked`, else one member's tensor (...,).

    The tensor belongs to member `first` and, if stacked, to the members after that one.
    """

    tensor: Tensor
    has_decay: bool
    first: int = 0
    is_stacked: bool = True

    @property
    def values(self) -> Tensor:
        """The numbers (members, ...), outside the graph, in the same memory."""
        values = self.tensor.detach()
        return values if self.is_stacked else values[None]

    @property
    def gradients(self) -> Tensor | None:
        """The gradients (members, ...), in the same memory. None before a backward pass."""
        gradients = self.tensor.grad
        return gradients if gradients is None or self.is_stacked else gradients[None]


class Network(Protocol):
    """Classifiers of one shape that train together, the members."""

    @property
    def members(self) -> int:
        """The number of classifiers."""

    def leaves(self) -> list[Leaf]:
        """The tensors in training."""

    def forward(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        pooling: Pooling | None,
        needs: frozenset[Need] = frozenset(),
    ) -> Layers:
        """The layers that methods read, as tensors (members, B, ...).

        `batch` holds `input_ids`, `token_type_ids` and `attention_mask`, each (members, B, T). A key
        turns dropout on. Without pooling `states` has no layers.
        """

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Note each member's factor of weight decay in one step, for weights outside the optimiser."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the members of some rows only, in this order."""

    def weights(self, member: int) -> dict[str, Tensor]:
        """One member's weights by their names in a checkpoint."""


def pool(hidden_states: Sequence[Tensor], mask: Tensor, pooling: Pooling) -> Tensor:
    """Pooled states (B, layers, width) in fp32 from layers of (B, T, width) and a mask (B, T).

    Raises `ValueError` for an unknown pooling.
    """
    return pooling_row(pooling).pool(hidden_states, mask).float()
