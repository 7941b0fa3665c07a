"""AdamW for a population: each member has a learning rate, a gradient norm and moments of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.optim import AdamW

from harness.config import TrainingConfig
from harness.models.network import Leaf


class MemberOptimizer:
    """Clips and steps the members' parts of leaves (members, ...) together.

    A member's part of a leaf is a *view* (...,): a tensor in the leaf's memory. AdamW is given the
    views, since each of its parameter groups takes whole tensors and has one learning rate. A member
    has two groups, with weight decay and without. One fused step then moves all views of all members.
    """

    def __init__(
        self, leaves: Sequence[Leaf], rates: Sequence[float], steps: int, training: TrainingConfig
    ) -> None:
        """`rates` are the members' highest learning rates; `steps` the steps of the whole training."""
        self.steps = steps
        self.training = training
        self._begin(leaves, rates)

    def _begin(self, leaves: Sequence[Leaf], rates: Sequence[float]) -> None:
        self.rates = list(rates)
        self.views = [(leaf, list(leaf.values)) for leaf in leaves]
        decay = self.training.weight_decay
        groups = [
            {
                "params": list(self.views_of(row, has_decay)),
                "weight_decay": decay if has_decay else 0.0,
            }
            for row in range(len(self.rates))
            for has_decay in (True, False)
        ]
        self.adamw = AdamW(groups, lr=0.0, fused=True)

    def views_of(self, row: int, has_decay: bool | None = None) -> Iterator[Tensor]:
        """A member's views (...,): all, or the views with (True) or without (False) weight decay."""
        for leaf, views in self.views:
            if leaf.first <= row < leaf.first + len(views) and has_decay in (None, leaf.has_decay):
                yield views[row - leaf.first]

    def step(self, number: int) -> list[float]:
        """Do step `number` (0-based) from the leaves' gradients, and drop the gradients.

        Returns:
            The learning rate that each member had in this step.
        """
        self._clip()
        factor = rate_factor(number, self.steps, self.training.warmup)
        rates = [rate * factor for rate in self.rates]
        for row, rate in enumerate(rates):
            for group in self.adamw.param_groups[2 * row : 2 * row + 2]:
                group["lr"] = rate
        self.adamw.step()
        for leaf, views in self.views:
            leaf.tensor.grad = None
            for view in views:
                view.grad = None
        return rates

    def _clip(self) -> None:
        """Scale each member's gradients to a norm of at most `clip_norm`, and hand them to the views."""
        squares = torch.zeros(len(self.rates), device=self.views[0][0].tensor.device)
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
        self._begin(leaves, [self.rates[row] for row in rows])
        for row, row_states in enumerate(states):
            for view, state in zip(self.views_of(row), row_states, strict=True):
                if state is not None:
                    self.adamw.state[view] = state


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up and decay: the share of the learning rate at a step (0-based)."""
    warmup_steps = max(1, round(warmup * steps))
    decay_steps = max(1, steps - warmup_steps)
    return min((step + 1) / warmup_steps, (steps - step) / decay_steps, 1.0)
