"""The optimiser of a population: AdamW for each member, by kernels where the device has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from harness.config import TrainingConfig
from harness.kernels.support import has_kernels
from harness.models.network import Leaf
from harness.training.member_optimizer import MemberOptimizer


class Optimizer(Protocol):
    """Clips and steps each member's parts of leaves as AdamW does with the member alone."""

    def step(self, number: int) -> list[float]:
        """Do step `number` (0-based) from the leaves' gradients, and drop the gradients.

        Returns:
            The learning rate that each member had in this step.
        """

    def keep(self, rows: Sequence[int], leaves: Sequence[Leaf]) -> None:
        """Go on with the members of some `rows`, in this order, whose parts lie in new `leaves`."""


def make_optimizer(
    leaves: Sequence[Leaf], rates: Sequence[float], steps: int, training: TrainingConfig
) -> Optimizer:
    """The optimiser for leaves, by kernels where the leaves' device has them.

    `rates` are the members' highest learning rates; `steps` the steps of the whole training.
    """
    if has_kernels(leaves[0].tensor.device) and all(leaf.is_stacked for leaf in leaves):
        from harness.training.kernel_optimizer import KernelOptimizer

        return KernelOptimizer(leaves, rates, steps, training)
    return MemberOptimizer(leaves, rates, steps, training)
