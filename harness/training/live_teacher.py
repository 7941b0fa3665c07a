"""The teacher in the loop: for methods that read what is too large to be cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from harness.errors import TeacherError
from harness.method import Layers
from harness.models.reference import layers_of
from harness.training.recipe import Recipe


class LiveTeacher:
    """Runs a recipe's teacher on the batches of a population, in eval mode and without gradients.

    Members of one seed see the same examples, as the settings of a round do: they are computed once.
    """

    def __init__(self, recipe: Recipe, seeds: Sequence[int]) -> None:
        assert recipe.live is not None
        if recipe.live.training:
            raise TeacherError("a teacher must be in eval mode when it teaches")
        self.model = recipe.live
        self.needs = recipe.view.needs
        self.arithmetic = recipe.arithmetic
        places = {seed: place for place, seed in reversed([*enumerate(seeds)])}
        order = {seed: number for number, seed in enumerate(places)}
        device = recipe.arithmetic.device
        self.first = torch.tensor([*places.values()], device=device)
        self.member = torch.tensor([order[seed] for seed in seeds], device=device)
        self.all_differ = len(places) == len(seeds)

    @torch.no_grad()
    def layers(self, batch: Mapping[str, Tensor]) -> Layers:
        """What is needed of it for the members' batches, tensors (members, B, T)."""
        own = batch if self.all_differ else {k: values[self.first] for k, values in batch.items()}
        shape = own["input_ids"].shape[:2]
        with self.arithmetic.autocast():
            inputs = {name: values.flatten(0, 1) for name, values in own.items()}
            seen = layers_of(self.model, inputs, None, self.needs)

        def of_members(values: Tensor) -> Tensor:
            values = values.unflatten(0, shape)
            return values if self.all_differ else values[self.member]

        found: Layers = tree_map(of_members, seen)
        return found
