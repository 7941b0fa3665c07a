"""The time of training steps by population size, against a floor: `python -m benchmarks.scale [--json]`.

The benchmark times steps of populations of 1, 2, 4, ... members, with two and four times the
examples in a step, with students of several depths, and with one method or all methods together.
The floor is the arithmetic: the operations of the matrix products, counted by torch, over the
machine's rate of products in the same precision; and the bytes that the optimiser moves over the
machine's rate of copies. The benchmark measures both rates.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.workload import Workload, batches_of_all_lengths, make_workload
from harness.config import StudentConfig
from harness.method import View
from harness.models.student import Blueprint
from harness.models.teacher_outputs import TeacherOutputs
from harness.registry.discovery import registry
from harness.runtime.cpu import hold_memory, set_threads
from harness.runtime.device import Arithmetic, clock_seconds
from harness.training.population import Population
from harness.training.recipe import Member

ADAM_BYTES = 28
"""Bytes for each trained number in a step: the optimiser reads the weight, the gradient and two
moments, and writes three of them."""
PRODUCT_SIZES = ((1024, 1024, 1024), (2048, 2048, 2048), (2048, 384, 1536), (2048, 768, 3072))


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="minilm", choices=("minilm", "bert-base", "tiny"))
    parser.add_argument("--data", type=Path, help="a folder of GLUE files; else lengths like RTE's")
    parser.add_argument("--task", default="rte")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--members", default="1,2,4,8")
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each population")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp32"))
    parser.add_argument("--threads", type=int, default=0, help="0: OMP_NUM_THREADS, or the cores")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    set_threads(options.threads)
    hold_memory()
    sizes = [int(size) for size in options.members.split(",")]
    result = measure(options, sizes)
    if options.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0


def measure(options: argparse.Namespace, sizes: list[int]) -> dict[str, Any]:
    """The rows, and the rates of products (operations a second) and of copies (bytes a second)."""
    work = make_workload(
        options.shape,
        4 * options.batch_size * options.steps,
        options.batch_size,
        options.data,
        options.task,
        options.device,
        options.precision,
    )
    products, copies = product_rate(work.arithmetic), copy_rate(work.arithmetic)
    # Methods with the same view train together.
    names = [name for name, kind in registry().methods.items() if kind.view("cls") == View("cls")]
    alp_members = [_alp(work, seed) for seed in range(max(*sizes, len(names)))]
    with tempfile.TemporaryDirectory() as folder:
        outputs = work.outputs(Path(folder))
        time_of = partial(_row, outputs=outputs, steps=options.steps)
        rows = [time_of(f"{size} members", work, alp_members[:size]) for size in sizes]
        for factor in (2, 4):
            workload = replace(work, batch_size=options.batch_size * factor)
            rows.append(time_of(f"batch × {factor}", workload, alp_members[:1]))
        for layers in sorted({1, 2, work.layers, int(work.teacher.config.num_hidden_layers)}):
            workload = replace(
                work, blueprint=Blueprint(work.teacher, StudentConfig(layers=layers))
            )
            rows.append(time_of(f"{layers} layers", workload, [_alp(workload, 1)]))
        rows.append(time_of(f"{len(names)} × alp", work, alp_members[: len(names)]))
        method_members = [work.member(name, seed) for seed, name in enumerate(names)]
        rows.append(time_of(f"{len(names)} methods", work, method_members))
    for row in rows:
        row["floor_seconds"] = row["operations"] / products
        row["share_of_products"] = row["floor_seconds"] / row["seconds"]
        row["optimiser_floor_seconds"] = ADAM_BYTES * row["trained"] / copies
    device = work.arithmetic.device
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "device": device_name,
        "precision": work.arithmetic.name,
        "threads": torch.get_num_threads(),
        "products_per_second": products,
        "copied_bytes_per_second": copies,
        "rows": rows,
    }


def _alp(work: Workload, seed: int) -> Member:
    return work.member("alp", seed)


def _row(
    label: str, work: Workload, members: list[Member], outputs: TeacherOutputs, steps: int
) -> dict[str, Any]:
    """Seconds of a population's steps (median of three), its operations and its trained numbers."""
    population = Population(members, work.recipe(outputs, epochs=3))
    batches = batches_of_all_lengths(population, steps)

    def run() -> None:
        for batch in batches:
            rows = torch.from_numpy(np.stack([batch.rows] * len(members)))
            population.train_batch(rows, batch.width, 0)

    graphs, population.graphs = population.graphs, None  # a counter sees no operation of a graph
    with FlopCounterMode(display=False) as counter:  # the run also warms up
        run()
    population.graphs = graphs
    seconds = median(_seconds(work.arithmetic, run) for _ in range(3))
    examples = sum(len(batch.rows) for batch in batches) * len(members)
    parameters = sum(leaf.tensor.numel() for leaf in population.network.leaves())
    return {
        "label": label,
        "members": len(members),
        "seconds": seconds,
        "examples_per_second": examples / seconds,
        "operations": counter.get_total_flops(),
        "trained": len(batches) * parameters,
    }


def _seconds(arithmetic: Arithmetic, work: Callable[[], object]) -> float:
    start = clock_seconds(arithmetic.device)
    work()
    return clock_seconds(arithmetic.device) - start


def product_rate(
    arithmetic: Arithmetic, sizes: Sequence[tuple[int, int, int]] = PRODUCT_SIZES
) -> float:
    """Operations a second of the fastest matrix product among some sizes (rows, depth, columns)."""
    dtype = torch.bfloat16 if arithmetic.bf16 else torch.float32
    rates = []
    for rows, depth, columns in sizes:
        left_matrix = torch.randn(rows, depth, device=arithmetic.device, dtype=dtype)
        right_matrix = torch.randn(columns, depth, device=arithmetic.device, dtype=dtype)

        def products(
            left_matrix: torch.Tensor = left_matrix, right_matrix: torch.Tensor = right_matrix
        ) -> None:
            for _ in range(10):
                torch.nn.functional.linear(left_matrix, right_matrix)

        products()
        seconds = min(_seconds(arithmetic, products) for _ in range(5))
        rates.append(10 * 2 * rows * depth * columns / seconds)
    return max(rates)


def copy_rate(arithmetic: Arithmetic, numbers: int = 64 * 2**20) -> float:
    """Bytes a second, read and written, of a copy of fp32 numbers that are larger than any cache."""
    source = torch.ones(numbers, device=arithmetic.device)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = min(_seconds(arithmetic, lambda: target.copy_(source)) for _ in range(5))
    return 2 * source.nbytes / seconds


def _show(result: dict[str, Any]) -> None:
    print(
        f"{result['device']}, {result['precision']}, {result['threads']} threads: products "
        f"{result['products_per_second'] / 1e12:.2f} T operations/s, copies "
        f"{result['copied_bytes_per_second'] / 1e9:.1f} GB/s"
    )
    table = Table(
        "population", "examples/s", "by member", "of the products' rate", "optimiser's floor"
    )
    single_rate = result["rows"][0]["examples_per_second"]
    for row in result["rows"]:
        table.add_row(
            row["label"],
            f"{row['examples_per_second']:.0f} ({row['examples_per_second'] / single_rate:.2f} ×)",
            f"{row['examples_per_second'] / row['members']:.1f}",
            f"{100 * row['share_of_products']:.0f} %",
            f"{100 * row['optimiser_floor_seconds'] / row['seconds']:.0f} % of its time",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
