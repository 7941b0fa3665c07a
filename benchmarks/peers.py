"""Examples a second of one student, here and elsewhere: `python -m benchmarks.peers [--json]`.

The same work by everyone: data, teacher, student, batch size, dropout, trained parameters, AdamW with
linear warm-up, clipping, and the losses: cross-entropy, distillation of the logits, and the squared
distance of [CLS] states of the skipped layers. Before anything is timed, every implementation's losses
on one batch are compared. Each repeat runs in a process of its own, and the repeats are interleaved.

Peers: TextBrewer (PyPI `textbrewer`), padded to 128 as in its examples and padded by batch, and the
plain loop of Hugging Face and PyTorch that papers publish. They run the teacher in every step, in fp32.
torchdistill is not among them: it needs torchvision, and its wheels on PyPI fail beside a CPU torch.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.loops import RUNNERS, Clock, new_student, our_terms, plain_terms, textbrewer_terms
from benchmarks.workload import make_workload
from harness.runtime.cpu import hold_memory, set_threads

NAMES = {
    "harness": "this project",
    "textbrewer": "TextBrewer, padded to 128",
    "textbrewer-dynamic": "TextBrewer, padded by batch",
    "plain": "plain loop, padded to 128",
    "plain-dynamic": "plain loop, padded by batch",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="minilm", choices=("minilm", "bert-base", "tiny"))
    parser.add_argument("--data", type=Path, help="a folder of GLUE files; else lengths like RTE's")
    parser.add_argument("--task", default="rte")
    parser.add_argument("--examples", type=int, default=2490, help="of the data set")
    parser.add_argument("--steps", type=int, default=12, help="that are timed, of all lengths")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=0, help="0: the cores")
    parser.add_argument("--peers", default=",".join(NAMES), help="which ones, by comma")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Compare losses, time everyone, and print the table."""
    asked = _parser().parse_args(arguments)
    set_threads(asked.threads)
    hold_memory()
    if asked.child is not None:
        print(json.dumps(_measure(asked.child, asked)))
        return 0
    names = _available(asked.peers.split(","))
    compare_losses(names, asked)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(asked.repeats):
        for name in names:
            runs[name].append(_in_a_process(name, asked))
    rows = [_row(name, found, runs["harness"]) for name, found in runs.items()]
    result = {"examples": asked.examples, "threads": asked.threads, "rows": rows}
    if asked.json:
        print(json.dumps(result))
    else:
        _show(rows)
    return 0


def _available(names: list[str]) -> list[str]:
    unknown = set(names) - set(NAMES)
    if unknown:
        raise SystemExit(f"--peers: {min(unknown)} is none of {', '.join(NAMES)}")
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
    """Examples a second of the plain loop, padded to 128, from a few steps in a process of its own."""
    flags = {"threads": threads, "examples": examples, "batch-size": batch_size, "steps": steps}
    given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    asked = _parser().parse_args(["--shape", shape, "--device", device, *given])
    found = _in_a_process("plain", asked)
    return found["examples"] / found["seconds"]


def _in_a_process(name: str, asked: argparse.Namespace) -> dict[str, float]:
    """Measure in a fresh process, whose peak memory is then its own."""
    flags = ["--child", name]
    for key in ("shape", "task", "examples", "steps", "batch_size", "device", "threads", "data"):
        if (value := getattr(asked, key)) is not None:
            flags += [f"--{key.replace('_', '-')}", str(value)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", *flags], check=True, stdout=subprocess.PIPE
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _row(
    name: str, found: list[dict[str, float]], ours: list[dict[str, float]]
) -> dict[str, float | str]:
    rates = [run["examples"] / run["seconds"] for run in found]
    own = median(run["examples"] / run["seconds"] for run in ours)
    return {
        "name": NAMES[name],
        "examples_per_second": median(rates),
        "least": min(rates),
        "most": max(rates),
        "ratio": own / median(rates),
        "peak_mebibytes": median(run["peak"] for run in found) / 2**20,
        "once": median(run["once"] for run in found),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table("", "examples/s", "lowest to highest", "ours is faster by", "peak memory", "once")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['examples_per_second']:.1f}",
            f"{row['least']:.1f} to {row['most']:.1f}",
            f"{row['ratio']:.1f} ×",
            f"{row['peak_mebibytes']:.0f} MiB",
            f"{row['once']:.1f} s",
        )
    Console().print(table)
    print("once: seconds for the teacher's outputs, computed once for all runs of an ablation")


def _measure(name: str, asked: argparse.Namespace) -> dict[str, float]:
    """Seconds for the steps after the first few, and the process's peak memory."""
    work = make_workload(
        asked.shape, asked.examples, asked.batch_size, asked.data, asked.task, asked.device
    )
    clock = Clock(work.arithmetic.device)
    with tempfile.TemporaryDirectory() as folder:
        RUNNERS[name](work, Path(folder), clock, asked.steps)
        result = clock.result()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if clock.cuda:
        peak = torch.cuda.max_memory_allocated()
    return {**result, "peak": peak}


def compare_losses(names: list[str], asked: argparse.Namespace) -> None:
    """Stop unless all compute the same losses on the same batch, without dropout, in fp32."""
    work = make_workload(asked.shape, 16, 8, asked.data, asked.task, asked.device, precision="fp32")
    rows = np.arange(8)
    with tempfile.TemporaryDirectory() as folder:
        expected = our_terms(work, Path(folder) / "outputs", rows)
        width = int(work.inputs.lengths[rows].max())
        batch = work.inputs.tokens(work.arithmetic.device).batch(torch.from_numpy(rows), width)
        batch["labels"] = work.labels[torch.from_numpy(rows)].to(work.arithmetic.device)
        student = new_student(work).to(work.arithmetic.device).eval()
        with torch.no_grad():
            found = {"plain": plain_terms(work, student, batch)}
            if any(name.startswith("textbrewer") for name in names):
                found["textbrewer"] = textbrewer_terms(work, student, batch, Path(folder))
    for name, terms in found.items():
        for term, value in expected.items():
            # The cached states are in 16 bits.
            tolerance = 1e-4 if term != "layer" else 1e-3
            if abs(float(terms[term]) - value) > tolerance * max(abs(value), 1e-3):
                raise SystemExit(f"{name}: {term} is {float(terms[term]):.6f}, ours {value:.6f}")
    print(f"losses on one batch agree: {', '.join(found)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
