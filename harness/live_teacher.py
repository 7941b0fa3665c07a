"""The teacher in the loop: for methods that read what is too large to be cached."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from harness.encoder import layers_of
from harness.errors import TeacherError
from harness.method import Layers
from harness.recipe import Recipe


class LiveTeacher:
    """Runs a recipe's teacher on the batches of a population, in eval mode and without gradients."""

    def __init__(self, recipe: Recipe) -> None:
        assert recipe.live is not None
        if recipe.live.training:
            raise TeacherError("a teacher must be in eval mode when it teaches")
        self.model = recipe.live
        self.needs = recipe.view.needs
        self.arithmetic = recipe.arithmetic

    @torch.no_grad()
    def layers(self, batch: Mapping[str, Tensor], rows: Tensor) -> Layers:
        """What is needed of it for members' batches (members, B, T) of `rows` (members, B).

        Members with the same rows, as settings with the same seed have them, are computed once.
        """
        different, member = torch.unique(rows, dim=0, return_inverse=True)
        first = torch.stack([(member == one).nonzero()[0, 0] for one in range(len(different))])
        first, member = first.to(self.arithmetic.device), member.to(self.arithmetic.device)
        inputs = {name: own[first].flatten(0, 1) for name, own in batch.items()}
        with self.arithmetic.autocast():
            seen = layers_of(self.model, inputs, None, self.needs)
        shape = (len(different), rows.shape[1])
        found: Layers = tree_map(lambda own: own.unflatten(0, shape)[member], seen)
        return found
