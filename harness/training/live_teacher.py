"""The live teacher runs in every step, for methods that read tensors too large for a cache."""

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

    Members with the same seed have the same batches, as the settings of a search round do. The teacher
    runs once for each seed.
    """

    def __init__(self, recipe: Recipe, seeds: Sequence[int]) -> None:
        assert recipe.live_teacher is not None
        if recipe.live_teacher.training:
            raise TeacherError("a teacher must be in eval mode when it teaches")
        self.model = recipe.live_teacher
        self.needs = recipe.view.needs
        self.arithmetic = recipe.arithmetic
        first_rows = {seed: row for row, seed in reversed([*enumerate(seeds)])}
        numbers = {seed: number for number, seed in enumerate(first_rows)}
        device = recipe.arithmetic.device
        self.first_rows = torch.tensor([*first_rows.values()], device=device)
        self.seed_numbers = torch.tensor([numbers[seed] for seed in seeds], device=device)
        self.seeds_differ = len(first_rows) == len(seeds)

    @torch.no_grad()
    def layers(self, batch: Mapping[str, Tensor]) -> Layers:
        """The teacher's layers for the members' batches, from tensors (members, B, T).

        Returns:
            `Layers` with tensors (members, B, ...).
        """
        inputs = dict(batch)
        if not self.seeds_differ:
            inputs = {name: values[self.first_rows] for name, values in batch.items()}
        shape = inputs["input_ids"].shape[:2]
        with self.arithmetic.autocast():
            rows = {name: values.flatten(0, 1) for name, values in inputs.items()}
            teacher = layers_of(self.model, rows, None, self.needs)

        def by_member(values: Tensor) -> Tensor:
            values = values.unflatten(0, shape)
            return values if self.seeds_differ else values[self.seed_numbers]

        layers: Layers = tree_map(by_member, teacher)
        return layers
