"""How many runs are trained together: as many as fit, and on a CPU no more than pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psutil
import torch

from harness.training.population import Population
from harness.training.recipe import Member, Recipe, engine_of

MOST = 64
ACTIVATIONS = 1 << 19
"""Numbers in one layer's states of a whole population. Above it a CPU's caches no longer hold them, and
a larger population is no faster; below it the overhead of an operation is a part of its time."""
SHARE = 0.7
"""Of the free memory: what a population may take of it."""
BYTES = 16
"""A weight, its gradient and the optimiser's two moments, in fp32."""


def population_size(recipe: Recipe, member: Member) -> int:
    """The size for runs like `member`. On a GPU steps at the widest batch are tried and measured."""
    if engine_of(recipe.training.engine, recipe.model) == "reference":
        return 1
    if recipe.arithmetic.device.type == "cuda":
        return _size_on_gpu(recipe, member)
    schedule = recipe.schedule()
    numbers = [len(bucket.rows) * bucket.width for bucket in schedule.buckets]
    states = sum(numbers) / schedule.steps_per_epoch * int(recipe.model.hidden_size)
    weights = sum(value.numel() for value in member.weights.values())
    fitting = _fitting(psutil.virtual_memory().available, weights * BYTES)
    return max(1, min(fitting, round(ACTIVATIONS / states)))


def _fitting(free: int, each: int) -> int:
    return max(1, min(MOST, int(SHARE * free // max(each, 1))))


def _size_on_gpu(recipe: Recipe, member: Member) -> int:
    """What fits; 1 where a second member does not."""
    try:
        one, two = (_bytes_on_gpu(recipe, member, size) for size in (1, 2))
    except torch.OutOfMemoryError:
        return 1
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(recipe.arithmetic.device)
    return _fitting(free, two - one)


def _bytes_on_gpu(recipe: Recipe, member: Member, size: int) -> int:
    """The most memory that two steps at the widest batch take; the optimiser's moments are in it.

    Members have seeds of their own, and so their own part of what a live teacher hands out.
    """
    members = [replace(member, seed=member.seed + place) for place in range(size)]
    longest = np.argsort(recipe.inputs.lengths)[-recipe.training.batch_size :]
    rows = torch.from_numpy(longest)
    teacher = recipe.teacher
    widest = replace(
        recipe,
        inputs=recipe.inputs.part(longest),
        labels=recipe.labels[rows.to(recipe.labels.device)],
        teacher=teacher and teacher.part(rows),
        training=replace(recipe.training, epochs=2),
        words=recipe.vocabulary,
    )
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(recipe.arithmetic.device)
    before = torch.cuda.memory_allocated(recipe.arithmetic.device)
    population = Population(members, widest)
    for epoch in range(2):
        population.epoch(epoch, lambda steps: None)
    return torch.cuda.max_memory_allocated(recipe.arithmetic.device) - before
