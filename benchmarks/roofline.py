"""A model of a training step's time on a GPU: `python -m benchmarks.roofline [--members 1,8,64]`.

The benchmark counts the bytes that each operation of a step reads and writes, and the operations of its
products. An operation takes the bytes at the rate of memory or the products at their rate, whichever is
longer. The rates are those of an H200. No time is measured, so any device will do: on a CPU the counts
are those of the plain operations, on a GPU those of the kernels, or with `--plain` of the plain ones.

`--grid` models the training of PKD's grid instead: the batches of four epochs on as many examples as RTE
has, each at its own padded length, in populations of `--members` runs, and the predictions at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter as Counted
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.gpu import EPOCHS, EXAMPLES
from benchmarks.gpu_grid import PREDICTED_EXAMPLES, grid_members
from benchmarks.workload import SHAPES, Workload, make_workload
from harness.kernels.support import forbid_kernels, has_kernels
from harness.models.teacher_outputs import TeacherOutputs
from harness.runtime.operations import OperationCounter, moved_bytes, tensors_in
from harness.training.population import Population

MEMORY_RATE = 4.3e12
"""Bytes a second of an H200's memory."""
PRODUCT_RATE = 790e12
"""bf16 operations a second of an H200's products."""


@dataclass
class Counter(OperationCounter):
    """Counts operations, and the seconds that the model gives them by name."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, name: str, moved: float, operations: float = 0.0) -> None:
        """Count an operation: it takes as long as its bytes or its products, whichever is longer."""
        super().add(name, moved, operations)
        self.seconds[name] += max(moved / MEMORY_RATE, operations / PRODUCT_RATE)


@contextmanager
def count_kernels(counter: Counter) -> Iterator[None]:
    """Count the kernels that run in the context: each reads or writes its tensors once.

    An update reads weights and both moments, and writes them.
    """
    from triton.runtime import JITFunction

    run = JITFunction.run

    def counted_run(self: Any, *arguments: Any, **options: Any) -> Any:
        name = f"{self.__module__.rsplit('.')[-1]}{self.__name__}"
        moved = sum(moved_bytes(tensor) for tensor in tensors_in([*arguments, *options.values()]))
        if name == "adamw_update":
            weights, _, means, squares, *_ = arguments
            moved += sum(map(moved_bytes, (weights, means, squares)))
        counter.add(name, moved)
        return run(self, *arguments, **options)

    JITFunction.run = counted_run
    try:
        yield
    finally:
        JITFunction.run = run


def count_step(population: Population, rows: int, width: int) -> dict[str, dict[str, float]]:
    """The counts of one step of a population, on its first examples, padded to a width.

    For each operation: `calls`, bytes `moved`, `operations` of products, and modelled `seconds`.
    """
    members = len(population.members)
    population.graphs = None  # of which no operation is seen
    examples = torch.arange(rows).expand(members, -1)
    population.train_batch(examples, width, 0)  # makes what later steps find
    with counted(population) as counter:
        population.train_batch(examples, width, 0)
    return {
        name: vars(count) | {"seconds": counter.seconds[name]}
        for name, count in counter.counts.items()
    }


@contextmanager
def counted(population: Population) -> Iterator[Counter]:
    """Count what runs in the context: operations, and kernels where the population uses them."""
    counter = Counter()
    kernels = count_kernels(counter) if has_kernels(population.device) else nullcontext()
    with kernels, counter:
        yield counter


def grid_seconds(work: Workload, outputs: TeacherOutputs, size: int) -> dict[str, float]:
    """Modelled seconds of the grid by phase, if its runs train in populations of `size`."""
    recipe, runs = work.recipe(outputs, epochs=EPOCHS), grid_members(work)
    population = Population(runs[:size], recipe)
    epoch = list(population.schedule.epoch(0, population.members[0].seed))
    shapes = Counted((len(batch.rows), batch.width) for batch in epoch)
    steps = sum(
        number * sum(count["seconds"] for count in count_step(population, rows, width).values())
        for (rows, width), number in shapes.items()
    )
    shortest = recipe.inputs.lengths.argsort()[:PREDICTED_EXAMPLES]
    with counted(population) as counter:
        population.predict(recipe.inputs.part(shortest), None)
    populations = len(runs) / len(population.members)
    return {
        "training": populations * EPOCHS * steps,
        "evaluation": populations * sum(counter.seconds.values()),
    }


def main(arguments: list[str] | None = None) -> int:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="bert-base", choices=sorted(SHAPES))
    parser.add_argument("--members", default="1,8")
    parser.add_argument("--method", default="pkd-skip")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--width", type=int, default=72)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--plain", action="store_true", help="no kernels")
    parser.add_argument("--grid", action="store_true", help="the seconds of PKD's grid")
    parser.add_argument(
        "--examples", type=int, default=EXAMPLES, help="training examples of the grid"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.plain:
        forbid_kernels()
    work = make_workload(
        options.shape,
        options.examples if options.grid else 2 * options.batch_size,
        options.batch_size,
        None,
        "rte",
        options.device,
        "bf16",
    )
    sizes = [int(size) for size in options.members.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        outputs = work.outputs(Path(folder)).to_device(work.arithmetic.device)
        if options.grid:
            grids = {size: grid_seconds(work, outputs, size) for size in sizes}
            _show_grid(grids, options.json)
            return 0
        results = {size: _step(work, outputs, size, options) for size in sizes}
    if options.json:
        print(json.dumps(results))
    else:
        for size, counts in results.items():
            _show(size, counts)
    return 0


def _step(
    work: Workload, outputs: TeacherOutputs, size: int, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    members = [work.member(options.method, seed) for seed in range(size)]
    population = Population(members, work.recipe(outputs, epochs=2))
    return count_step(population, options.batch_size, options.width)


def _show_grid(grids: Mapping[int, Mapping[str, float]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(grids))
        return
    table = Table("members", "training, s", "evaluation, s", title="PKD's grid, modelled")
    for size, phases in grids.items():
        table.add_row(str(size), *(f"{seconds:.1f}" for seconds in phases.values()))
    Console().print(table)


def _show(members: int, counts: dict[str, dict[str, float]]) -> None:
    seconds, operations, calls, moved = (
        sum(count[name] for count in counts.values())
        for name in ("seconds", "operations", "calls", "moved")
    )
    share = operations / PRODUCT_RATE / seconds
    title = (
        f"{members} member(s): {calls} operations, {moved / 1e9:.1f} GB, "
        f"modelled {1e3 * seconds:.1f} ms, {100 * share:.0f} % of the products' rate"
    )
    table = Table("operation", "calls", "GB", "modelled ms", title=title)
    for name, count in sorted(counts.items(), key=lambda item: -item[1]["seconds"])[:25]:
        table.add_row(
            name,
            str(count["calls"]),
            f"{count['moved'] / 1e9:.2f}",
            f"{1e3 * count['seconds']:.2f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
