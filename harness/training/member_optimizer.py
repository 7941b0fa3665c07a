"""AdamW for a population: each member has a learning rate, a gradient norm and moments of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import AdamW

from harness.config import TrainingConfig
from harness.models.network import Leaf
from harness.training.rates import Rates


class MemberOptimizer:
    """Clips and steps the members' parts of leaves (members, ...) together.

    A member's part of a leaf is a *view* (...,): a tensor in the leaf's memory. AdamW is given the
    views, since each of its parameter groups takes whole tensors and has one learning rate. A member
    has two groups, with weight decay and without. One fused step then moves all views of all members.
    """

    def __init__(self, leaves: Sequence[Leaf], rates: Rates, training: TrainingConfig) -> None:
        self.rates = rates
        self.training = training
        self._set_leaves(leaves)

    def _set_leaves(self, leaves: Sequence[Leaf]) -> None:
        self.members = len(self.rates.highest)
        self.views = [(leaf, list(leaf.values)) for leaf in leaves]
        decay = self.training.weight_decay
        groups = [
            {
                "params": list(self.views_of(row, has_decay)),
                "weight_decay": decay if has_decay else 0.0,
            }
            for row in range(self.members)
            for has_decay in (True, False)
        ]
        on_gpu = leaves[0].tensor.device.type == "cuda"
        self.adamw = AdamW(groups, lr=0.0, fused=True, capturable=on_gpu)

    def views_of(self, row: int, has_decay: bool | None = None) -> Iterator[Tensor]:
        """A member's views (...,): all, or the views with (True) or without (False) weight decay."""
        for leaf, views in self.views:
            if leaf.first <= row < leaf.first + len(views) and has_decay in (None, leaf.has_decay):
                yield views[row - leaf.first]

    def begin(self, number: int) -> npt.NDArray[np.floating]:
        """Begin step `number` (0-based): the members' rates (members,).

        They are in double precision on a CPU, as Python's numbers are, and elsewhere in fp32, which is
        what AdamW's kernels read.
        """
        on_cpu = self.views[0][0].tensor.device.type == "cpu"
        return np.array(self.rates.at(number), dtype=np.float64 if on_cpu else np.float32)

    def step(self, numbers: Tensor) -> None:
        """Do a step from the leaves' gradients, and drop the gradients. `numbers` are the rates."""
        self._clip()
        for row, rate in enumerate(numbers.unbind()):
            for group in self.adamw.param_groups[2 * row : 2 * row + 2]:
                group["lr"] = rate
        self.adamw.step()
        for leaf, views in self.views:
            leaf.tensor.grad = None
            for view in views:
                view.grad = None

    def _clip(self) -> None:
        """Scale each member's gradients to a norm of at most `clip_norm`, and hand them to the views."""
        squares = torch.zeros(self.members, device=self.views[0][0].tensor.device)
        for leaf, views in self.views:
            if (gradients := leaf.gradients) is not None:
                norms = torch.linalg.vector_norm(gradients.reshape(len(views), -1), dim=1)
                squares[leaf.first : leaf.first + len(views)] += norms.square()
        scales = (self.training.clip_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for leaf, views in self.views:
            if (gradients := leaf.gradients) is not None:
                leaf_scales = scales[leaf.first : leaf.first + len(views)]
                gradients.mul_(leaf_scales.view(-1, *[1] * (gradients.ndim - 1)))
                for view, gradient in zip(views, gradients, strict=True):
                    view.grad = gradient

    def keep(self, rows: Sequence[int], leaves: Sequence[Leaf]) -> None:
        """Go on with the members of some `rows`, in this order, whose parts lie in new `leaves`.

        AdamW knows its moments and step counts by the identity of the views. The new leaves are other
        tensors, so their views would begin with moments of zero and at step 1, and a member would go on
        in another way than alone. So each state moves from an old view to the new view in its place:
        a member's views have the same order before and after, whichever other members leave.
        """
        states = [[self.adamw.state.get(view) for view in self.views_of(row)] for row in rows]
        self.rates.keep(rows)
        self._set_leaves(leaves)
        for row, row_states in enumerate(states):
            for view, state in zip(self.views_of(row), row_states, strict=True):
                if state is not None:
                    self.adamw.state[view] = state
