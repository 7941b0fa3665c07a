"""An ablation on a GPU: `python -m benchmarks.gpu [--json]`.

The benchmark trains the grid of PKD's paper: 216 settings for four epochs, on as many examples as
RTE has, with BERT-base shapes and 12 layers to 4. It prints the seconds of each phase, the floor
(the counted operations at the device's rate of matrix products), and the time of a plain loop,
extrapolated from a few steps. Then it prints examples a second by population size, against the
plain loop. The weights are random, because they do not change the speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peers, scale
from benchmarks.workload import SHAPES, Workload, clock_seconds, make_workload
from harness.runtime.cpu import hold_memory, set_threads
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


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="bert-base", choices=sorted(SHAPES))
    parser.add_argument("--examples", type=int, default=2490)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--runs", type=int, default=216, help="runs of the grid")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--members", default="1,2,4,8,16,32,64")
    parser.add_argument("--steps", type=int, default=8, help="steps of the other measurements")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=0, help="0: OMP_NUM_THREADS, or the cores")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    set_threads(options.threads)
    hold_memory()
    result = measure(options)
    if options.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the grid's phases, the floor, the plain loop, and a row for each population size."""
    work = make_workload(options.shape, options.examples, options.batch_size, device=options.device)
    phases: dict[str, float] = {}
    clock = _Clock(work, phases)
    with tempfile.TemporaryDirectory() as folder:
        recipe = work.recipe(work.outputs(Path(folder)), epochs=options.epochs)
        clock.lap("teacher's outputs")
        members = _members(work)[: options.runs]
        clock.lap("initial weights")
        size = population_size(recipe, members[0])
        clock.lap("population's size")
        for first in range(0, len(members), size):
            _train(members[first : first + size], recipe, clock)
        with FlopCounterMode(display=False) as counter:
            Population(members[:1], recipe).epoch(0, lambda steps: None)
        operations = counter.get_total_flops() * options.epochs * len(members)
    products = scale.product_rate(work.arithmetic)
    rate = _plain_rate(options)
    examples = options.examples * options.epochs * len(members)
    sizes = [int(member) for member in options.members.split(",")]
    by_size = scale.measure_sizes(work, sizes, options.steps)
    for row in by_size:
        row["share_of_products"] = row["operations"] / products / row["seconds"]
    on_gpu = work.arithmetic.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "precision": work.arithmetic.name,
        "runs": len(members),
        "population": size,
        "phases": phases,
        "seconds": sum(phases.values()),
        "floor_seconds": operations / products,
        "products_per_second": products,
        "examples_per_second": examples / phases["training"],
        "plain_loop_examples_per_second": rate,
        "plain_loop_seconds": examples / rate,
        "rows": by_size,
    }


class _Clock:
    """Adds the seconds since the last lap to a phase, after the GPU has finished its work."""

    def __init__(self, work: Workload, phases: dict[str, float]) -> None:
        self.device = work.arithmetic.device
        self.phases = phases
        self.lap_end = clock_seconds(self.device)

    def lap(self, phase: str) -> None:
        end = clock_seconds(self.device)
        self.phases[phase] = self.phases.get(phase, 0.0) + end - self.lap_end
        self.lap_end = end


def _members(work: Workload) -> list[Member]:
    names, values = zip(*GRID.items(), strict=True)
    return [
        work.member("pkd-skip", 1, **dict(zip(names, setting, strict=True)))
        for setting in product(*values)
    ]


def _train(members: list[Member], recipe: Recipe, clock: _Clock) -> None:
    """Train one population and predict 277 examples, the size of RTE's validation split."""
    population = Population(members, recipe)
    clock.lap("populations' making")
    for epoch in range(recipe.training.epochs):
        population.epoch(epoch, lambda steps: None)
    clock.lap("training")
    population.predict(recipe.inputs.part(recipe.inputs.lengths.argsort()[:277]), None)
    clock.lap("evaluation")


def _plain_rate(options: argparse.Namespace) -> float:
    """Examples a second of the plain loop on the same device."""
    return peers.plain_rate(
        options.shape,
        options.threads,
        options.device,
        options.examples,
        options.batch_size,
        options.steps,
    )


def _show(result: dict[str, Any]) -> None:
    print(
        f"{result['device']}, {result['precision']}: {result['runs']} runs in populations of "
        f"{result['population']}; products {result['products_per_second'] / 1e12:.1f} T operations/s"
    )
    table = Table("phase", "seconds")
    for phase, seconds in result["phases"].items():
        table.add_row(phase, f"{seconds:.1f}")
    table.add_row("all", f"{result['seconds']:.1f}")
    table.add_row("floor: the products alone", f"{result['floor_seconds']:.1f}")
    table.add_row("plain loop, extrapolated", f"{result['plain_loop_seconds']:.0f}")
    Console().print(table)
    sizes = Table("members", "examples/s", "of the products' rate", "against the plain loop")
    for row in result["rows"]:
        ratio = row["examples_per_second"] / result["plain_loop_examples_per_second"]
        sizes.add_row(
            str(row["members"]),
            f"{row['examples_per_second']:.0f}",
            f"{100 * row['share_of_products']:.0f} %",
            f"{ratio:.1f} ×",
        )
    Console().print(sizes)


if __name__ == "__main__":
    sys.exit(main())
