"""AdamW for a population on a GPU: one kernel updates a leaf of all members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.config import TrainingConfig
from harness.kernels.adamw import adamw_update, bias_corrections, squared_norms
from harness.models.network import Leaf
from harness.training.rates import Rates


@dataclass
class _Moments:
    """AdamW's moments of one leaf (members, ...), after a number of steps with gradients."""

    means: Tensor
    squares: Tensor
    steps: int = 0
    had_gradients: bool = False
    """Whether the last step had gradients. The next step counts it: a CUDA graph runs no Python."""


class KernelOptimizer:
    """`Optimizer` by kernels: the members' norms, then one update of each leaf, clipped on its way.

    Gradients stay in the dtype in which they arrive, bf16 for the weights of bf16 products: no cast
    writes them in fp32.
    """

    def __init__(self, leaves: Sequence[Leaf], rates: Rates, training: TrainingConfig) -> None:
        self.rates = rates
        self.training = training
        self._set_leaves(leaves)
        self.moments = [
            _Moments(torch.zeros_like(leaf.values), torch.zeros_like(leaf.values))
            for leaf in leaves
        ]

    def begin(self, number: int) -> npt.NDArray[np.floating]:
        """Begin step `number` (0-based): the members' rates, then two `bias_corrections` a leaf."""
        rates = self.rates.at(number)
        corrections: list[float] = []
        for moments in self.moments:
            moments.steps += moments.had_gradients
            corrections += bias_corrections(moments.steps)
        return np.array([*rates, *corrections], dtype=np.float32)

    def step(self, numbers: Tensor) -> None:
        """Do a step from the leaves' gradients, and drop the gradients. `numbers` are `begin`'s."""
        count = len(self.rates.highest)
        rates, corrections = numbers[:count], numbers[count:].view(-1, 2)
        updates = [
            (leaf, moments, gradients, correction)
            for leaf, moments, correction in zip(
                self.leaves, self.moments, corrections, strict=True
            )
            if (gradients := leaf.gradients) is not None
        ]
        norms = squared_norms([(leaf.first, values) for leaf, _, values, _ in updates], count)
        for moments in self.moments:
            moments.had_gradients = False
        for leaf, moments, values, correction in updates:
            members = slice(leaf.first, leaf.first + len(values))
            adamw_update(
                *(leaf.values, values, moments.means, moments.squares),
                *(norms[members], rates[members], correction),
                decay=self.training.weight_decay if leaf.has_decay else 0.0,
                clip_norm=self.training.clip_norm,
            )
            moments.had_gradients = True
            leaf.tensor.grad = None

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
            replace(moments, means=moments.means[leaf_rows], squares=moments.squares[leaf_rows])
            for moments, leaf_rows in parts
            if leaf_rows
        ]
        self._set_leaves(leaves)
        self.rates.keep(rows)

    def _set_leaves(self, leaves: Sequence[Leaf]) -> None:
        self.leaves = list(leaves)
        for leaf in leaves:
            leaf.tensor.grad_dtype = None
