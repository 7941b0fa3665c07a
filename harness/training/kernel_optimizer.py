"""AdamW for a population on a GPU: one kernel updates a leaf of all members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.config import TrainingConfig
from harness.kernels.adamw import adamw_update, squared_norms
from harness.models.network import Leaf
from harness.training.member_optimizer import rate_factor


@dataclass
class _Moments:
    """AdamW's moments of one leaf (members, ...), after a number of steps with gradients."""

    means: Tensor
    squares: Tensor
    steps: int = 0


class KernelOptimizer:
    """`Optimizer` by kernels: the members' norms, then one update of each leaf, clipped on its way."""

    def __init__(
        self, leaves: Sequence[Leaf], rates: Sequence[float], steps: int, training: TrainingConfig
    ) -> None:
        """`rates` are the members' highest learning rates; `steps` the steps of the whole training."""
        self.steps = steps
        self.training = training
        self.leaves = list(leaves)
        self.rates = list(rates)
        self.moments = [
            _Moments(torch.zeros_like(leaf.values), torch.zeros_like(leaf.values))
            for leaf in leaves
        ]
        self._set_rates()

    def step(self, number: int) -> list[float]:
        """Do step `number` (0-based) from the leaves' gradients, and drop the gradients.

        Returns:
            The learning rate that each member had in this step.
        """
        factor = rate_factor(number, self.steps, self.training.warmup)
        rates = self.device_rates * factor
        updates = [
            (leaf, moments, gradients)
            for leaf, moments in zip(self.leaves, self.moments, strict=True)
            if (gradients := leaf.gradients) is not None
        ]
        norms = squared_norms(
            [(leaf.first, values) for leaf, _, values in updates], len(self.rates)
        )
        for leaf, moments, values in updates:
            members = slice(leaf.first, leaf.first + len(values))
            adamw_update(
                *(leaf.values, values, moments.means, moments.squares),
                *(norms[members], rates[members]),
                step=moments.steps,
                decay=self.training.weight_decay if leaf.has_decay else 0.0,
                clip_norm=self.training.clip_norm,
            )
            moments.steps += 1
            leaf.tensor.grad = None
        return [rate * factor for rate in self.rates]

    def keep(self, rows: Sequence[int], leaves: Sequence[Leaf]) -> None:
        """Go on with the members of some `rows`, in this order, whose parts lie in new `leaves`.

        A leaf that none of the members has a part of is not among the new leaves.
        """
        parts = [
            (moments, [row - leaf.first for row in rows if leaf.first <= row < end])
            for leaf, moments in zip(self.leaves, self.moments, strict=True)
            for end in [leaf.first + len(leaf.values)]
        ]
        self.moments = [
            _Moments(moments.means[leaf_rows], moments.squares[leaf_rows], moments.steps)
            for moments, leaf_rows in parts
            if leaf_rows
        ]
        self.leaves = list(leaves)
        self.rates = [self.rates[row] for row in rows]
        self._set_rates()

    def _set_rates(self) -> None:
        device = self.leaves[0].tensor.device
        self.device_rates = torch.tensor(self.rates, dtype=torch.float32, device=device)
