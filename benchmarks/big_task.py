"""The plan of a large task beside its study: `python -m benchmarks.big_task [--rows N] [--json]`.

The benchmark writes a task of MNLI's form with random words, of MNLI's or QQP's number of rows. It runs
the command twice, each time as a process of its own: with `--dry-run`, and as a study with few runs. It
prints the plan's memory, time and disk beside the study's. The tiny encoder makes all rows affordable;
for MiniLM's shapes take fewer rows (`--encoder minilm --rows 2000`), or `--plan-only`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertModel

from benchmarks.memory import PeakMemory
from harness.demo.encoder import build_tokenizer
from harness.models.checkpoints import locate, tokenizer_of

ROWS, QUICK_ROWS = 392_702, 20_000
"""Training rows of MNLI, and of the quick form."""
EVALUATION_SHARES = {"dev_matched.tsv": 0.02499, "dev_mismatched.tsv": 0.02504}
"""Rows of the evaluation splits as a share of the training rows."""
COLUMNS = (
    *("index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"),
    *("sentence1_parse", "sentence2_parse", "sentence1", "sentence2", "gold_label"),
)
LABELS = ("entailment", "neutral", "contradiction")
LENGTHS = ((20.0, 0.6, 380), (10.8, 0.38, 70))
"""Words of a premise and a hypothesis: median, standard deviation of the logarithm, and most. With the
special tokens the mean is 38 tokens, as for MNLI."""
COMMON_WORDS = 10
"""The r-th most frequent word has a share in proportion to 1 / (r + COMMON_WORDS)."""


@dataclass(frozen=True)
class Measure:
    """A quantity by the plan and by the study; memory and disk in bytes, time in seconds."""

    name: str
    plan: float
    study: float

    @property
    def ratio(self) -> float:
        """The plan's value as a multiple of the study's."""
        return self.plan / self.study


@dataclass(frozen=True)
class Process:
    """What a process printed, its peak of resident memory in bytes, and its seconds."""

    answer: dict[str, Any]
    peak: int
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="training rows")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows")
    parser.add_argument("--encoder", default="tiny", help="tiny, minilm or a folder")
    parser.add_argument("--method", default="kd", help="methods, as for the command")
    parser.add_argument("--trials", type=int, default=2, help="runs of each method in the search")
    parser.add_argument("--plan-only", action="store_true", help="no study")
    parser.add_argument(
        "--folder", type=Path, help="keep data and runs here; else they are removed"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(options, options.folder or Path(scratch))
    if options.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The measures, the peak and the seconds of the dry run, and the number of training rows."""
    rows = QUICK_ROWS if options.quick else options.rows
    encoder = options.encoder
    if encoder == "tiny":
        encoder = str(folder / "encoder")
        write_tiny_encoder(Path(encoder))
    tokenizer = tokenizer_of(locate(encoder, "mnli", folder))
    write_task(folder / "data", rows, tokenizer.get_vocab())
    command = [
        *(sys.executable, "-m", "harness.study", "--preset", "minilm", "--task", "mnli", "--json"),
        *("--data", str(folder / "data"), "--out", str(folder / "runs"), "--allow-weak-teacher"),
        *("--method", options.method, "--baseline", "none", "--trials", str(options.trials)),
        *("--seeds", "1", "protocol.unit=settings", f"teacher.pretrained={encoder}"),
        *("teacher.epochs=1", "training.epochs=1", "threads=1"),
        *(["student.layers=1"] if options.encoder == "tiny" else []),
    ]
    dry_run = run([*command, "--dry-run"])
    (plan,) = dry_run.answer["plan"]
    result = {"rows": rows, "dry_run_peak": dry_run.peak, "dry_run_seconds": dry_run.seconds}
    if options.plan_only:
        return {**result, "plan": plan}
    study = run(command)
    disk = sum(path.stat().st_size for path in (folder / "runs").rglob("*") if path.is_file())
    measures = (
        Measure("memory", plan["memory_bytes"], study.peak),
        Measure("time", plan["seconds"], study.seconds),
        Measure("disk", plan["disk_bytes"], disk),
    )
    return {**result, "measures": [asdict(m) | {"ratio": m.ratio} for m in measures]}


def run(command: Sequence[str]) -> Process:
    """Run a command that prints JSON."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = PeakMemory(process.pid)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    return Process(json.loads(output), int(peak.mebibytes() * 2**20), time.perf_counter() - start)


def write_tiny_encoder(folder: Path) -> None:
    """A random BERT of 2 layers and width 32, with the tokenizer of the demo."""
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)


def write_task(data: Path, rows: int, vocabulary: Sequence[str]) -> None:
    """Files of MNLI's columns and lengths, with random words of a vocabulary and random labels."""
    rng = np.random.default_rng(0)
    words = np.array(sorted(word for word in vocabulary if word.isalpha()), dtype=object)
    rng.shuffle(words)
    limits = np.cumsum(1 / (np.arange(len(words)) + COMMON_WORDS))
    folder = data / "MNLI"
    folder.mkdir(parents=True, exist_ok=True)
    for name, share in {"train.tsv": 1.0, **EVALUATION_SHARES}.items():
        count = round(share * rows)
        lengths = [
            np.clip(rng.lognormal(np.log(median), sigma, count).round(), 1, most).astype(int)
            for median, sigma, most in LENGTHS
        ]
        labels = rng.integers(len(LABELS), size=count)
        with (folder / name).open("w", encoding="utf-8") as file:
            file.write("\t".join(COLUMNS) + "\n")
            for row, (label, *row_lengths) in enumerate(zip(labels, *lengths, strict=True)):
                first, second = (_sentence(rng, words, limits, length) for length in row_lengths)
                parses = [
                    " ".join(f"( {word} )" for word in text.split()) for text in (first, second)
                ]
                trees = [f"(ROOT {parse.replace('(', '(NN')})" for parse in parses]
                cells = (str(row), f"{row}", f"{row}n", "fiction", *parses, *trees, first, second)
                file.write("\t".join((*cells, LABELS[label])) + "\n")


def _sentence(
    rng: np.random.Generator,
    words: npt.NDArray[np.object_],
    limits: npt.NDArray[np.float64],
    length: int,
) -> str:
    return " ".join(words[np.searchsorted(limits, rng.random(length) * limits[-1])])


def _show(result: dict[str, Any]) -> None:
    console = Console()
    console.print(
        f"{result['rows']} rows; dry run: {result['dry_run_peak'] / 1e9:.2f} GB at its peak, "
        f"{result['dry_run_seconds']:.0f} s"
    )
    if "plan" in result:
        console.print(json.dumps(result["plan"], indent=1))
        return
    table = Table("measure", "plan", "study", "ratio")
    units = {"memory": (1e9, "GB"), "time": (1.0, "s"), "disk": (1e6, "MB")}
    for row in result["measures"]:
        scale, unit = units[row["name"]]
        values = (f"{row[side] / scale:.2f} {unit}" for side in ("plan", "study"))
        table.add_row(row["name"], *values, f"{row['ratio']:.2f}")
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
