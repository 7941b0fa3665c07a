"""The one training loop: a population from its initial weights to its members' outcomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from harness.runtime.device import Arithmetic
from harness.training.halving import Halving
from harness.training.population import Population
from harness.training.recipe import Member, Recipe

RESULTS_VERSION = 3
"""Raised when the core's arithmetic changes, so that old and new runs are not mixed."""


@dataclass(frozen=True)
class Outcome:
    """What one member's training gave: the mean of each term per epoch, cost, and a failure if any.

    `seconds` is the member's share of its population's; `peak_memory` the whole population's, in bytes.
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
    halving: Halving | None = None,
    observe: Callable[[int, Population], None] | None = None,
) -> tuple[Population, list[Outcome]]:
    """Train members together; the outcomes in their order, and the population of those that ended well.

    A member whose loss is no longer a finite number leaves at the end of its epoch, and so does one that
    `halving` stops. `advance` is called with the number of finished steps, of all members together, and
    `observe` after each epoch with the number of epochs and the population, which it leaves as it is.
    """
    started = time.perf_counter()
    if recipe.arithmetic.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(recipe.arithmetic.device)
    population = Population(members, recipe)
    count = len(members)
    del members  # and with them the initial weights, where the caller has let them go
    curves: list[list[dict[str, float]]] = [[] for _ in range(count)]
    failures: list[str | None] = [None] * count
    for epoch in range(recipe.training.epochs):
        sound = []
        for place, means in enumerate(population.epoch(epoch, advance)):
            member = population.order[place]
            curves[member].append({name: v for name, v in means.items() if np.isfinite(v)})
            if len(curves[member][-1]) < len(means):
                failures[member] = f"the loss is not finite in epoch {epoch + 1}"
            else:
                sound.append(place)
        if len(sound) < len(population.members):
            population.keep(sound)
        if halving is not None and epoch + 1 < recipe.training.epochs:
            staying = halving.stay(epoch + 1, population)
            if len(staying) < len(population.members):
                population.keep(staying)
        if not population.members:
            break
        if observe is not None:
            paused = time.perf_counter()
            observe(epoch + 1, population)
            started += time.perf_counter() - paused  # looking is no part of what training costs
    share = (time.perf_counter() - started) / count
    examples, memory = len(recipe.inputs.lengths), _peak_memory(recipe.arithmetic)
    outcomes = [
        Outcome(own, share, examples * len(own) / share, memory, failure)
        for own, failure in zip(curves, failures, strict=True)
    ]
    return population, outcomes


def _peak_memory(arithmetic: Arithmetic) -> int:
    """Bytes: allocated on the GPU since the population began, or resident in this process at its end."""
    if arithmetic.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(arithmetic.device))
    return int(psutil.Process().memory_info().rss)
