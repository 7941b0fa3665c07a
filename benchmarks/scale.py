"""What an ablation costs against its size, and against the floor: `python -m benchmarks.scale [--json]`.

Steps of populations of 1, 2, 4, ... members; of twice and four times the examples in a step; of
students of several depths; of one method and of all together. The floor is the arithmetic: the
products' operations, counted by torch, over the machine's own rate of such products in the same
precision, measured here; and the bytes that the optimiser must move over the machine's own copy rate.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
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

from benchmarks.workload import Workload, batches_of_all_lengths, make_workload, now
from harness.config import StudentConfig
from harness.method import View
from harness.models.student import Blueprint
from harness.models.teacher_outputs import TeacherOutputs
from harness.registry.discovery import registry
from harness.runtime.cpu import hold_memory, set_threads
from harness.runtime.device import Arithmetic
from harness.training.population import Population
from harness.training.recipe import Member

ADAM_BYTES = 28
"""Of a trained number, in a step: its weight, gradient and two moments read; three of them written."""
PRODUCT_SIZES = ((1024, 1024, 1024), (2048, 2048, 2048), (2048, 384, 1536), (2048, 768, 3072))


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="minilm", choices=("minilm", "bert-base", "tiny"))
    parser.add_argument("--data", type=Path, help="a folder of GLUE files; else lengths like RTE's")
    parser.add_argument("--task", default="rte")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--members", default="1,2,4,8")
    parser.add_argument("--steps", type=int, default=8, help="timed of each population")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp32"))
    parser.add_argument("--threads", type=int, default=0, help="0: the cores")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    set_threads(asked.threads)
    hold_memory()
    sizes = [int(size) for size in asked.members.split(",")]
    result = measure(asked, sizes)
    if asked.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0


def measure(asked: argparse.Namespace, sizes: list[int]) -> dict[str, Any]:
    """All rows; rates of products (operations a second) and copies (bytes a second)."""
    work = make_workload(
        asked.shape,
        4 * asked.batch_size * asked.steps,
        asked.batch_size,
        asked.data,
        asked.task,
        asked.device,
        asked.precision,
    )
    products, copies = product_rate(work.arithmetic), copy_rate(work.arithmetic)
    # Those with one view: only they train together.
    names = [name for name, kind in registry().methods.items() if kind.view("cls") == View("cls")]
    alike = [_alp(work, seed) for seed in range(max(*sizes, len(names)))]
    with tempfile.TemporaryDirectory() as folder:
        outputs = work.outputs(Path(folder))
        time_of = partial(_row, outputs=outputs, steps=asked.steps)
        rows = [time_of(f"{size} members", work, alike[:size]) for size in sizes]
        for factor in (2, 4):
            larger = replace(work, batch_size=asked.batch_size * factor)
            rows.append(time_of(f"batch × {factor}", larger, alike[:1]))
        for layers in sorted({1, 2, work.layers, int(work.teacher.config.num_hidden_layers)}):
            deeper = replace(work, blueprint=Blueprint(work.teacher, StudentConfig(layers=layers)))
            rows.append(time_of(f"{layers} layers", deeper, [_alp(deeper, 1)]))
        rows.append(time_of(f"{len(names)} × alp", work, alike[: len(names)]))
        mixed = [work.member(name, seed) for seed, name in enumerate(names)]
        rows.append(time_of(f"{len(names)} methods", work, mixed))
    for row in rows:
        row["floor_seconds"] = row["operations"] / products
        row["share_of_products"] = row["floor_seconds"] / row["seconds"]
        row["optimiser_floor_seconds"] = ADAM_BYTES * row["trained"] / copies
    device = work.arithmetic.device
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "device": named,
        "precision": work.arithmetic.name,
        "threads": torch.get_num_threads(),
        "products_per_second": products,
        "copied_bytes_per_second": copies,
        "rows": rows,
    }


def measure_sizes(work: Workload, sizes: list[int], steps: int) -> list[dict[str, Any]]:
    """A row for each population size, of members of `alp`."""
    alike = [_alp(work, seed) for seed in range(max(sizes))]
    with tempfile.TemporaryDirectory() as folder:
        outputs = work.outputs(Path(folder))
        return [_row(f"{size} members", work, alike[:size], outputs, steps) for size in sizes]


def _alp(work: Workload, seed: int) -> Member:
    return work.member("alp", seed)


def _row(
    label: str, work: Workload, members: list[Member], outputs: TeacherOutputs, steps: int
) -> dict[str, Any]:
    """Seconds of a population's steps (median of three), and its products and trained numbers."""
    population = Population(members, work.recipe(outputs, epochs=3))
    batches = batches_of_all_lengths(population, steps)
    epoch = torch.tensor(0, device=work.arithmetic.device)

    def run() -> None:
        for batch in batches:
            rows = torch.from_numpy(np.stack([batch.rows] * len(members)))
            population.train_batch(rows, batch.width, epoch)

    with FlopCounterMode(display=False) as counted:  # and warms up
        run()
    taken = median(_seconds(work.arithmetic, run) for _ in range(3))
    examples = sum(len(batch.rows) for batch in batches) * len(members)
    trained = sum(leaf.tensor.numel() for leaf in population.network.leaves())
    return {
        "label": label,
        "members": len(members),
        "seconds": taken,
        "examples_per_second": examples / taken,
        "operations": counted.get_total_flops(),
        "trained": len(batches) * trained,
    }


def _seconds(arithmetic: Arithmetic, work: Callable[[], object]) -> float:
    started = now(arithmetic.device)
    work()
    return now(arithmetic.device) - started


def product_rate(arithmetic: Arithmetic) -> float:
    """Operations a second of this machine's best matrix product, of a few sizes."""
    dtype = torch.bfloat16 if arithmetic.bf16 else torch.float32
    rates = []
    for rows, inner, columns in PRODUCT_SIZES:
        left = torch.randn(rows, inner, device=arithmetic.device, dtype=dtype)
        right = torch.randn(columns, inner, device=arithmetic.device, dtype=dtype)

        def products(left: torch.Tensor = left, right: torch.Tensor = right) -> None:
            for _ in range(10):
                torch.nn.functional.linear(left, right)

        products()
        taken = min(_seconds(arithmetic, products) for _ in range(5))
        rates.append(10 * 2 * rows * inner * columns / taken)
    return max(rates)


def copy_rate(arithmetic: Arithmetic) -> float:
    """Bytes a second, read and written, of a copy that no cache holds."""
    source = torch.ones(64 * 2**20, device=arithmetic.device)
    target = torch.empty_like(source)
    target.copy_(source)
    taken = min(_seconds(arithmetic, lambda: target.copy_(source)) for _ in range(5))
    return 2 * source.nbytes / taken


def _show(result: dict[str, Any]) -> None:
    print(
        f"{result['device']}, {result['precision']}, {result['threads']} threads: products "
        f"{result['products_per_second'] / 1e12:.2f} T operations/s, copies "
        f"{result['copied_bytes_per_second'] / 1e9:.1f} GB/s"
    )
    table = Table(
        "population", "examples/s", "by member", "of the products' rate", "optimiser's floor"
    )
    alone = result["rows"][0]["examples_per_second"]
    for row in result["rows"]:
        table.add_row(
            row["label"],
            f"{row['examples_per_second']:.0f} ({row['examples_per_second'] / alone:.2f} ×)",
            f"{row['examples_per_second'] / row['members']:.1f}",
            f"{100 * row['share_of_products']:.0f} %",
            f"{100 * row['optimiser_floor_seconds'] / row['seconds']:.0f} % of its time",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
