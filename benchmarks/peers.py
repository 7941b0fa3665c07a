"""Examples a second of one student, here and by other tools: `python -m benchmarks.peers [--json]`.

All tools do the same work: data, teacher, student, batch size, dropout, trained parameters, AdamW
with linear warm-up, clipping, and the losses (cross-entropy, distillation of the logits, and the
squared distance of [CLS] states under `pkd-skip`'s map). Before the clock starts, the benchmark
compares the losses of all tools on one batch. Each repeat runs in a process of its own, and the
tools take turns.

The peers are TextBrewer (PyPI `textbrewer`), padded to 128 as in its examples and padded by batch,
and the plain loop of Hugging Face and PyTorch that papers publish. They run the teacher in every
step, in fp32. torchdistill is not a peer: it needs torchvision, whose wheels on PyPI fail beside a
CPU torch.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.loops import (
    Clock,
    harness_loop,
    harness_terms,
    new_student,
    plain_loop,
    plain_terms,
)
from benchmarks.textbrewer_loop import textbrewer, textbrewer_terms
from benchmarks.workload import MAX_LENGTH, Workload, make_workload
from harness.runtime.cpu import hold_memory, set_threads

NAMES = {
    "harness": "this project",
    "textbrewer": "TextBrewer, padded to 128",
    "textbrewer-dynamic": "TextBrewer, padded by batch",
    "plain": "plain loop, padded to 128",
    "plain-dynamic": "plain loop, padded by batch",
}

RUNNERS: dict[str, Callable[[Workload, Path, Clock, int], None]] = {
    "harness": harness_loop,
    "plain": partial(plain_loop, pad_to=MAX_LENGTH),
    "plain-dynamic": partial(plain_loop, pad_to=None),
    "textbrewer": partial(textbrewer, pad_to=MAX_LENGTH),
    "textbrewer-dynamic": partial(textbrewer, pad_to=None),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="minilm", choices=("minilm", "bert-base", "tiny"))
    parser.add_argument("--data", type=Path, help="a folder of GLUE files; else lengths like RTE's")
    parser.add_argument("--task", default="rte")
    parser.add_argument("--examples", type=int, default=2490, help="examples of the data set")
    parser.add_argument("--steps", type=int, default=12, help="timed steps, of all lengths")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=0, help="0: OMP_NUM_THREADS, or the cores")
    parser.add_argument("--peers", default=",".join(NAMES), help="names, by comma")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Compare losses, time all tools, and print the table."""
    options = _parser().parse_args(arguments)
    set_threads(options.threads)
    hold_memory()
    if options.child is not None:
        print(json.dumps(_measure(options.child, options)))
        return 0
    names = _available_peers(options.peers.split(","))
    compare_losses(names, options)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(options.repeats):
        for name in names:
            runs[name].append(_in_a_process(name, options))
    rows = [_row(name, name_runs, runs["harness"]) for name, name_runs in runs.items()]
    result = {"examples": options.examples, "threads": options.threads, "rows": rows}
    if options.json:
        print(json.dumps(result))
    else:
        _show(rows)
    return 0


def _available_peers(names: list[str]) -> list[str]:
    unknown_names = set(names) - set(NAMES)
    if unknown_names:
        raise SystemExit(f"--peers: {min(unknown_names)} is none of {', '.join(NAMES)}")
    try:
        import textbrewer  # noqa: F401
    except ImportError:
        print("TextBrewer is left out: pip install -e '.[bench]'", file=sys.stderr)
        names = [name for name in names if not name.startswith("textbrewer")]
    return ["harness", *(name for name in names if name != "harness")]


def plain_rate(
    shape: str,
    threads: int,
    device: str = "cpu",
    examples: int = 2490,
    batch_size: int = 32,
    steps: int = 6,
) -> float:
    """Examples a second of the plain loop, padded to 128, from a few steps in another process."""
    flags = {"threads": threads, "examples": examples, "batch-size": batch_size, "steps": steps}
    arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    options = _parser().parse_args(["--shape", shape, "--device", device, *arguments])
    result = _in_a_process("plain", options)
    return result["examples"] / result["seconds"]


def _in_a_process(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure in a fresh process, so that peak memory is that of the tool."""
    flags = ["--child", name]
    for key in ("shape", "task", "examples", "steps", "batch_size", "device", "threads", "data"):
        if (value := getattr(options, key)) is not None:
            flags += [f"--{key.replace('_', '-')}", str(value)]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", *flags], check=True, stdout=subprocess.PIPE
    )
    return dict(json.loads(process.stdout.splitlines()[-1]))


def _row(
    name: str, runs: list[dict[str, float]], harness_runs: list[dict[str, float]]
) -> dict[str, float | str]:
    rates = [run["examples"] / run["seconds"] for run in runs]
    harness_rate = median(run["examples"] / run["seconds"] for run in harness_runs)
    return {
        "name": NAMES[name],
        "examples_per_second": median(rates),
        "minimum": min(rates),
        "maximum": max(rates),
        "ratio": harness_rate / median(rates),
        "peak_mebibytes": median(run["peak"] for run in runs) / 2**20,
        "preparation": median(run["preparation"] for run in runs),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(
        "",
        "examples/s",
        "lowest to highest",
        "this project is faster by",
        "peak memory",
        "preparation",
    )
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['examples_per_second']:.1f}",
            f"{row['minimum']:.1f} to {row['maximum']:.1f}",
            f"{row['ratio']:.1f} ×",
            f"{row['peak_mebibytes']:.0f} MiB",
            f"{row['preparation']:.1f} s",
        )
    Console().print(table)
    print(
        "preparation: seconds for the teacher's outputs, computed once for all runs of an ablation"
    )


def _measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Examples and seconds of the steps after the warm-up, and the process's peak memory."""
    work = make_workload(
        options.shape,
        options.examples,
        options.batch_size,
        options.data,
        options.task,
        options.device,
    )
    clock = Clock(work.arithmetic.device)
    with tempfile.TemporaryDirectory() as folder:
        RUNNERS[name](work, Path(folder), clock, options.steps)
        result = clock.result()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if clock.cuda:
        peak = torch.cuda.max_memory_allocated()
    return {**result, "peak": peak}


def compare_losses(names: list[str], options: argparse.Namespace) -> None:
    """Exit unless all tools have the same losses on one batch, without dropout, in fp32."""
    work = make_workload(
        options.shape, 16, 8, options.data, options.task, options.device, precision="fp32"
    )
    rows = np.arange(8)
    with tempfile.TemporaryDirectory() as folder:
        harness_losses = harness_terms(work, Path(folder) / "outputs", rows)
        width = int(work.inputs.lengths[rows].max())
        batch = work.inputs.tokens(work.arithmetic.device).batch(torch.from_numpy(rows), width)
        batch["labels"] = work.labels[torch.from_numpy(rows)].to(work.arithmetic.device)
        student = new_student(work).to(work.arithmetic.device).eval()
        with torch.no_grad():
            losses = {"plain": plain_terms(work, student, batch)}
            if any(name.startswith("textbrewer") for name in names):
                losses["textbrewer"] = textbrewer_terms(work, student, batch, Path(folder))
    for name, terms in losses.items():
        for term, value in harness_losses.items():
            # The cached states have 16 bits.
            tolerance = 1e-4 if term != "layer" else 1e-3
            if abs(float(terms[term]) - value) > tolerance * max(abs(value), 1e-3):
                raise SystemExit(
                    f"{name}: {term} is {float(terms[term]):.6f}, the harness has {value:.6f}"
                )
    print(f"losses on one batch agree: {', '.join(losses)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
