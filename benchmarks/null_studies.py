"""Studies of a method against itself: `python -m benchmarks.null_studies [--json]`.

The benchmark trains one demo method over a pool of report seeds, by the command, and draws studies
from the pool. In a study two names stand for methods and get disjoint seeds. The ordinary code
reads the ledger. Every "better" or "worse" is an error. The number of errors in S studies at the
level alpha may not exceed the upper 0.1 % point of the binomial distribution; otherwise the exit
code is 1. The studies share the pool, so they are not independent, and the point is a little too
low for many studies.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

from harness.analysis.compare import summarise
from harness.runtime.progress import progress, say
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.manifest import Contrast, Manifest, StudyManifest
from harness.storage.record import Result, StudyRun
from harness.study import main as study

SIDES = ("one half", "other half")
Stopping = Literal["fixed", "sequential"]
QUANTILE = 0.999
"""Quantile of the binomial distribution that the number of errors may reach."""


def main(arguments: list[str] | None = None) -> int:
    """Train the pool, draw the studies, count the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="kd")
    parser.add_argument("--task", default="rte")
    parser.add_argument("--pool", type=int, default=60, help="report seeds to train")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10, help="seeds of each side")
    parser.add_argument("--max-seeds", type=int, default=20, help="maximum with `--seeds auto`")
    parser.add_argument("--out", type=Path, help="runs folder that keeps the pool")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="overrides of the command"
    )
    options = parser.parse_args(arguments)
    if 2 * max(options.seeds, options.max_seeds) > options.pool:
        seeds = max(options.seeds, options.max_seeds)
        say(f"--pool: {options.pool} seeds are fewer than twice {seeds}")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        runs_folder = options.out or Path(scratch) / "runs"
        ledger, ablation = _pool(options, runs_folder)
        study_ledger = Ledger(storage_url(Path(scratch), None))
        designs: list[tuple[int, Stopping]] = [
            (options.seeds, "fixed"),
            (options.max_seeds, "sequential"),
        ]
        rows = [
            _verdicts(ledger, ablation, study_ledger, options.studies, seeds, stopping)
            for seeds, stopping in designs
        ]
        study_ledger.close()
        ledger.close()
    if options.json:
        print(json.dumps({"pool": options.pool, "rows": rows}))
    else:
        _show(rows)
    return 1 if any(row["errors"] > row["tolerated"] for row in rows) else 0


def _pool(options: argparse.Namespace, runs_folder: Path) -> tuple[Ledger, str]:
    """The ledger with the runs of the pool, and the ablation's name."""
    words = f"--preset demo --method {options.method} --task {options.task} --trials 4".split()
    words += [
        "protocol.unit=settings",
        "--baseline",
        "none",
        "--seeds",
        str(options.pool),
        "--json",
    ]
    words += ["--out", str(runs_folder)]
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = study([*words, *options.overrides])
    if code:
        raise SystemExit(f"the pool's command ended with exit code {code}")
    return Ledger(storage_url(runs_folder, None)), str(json.loads(output.getvalue())["ablation"])


def _verdicts(
    pool: Ledger, ablation: str, study_ledger: Ledger, studies: int, seeds: int, stopping: Stopping
) -> dict[str, Any]:
    """Count the verdicts of studies that are drawn from the pool and written to `study_ledger`."""
    manifest = pool.manifest(ablation)
    (result,) = summarise(pool, ablation).results
    runs = [run for run in result.report if run.record.status == "complete"]
    if len(runs) < 2 * seeds:
        raise SystemExit(f"only {len(runs)} runs of the pool are complete")
    split = runs[0].record.inputs.split.name
    for run in (*runs, *result.search):
        predictions = pool.predictions(run.record.fingerprint, split)
        study_ledger.write_runs(
            [Result(run.record, {} if predictions is None else {split: predictions}, {})]
        )
    generator = np.random.default_rng(0)
    outcomes: Counter[str] = Counter()
    pairs = []
    with progress(f"{studies} studies, {stopping}", studies) as advance:
        for number in range(studies):
            halves = _draw(runs, seeds, generator)
            name = f"{stopping}-{number}"
            _write_study(study_ledger, name, manifest, halves, result.search, stopping)
            (comparison,) = summarise(study_ledger, name).comparisons
            outcomes[comparison.verdict.outcome] += 1
            pairs.append(comparison.difference.n)
            advance(1)
    errors = outcomes["better"] + outcomes["worse"]
    alpha = manifest.alpha
    return {
        "seeds": seeds,
        "stopping": stopping,
        "studies": studies,
        "errors": errors,
        "tolerated": int(binom.ppf(QUANTILE, studies, alpha)),
        "outcomes": dict(outcomes),
        "mean_pairs": float(np.mean(pairs)),
    }


def _draw(
    runs: Sequence[StudyRun], seeds: int, generator: np.random.Generator
) -> tuple[list[StudyRun], list[StudyRun]]:
    """`seeds` runs for each side, without a common run."""
    order = generator.permutation(len(runs))
    return [runs[i] for i in order[:seeds]], [runs[i] for i in order[seeds : 2 * seeds]]


def _write_study(
    ledger: Ledger,
    name: str,
    manifest: Manifest,
    halves: Sequence[Sequence[StudyRun]],
    search: Sequence[StudyRun],
    stopping: Stopping,
) -> None:
    (task,) = manifest.studies
    seeds = list(range(1, len(halves[0]) + 1))
    for side, half in zip(SIDES, halves, strict=True):
        study_name = f"{name}-{side}"
        ledger.write_study(study_name, StudyManifest({}, {}, {}))
        for run in search:
            ledger.use_run(study_name, "search", run.trial, run.seed, run.record.fingerprint)
        for seed, run in zip(seeds, half, strict=True):
            ledger.use_run(study_name, "report", run.trial, seed, run.record.fingerprint)
    protocol = replace(manifest.config.protocol, stopping=stopping, seeds=len(seeds))
    (card,) = manifest.methods.values()
    study_manifest = replace(
        manifest,
        name=name,
        config=replace(manifest.config, protocol=protocol, baseline=SIDES[1]),
        methods={side: replace(card, name=side) for side in SIDES},
        studies={task: {side: f"{name}-{side}" for side in SIDES}},
        family=(Contrast(task, *SIDES),),
        report_seeds=tuple(seeds),
    )
    ledger.write_ablation(study_manifest)


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title="A method against itself")
    for column in ("seeds", "studies", "better or worse", "tolerated", "equivalent", "mean pairs"):
        table.add_column(column, justify="right")
    for row in rows:
        words = f"{row['seeds']}" if row["stopping"] == "fixed" else f"auto, at most {row['seeds']}"
        equivalences = row["outcomes"].get("equivalent", 0)
        table.add_row(
            words,
            str(row["studies"]),
            str(row["errors"]),
            str(row["tolerated"]),
            str(equivalences),
            f"{row['mean_pairs']:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
