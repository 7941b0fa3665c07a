"""Studies of a method against itself: `python -m benchmarks.null_studies [--json]`.

One demo method is trained over a pool of report seeds, by the command. Then studies are drawn from
the pool: two stand-ins for methods get disjoint seeds, no run is used twice in a study, and the ledger
is read as it always is. Whatever is called better or worse is an error; of S studies at level alpha no
more than the binomial distribution's upper 0.1 % point may be, else the exit code is 1. Studies share
the pool, so they are not independent: the point is a little too low for many of them.
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
TOLERATED = 0.999


def main(arguments: list[str] | None = None) -> int:
    """Train the pool, draw the studies, count the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="kd")
    parser.add_argument("--task", default="rte")
    parser.add_argument("--pool", type=int, default=60, help="report seeds that are trained")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10, help="of each stand-in")
    parser.add_argument(
        "--most", type=int, default=20, help="seeds where they are added until decided"
    )
    parser.add_argument("--out", type=Path, help="runs folder that keeps the pool")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the command")
    asked = parser.parse_args(arguments)
    if 2 * max(asked.seeds, asked.most) > asked.pool:
        say(f"--pool: {asked.pool} seeds are fewer than twice {max(asked.seeds, asked.most)}")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        out = asked.out or Path(scratch) / "runs"
        ledger, ablation = _pool(asked, out)
        drawn = Ledger(storage_url(Path(scratch), None))
        designs: list[tuple[int, Stopping]] = [
            (asked.seeds, "fixed"),
            (asked.most, "sequential"),
        ]
        rows = [
            _verdicts(ledger, ablation, drawn, asked.studies, seeds, stopping)
            for seeds, stopping in designs
        ]
        drawn.close()
        ledger.close()
    if asked.json:
        print(json.dumps({"pool": asked.pool, "rows": rows}))
    else:
        _show(rows)
    return 1 if any(row["errors"] > row["tolerated"] for row in rows) else 0


def _pool(asked: argparse.Namespace, out: Path) -> tuple[Ledger, str]:
    """The ledger with the pool's runs, and the ablation's name."""
    words = ["--preset", "demo", "--method", asked.method, "--task", asked.task, "--trials", "4"]
    words += ["--baseline", "none", "--seeds", str(asked.pool), "--out", str(out), "--json"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = study([*words, *asked.overrides])
    if code:
        raise SystemExit(f"the pool's command ended with exit code {code}")
    return Ledger(storage_url(out, None)), str(json.loads(printed.getvalue())["ablation"])


def _verdicts(
    pool: Ledger, ablation: str, drawn: Ledger, studies: int, seeds: int, stopping: Stopping
) -> dict[str, Any]:
    """Count the verdicts of studies that the ledger `drawn` is given."""
    manifest = pool.manifest(ablation)
    (result,) = summarise(pool, ablation).results
    runs = [run for run in result.report if run.record.status == "complete"]
    if len(runs) < 2 * seeds:
        raise SystemExit(f"only {len(runs)} runs of the pool are complete")
    split = runs[0].record.inputs.split.name
    for run in (*runs, *result.search):
        stored = pool.predictions(run.record.fingerprint, split)
        drawn.write_runs([Result(run.record, {} if stored is None else {split: stored}, {})])
    generator = np.random.default_rng(0)
    outcomes: Counter[str] = Counter()
    pairs = []
    with progress(f"{studies} studies, {stopping}", studies) as advance:
        for number in range(studies):
            halves = _draw(runs, seeds, generator)
            name = f"{stopping}-{number}"
            _write_study(drawn, name, manifest, halves, result.search, stopping)
            (comparison,) = summarise(drawn, name).comparisons
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
        "tolerated": int(binom.ppf(TOLERATED, studies, alpha)),
        "outcomes": dict(outcomes),
        "mean_pairs": float(np.mean(pairs)),
    }


def _draw(
    runs: Sequence[StudyRun], seeds: int, generator: np.random.Generator
) -> tuple[list[StudyRun], list[StudyRun]]:
    """So many runs for either side, none for both."""
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
    drawn = replace(
        manifest,
        name=name,
        config=replace(manifest.config, protocol=protocol, baseline=SIDES[1]),
        methods={side: replace(card, name=side) for side in SIDES},
        studies={task: {side: f"{name}-{side}" for side in SIDES}},
        family=(Contrast(task, *SIDES),),
        report_seeds=tuple(seeds),
    )
    ledger.write_ablation(drawn)


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title="A method against itself")
    for column in ("seeds", "studies", "better or worse", "tolerated", "equivalent", "mean pairs"):
        table.add_column(column, justify="right")
    for row in rows:
        words = f"{row['seeds']}" if row["stopping"] == "fixed" else f"auto, at most {row['seeds']}"
        equivalent = row["outcomes"].get("equivalent", 0)
        table.add_row(
            words,
            str(row["studies"]),
            str(row["errors"]),
            str(row["tolerated"]),
            str(equivalent),
            f"{row['mean_pairs']:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
