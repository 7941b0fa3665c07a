"""The optimiser of a population: AdamW for each member, by kernels where the device has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from harness.config import TrainingConfig
from harness.kernels.support import has_kernels
from harness.models.network import Leaf
from harness.training.member_optimizer import MemberOptimizer
from harness.training.rates import Rates


class Optimizer(Protocol):
    """Clips and steps each member's parts of leaves as AdamW does with the member alone."""

    rates: Rates

    def begin(self, number: int) -> npt.NDArray[np.floating]:
        """Begin step `number` (0-based): what differs between this step and others (numbers,).

        The steps must be begun in their order, each once.
        """

    def step(self, numbers: Tensor) -> None:
        """Do a step from the leaves' gradients, and drop the gradients.

        Args:
            numbers: those of `begin`, on the leaves' device.
        """

    def keep(self, rows: Sequence[int], leaves: Sequence[Leaf]) -> None:
        """Go on with the members of some `rows`, in this order, whose parts lie in new `leaves`."""


def make_optimizer(
    leaves: Sequence[Leaf], rates: Sequence[float], steps: int, training: TrainingConfig
) -> Optimizer:
    """The optimiser for leaves, by kernels where the leaves' device has them.

    `rates` are the members' highest learning rates; `steps` the steps of the whole training.
    """
    schedule = Rates(rates, steps, training.warmup)
    if has_kernels(leaves[0].tensor.device) and all(leaf.is_stacked for leaf in leaves):
        from harness.training.kernel_optimizer import KernelOptimizer

        return KernelOptimizer(leaves, schedule, training)
    return MemberOptimizer(leaves, schedule, training)
