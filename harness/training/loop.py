"""The training loop: a population from initial weights to the outcomes of its members."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from harness.runtime.device import Arithmetic
from harness.training.population import Population
from harness.training.recipe import Member, Recipe

RESULTS_VERSION = 4
"""Raised when the core's arithmetic changes, so that old and new runs are not mixed."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one member's training: losses, cost, and the reason of a failure.

    `curves` holds each epoch's mean of each loss term. `seconds` is the member's share of its
    population's time, `peak_memory` is the whole population's, in bytes.
    """

    curves: list[dict[str, float]]
    seconds: float
    examples_per_second: float
    peak_memory: int
    failure: str | None = None


def train_population(
    members: Sequence[Member],
    recipe: Recipe,
    advance: Callable[[int], None],
    stay: Callable[[int, Population], Sequence[int]] | None = None,
    observe: Callable[[int, Population], None] | None = None,
) -> tuple[Population, list[Outcome]]:
    """Train members together, each until its last epoch, its failure, or the end that `stay` sets.

    Args:
        members: the members; a caller that keeps no reference to them frees their initial weights.
        recipe: the data and settings that all members share.
        advance: called with numbers of finished steps, of all members together.
        stay: called after each epoch but the last, with the number of epochs done and the population;
            returns the rows of the members that go on, in rising order. By default all go on.
        observe: called after each epoch with the number of epochs done and the population, which it must
            leave as it is. Its time does not count as the members'.

    Returns:
        The population of the members that are left, and all members' outcomes in the order of `members`.
        A member whose loss is not finite leaves at the end of its epoch, with a failure.
    """
    start = time.perf_counter()
    if recipe.arithmetic.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(recipe.arithmetic.device)
    population = Population(members, recipe)
    count = len(members)
    del members  # frees the initial weights, where the caller keeps no reference
    curves: list[list[dict[str, float]]] = [[] for _ in range(count)]
    failures: list[str | None] = [None] * count
    for epoch in range(recipe.training.epochs):
        finite_rows = []
        for row, means in enumerate(population.epoch(epoch, advance)):
            index = population.indices[row]
            curves[index].append({name: v for name, v in means.items() if np.isfinite(v)})
            if len(curves[index][-1]) < len(means):
                failures[index] = f"the loss is not finite in epoch {epoch + 1}"
            else:
                finite_rows.append(row)
        if len(finite_rows) < len(population.members):
            population.keep(finite_rows)
        if stay is not None and epoch + 1 < recipe.training.epochs:
            rows = stay(epoch + 1, population)
            if len(rows) < len(population.members):
                population.keep(rows)
        if not population.members:
            break
        if observe is not None:
            pause_start = time.perf_counter()
            observe(epoch + 1, population)
            start += time.perf_counter() - pause_start  # observing is no cost of the training
    share = (time.perf_counter() - start) / count
    examples, memory = len(recipe.inputs.lengths), _peak_memory(recipe.arithmetic)
    outcomes = [
        Outcome(member_curves, share, examples * len(member_curves) / share, memory, failure)
        for member_curves, failure in zip(curves, failures, strict=True)
    ]
    return population, outcomes


def _peak_memory(arithmetic: Arithmetic) -> int:
    """Bytes: the most on the GPU since the population began, or this process's resident memory now."""
    if arithmetic.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(arithmetic.device))
    return int(psutil.Process().memory_info().rss)
