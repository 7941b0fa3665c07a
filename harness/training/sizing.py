"""The size of populations: as many runs as fit in memory, and on a CPU no more than make it faster."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psutil
import torch

from harness.runtime.memory import lacks_memory
from harness.training.population import Population
from harness.training.recipe import Member, Recipe, engine_of

MOST_MEMBERS = 64
STATE_NUMBERS = 1 << 19
"""Numbers in one layer's states of a whole population. With more a CPU's caches no longer hold them, and
a larger population is no faster. With fewer the overhead of an operation is a part of its time."""
MEMORY_SHARE = 0.7
"""The share of the free memory that a population may take."""
WEIGHT_BYTES = 16
"""A weight, its gradient and the optimiser's two moments, in fp32."""


def population_size(recipe: Recipe, member: Member) -> int:
    """The size for runs like `member`. On a GPU steps with the widest batch are tried and measured."""
    if engine_of(recipe.training.engine, recipe.model) == "reference":
        return 1
    if recipe.arithmetic.device.type == "cuda":
        return _size_on_gpu(recipe, member)
    schedule = recipe.schedule()
    numbers = [len(bucket.rows) * bucket.width for bucket in schedule.buckets]
    states = sum(numbers) / schedule.steps_per_epoch * int(recipe.model.hidden_size)
    weights = sum(value.numel() for value in member.weights.values())
    limit = most_members(psutil.virtual_memory().available, weights * WEIGHT_BYTES)
    return max(1, min(limit, round(STATE_NUMBERS / states)))


def most_members(free_bytes: int, member_bytes: int) -> int:
    """The runs of `member_bytes` each that fit into free memory."""
    return max(1, min(MOST_MEMBERS, int(MEMORY_SHARE * free_bytes // max(member_bytes, 1))))


def _size_on_gpu(recipe: Recipe, member: Member) -> int:
    """The number of members that fit; 1 where a second member does not fit."""
    try:
        single_bytes, pair_bytes = (_bytes_on_gpu(recipe, member, size) for size in (1, 2))
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        return 1
    torch.cuda.empty_cache()
    free_bytes, _ = torch.cuda.mem_get_info(recipe.arithmetic.device)
    return most_members(free_bytes, pair_bytes - single_bytes)


def _bytes_on_gpu(recipe: Recipe, member: Member, size: int) -> int:
    """The most memory, in bytes, that two epochs of the widest batch take, with the optimiser's moments.

    Each member has another seed, so that a live teacher's layers are computed for each of them.
    """
    members = [replace(member, seed=member.seed + number) for number in range(size)]
    longest_examples = np.argsort(recipe.inputs.lengths)[-recipe.training.batch_size :]
    rows = torch.from_numpy(longest_examples)
    teacher, weights = recipe.teacher, recipe.label_weights
    batch_recipe = replace(
        recipe,
        inputs=recipe.inputs.part(longest_examples),
        labels=recipe.labels[rows.to(recipe.labels.device)],
        label_weights=weights if weights is None else weights[rows.to(weights.device)],
        teacher=teacher and teacher.part(rows),
        training=replace(recipe.training, epochs=2),
        words=recipe.vocabulary,
    )
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(recipe.arithmetic.device)
    bytes_before = torch.cuda.memory_allocated(recipe.arithmetic.device)
    population = Population(members, batch_recipe)
    for epoch in range(2):
        population.epoch(epoch, lambda steps: None)
    return torch.cuda.max_memory_allocated(recipe.arithmetic.device) - bytes_before
