"""The grid of PKD's paper on a device: 216 runs in populations, with the seconds of each phase."""

from __future__ import annotations

import argparse
import time
from itertools import product
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.workload import Workload
from harness.models.teacher_outputs import TeacherOutputs
from harness.runtime.device import clock_seconds
from harness.training.population import Population
from harness.training.recipe import Member, Recipe
from harness.training.sizing import population_size

GRID = {
    "temperature": (5.0, 10.0, 20.0),
    "kd_weight": (0.2, 0.5, 0.7),
    "layer_weight": (10.0, 100.0, 500.0, 1000.0),
    "learning_rate": (5e-5, 2e-5, 1e-5),
    "normalised": (True, False),
}
"""216 settings. `normalised` is an option of the method; one population has runs with both values."""
PREDICTED_EXAMPLES = 277
"""The size of RTE's validation split."""
RESERVE = 15.0
"""Seconds before the end at which training stops, for the evaluation."""


class TimeIsUp(Exception):
    """The time for the grid has passed."""


class _Clock:
    """Adds the seconds since the last lap to a phase, after the GPU has finished its work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.phases: dict[str, float] = {}
        self.lap_end = clock_seconds(device)

    def lap(self, phase: str) -> None:
        end = clock_seconds(self.device)
        self.phases[phase] = self.phases.get(phase, 0.0) + end - self.lap_end
        self.lap_end = end


def grid_members(work: Workload) -> list[Member]:
    """The runs of the grid."""
    names, values = zip(*GRID.items(), strict=True)
    return [
        work.member("pkd-skip", 1, **dict(zip(names, setting, strict=True)))
        for setting in product(*values)
    ]


def measure(work: Workload, outputs: TeacherOutputs, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the grid by phase.

    If the time is short, the training stops before `options.end`. `trained_share` is the share of the
    steps that were done. The seconds of populations are then those of the steps and populations that
    were measured, scaled to all.
    """
    recipe = work.recipe(outputs, epochs=options.epochs)
    clock = _Clock(work.arithmetic.device)
    members = grid_members(work)[: options.runs]
    clock.lap("initial weights")
    size = population_size(recipe, members[0])
    clock.lap("population's size")
    populations = [members[first : first + size] for first in range(0, len(members), size)]
    all_steps = len(members) * recipe.schedule().steps_per_epoch * options.epochs
    once = clock.phases
    clock.phases = {}
    done_steps = done_members = 0
    for population in populations:
        steps = _train(population, recipe, clock, options.end - RESERVE)
        done_steps, done_members = done_steps + steps, done_members + len(population)
        if time.time() > options.end - RESERVE:
            break
    phases = {
        phase: seconds
        * (all_steps / done_steps if phase == "training" else len(members) / done_members)
        for phase, seconds in clock.phases.items()
    }
    operations = _operations_of_epoch(members[0], recipe) * options.epochs * len(members)
    examples = options.examples * options.epochs * len(members)
    return {
        "runs": len(members),
        "population": size,
        "precision": work.arithmetic.name,
        "trained_share": done_steps / all_steps,
        "seconds": sum(once.values()) + sum(phases.values()),
        "training_seconds": phases["training"],
        "examples_per_second": examples / phases["training"],
        "operations_per_second": operations / phases["training"],
        "phases": {**once, **phases},
    }


def _train(members: list[Member], recipe: Recipe, clock: _Clock, end: float) -> int:
    """Train a population until `end` at the latest, and predict. Returns the runs' steps done."""
    population = Population(members, recipe)
    clock.lap("populations' making")
    done_steps = 0

    def advance(steps: int) -> None:
        nonlocal done_steps
        done_steps += steps
        if time.time() > end:
            raise TimeIsUp

    try:
        for epoch in range(recipe.training.epochs):
            population.epoch(epoch, advance)
    except TimeIsUp:
        pass
    clock.lap("training")
    shortest_rows = recipe.inputs.lengths.argsort()[:PREDICTED_EXAMPLES]
    population.predict(recipe.inputs.part(shortest_rows), None)
    clock.lap("evaluation")
    return done_steps


def _operations_of_epoch(member: Member, recipe: Recipe) -> float:
    """The operations of one run's products in an epoch, from one batch of each shape."""
    population = Population([member], recipe)
    population.graphs = None  # of which no operation is seen
    counts: dict[tuple[int, int], int] = {}
    total = 0
    for batch in population.schedule.epoch(0, member.seed):
        shape = (len(batch.rows), batch.width)
        if shape not in counts:
            with FlopCounterMode(display=False) as counter:
                rows = torch.from_numpy(np.stack([batch.rows]))
                population.train_batch(rows, batch.width, 0)
            counts[shape] = counter.get_total_flops()
        total += counts[shape]
    return float(total)
