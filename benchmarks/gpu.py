"""All measurements of a GPU in one call: `python -m benchmarks.gpu [--minutes 8] [--out gpu.json]`.

The rows, in this order: the machine's rates of products, copies and launches; losses and gradients
against float64 on the CPU; steps of populations of 1 to 64 students; steps with and without CUDA
graphs; the plain loop of papers in three precisions; TextBrewer, if it is installed; the grid of PKD's
paper, 216 runs for four epochs on as many examples as RTE has. The weights are random, because they do
not change the speed.

A process of its own measures the rows. Each row is printed, and written to `--out`, as it ends. A row
that fails, or takes its process with it, does not stop the rows after it; the exit code is 1 then. A
row that does not fit into memory or into `--minutes` is skipped, and its reason is written.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu_record import Record

PRECISIONS = ("bf16", "tf32", "fp32")
KINDS = (
    *("products", "copies", "launches", "float64", "members", "graphs"),
    *("plain", "textbrewer", "grid"),
)
GRAPH_MEMBERS = (1, 8)
EXAMPLES, EPOCHS = 2490, 4
"""Training examples, as many as RTE has, and the epochs of a run of the grid."""


def parser() -> argparse.ArgumentParser:
    """The options, for both processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="bert-base", choices=("bert-base", "minilm", "tiny"))
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of the grid")
    parser.add_argument("--runs", type=int, default=216, help="runs of the grid")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--members", default="1,2,4,8,16,32,64")
    parser.add_argument("--steps", type=int, default=8, help="steps of the other measurements")
    parser.add_argument("--rows", default=",".join(KINDS), help="kinds of rows, by comma")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=0, help="0: OMP_NUM_THREADS, or the cores")
    parser.add_argument("--minutes", type=float, default=8.0, help="the longest time of all rows")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--end", type=float, help=argparse.SUPPRESS)
    return parser


def row_names(options: argparse.Namespace) -> list[str]:
    """The names of the rows in their order; the first word is the kind."""
    members = [f"members {int(size)}" for size in options.members.split(",")]
    names = [
        *(f"products {precision}" for precision in PRECISIONS),
        "copies",
        "launches",
        *(f"float64 {precision}" for precision in PRECISIONS),
        *members,
        *(f"graphs {size}" for size in GRAPH_MEMBERS),
        *(f"plain {precision}" for precision in PRECISIONS),
        "textbrewer",
        "grid",
    ]
    kinds = options.rows.split(",")
    if unknown_kinds := set(kinds) - set(KINDS):
        raise SystemExit(f"--rows: {min(unknown_kinds)} is none of {', '.join(KINDS)}")
    return [name for name in names if name.split()[0] in kinds]


def main(arguments: list[str] | None = None) -> int:
    """Measure all rows. Returns 1 if a row failed."""
    options = parser().parse_args(arguments)
    names = row_names(options)
    end = time.time() + 60 * options.minutes
    record = Record.begin(options.out, vars(options))
    flags = sys.argv[1:] if arguments is None else arguments
    command = [sys.executable, "-m", "benchmarks.gpu_rows", *flags, "--end", str(end)]
    while missing_names := record.missing(names):
        code = _wait(subprocess.Popen(command), end)
        record = Record.read(options.out)
        if time.time() >= end:
            record.end_all(names, {"status": "skipped", "reason": "time"})
        elif record.open_row is not None:
            record.end_row({"status": "failed", "error": f"its process ended with code {code}"})
        elif record.missing(names) == missing_names:
            print(f"no row was begun: the process ended with code {code}", file=sys.stderr)
            return 1
    return int(any(row["status"] == "failed" for row in record.rows))


def _wait(process: subprocess.Popen[bytes], end: float) -> int | None:
    """The process's exit code; None if the process had to be killed at `end`."""
    try:
        return process.wait(max(0.0, end - time.time()))
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
