"""Networks: what a population trains, whichever engine runs it."""

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
    """A tensor that is trained: a row for each member, or, not `stacked`, one member's alone.

    `first` is the first member that it belongs to; the others follow.
    """

    tensor: Tensor
    decayed: bool
    first: int = 0
    stacked: bool = True

    @property
    def values(self) -> Tensor:
        """The numbers (members, ...), outside the graph, in the same memory."""
        own = self.tensor.detach()
        return own if self.stacked else own[None]

    @property
    def gradients(self) -> Tensor | None:
        """The gradients (members, ...), in the same memory."""
        own = self.tensor.grad
        return own if own is None or self.stacked else own[None]


class Network(Protocol):
    """Classifiers of one shape that are trained together."""

    @property
    def members(self) -> int:
        """How many there are."""

    def leaves(self) -> list[Leaf]:
        """The tensors that are trained."""

    def forward(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        pooling: Pooling | None,
        needs: frozenset[Need] = frozenset(),
    ) -> Layers:
        """What methods see, with a leading member dimension; with a key there is dropout.

        `batch` holds `input_ids`, `token_type_ids` and `attention_mask`, each (members, B, T). Without
        pooling `states` has no layers.
        """

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Note each member's weight decay of one step for what the step left out."""

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with some members only."""

    def weights(self, member: int) -> dict[str, Tensor]:
        """One member's weights by their names in a checkpoint."""


def pool(hidden_states: Sequence[Tensor], mask: Tensor, pooling: Pooling) -> Tensor:
    """Pooled states (B, layers, width) in fp32 from layers of (B, T, width) and a mask (B, T).

    Raises `ValueError` for an unknown pooling.
    """
    return pooling_row(pooling).pooled(hidden_states, mask).float()
