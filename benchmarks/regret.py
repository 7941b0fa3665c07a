"""What a better selection could gain in stored pools: `python -m benchmarks.regret RUNS ABLATION`.

A tuner keeps the trial with the best selection score. An oracle would keep the trial that is best on the
reported split itself. Both are scored on one half of the reported split, and the oracle selects by the
other half, so that it does not know the examples of its score. Regret is the oracle's tuned score minus
the tuner's, a mean over random halves. Below 0 the selection part tells more than that many reported
examples do.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from harness.analysis.compare import read_ablation
from harness.analysis.pools import read_pool
from harness.data.scores import predictions as predicted
from harness.data.tasks import load_task
from harness.metric_table import Metric, metric_of
from harness.stats.tuned_score import Pool, tuned_score
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger

CRITERIA = ("metric", "loss")


def main(arguments: list[str] | None = None) -> int:
    """Read the pools, draw the halves, print the regrets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="the runs folder")
    parser.add_argument("ablation", help="the ablation's name, as the command prints it")
    parser.add_argument("--budgets", default="4,10")
    parser.add_argument("--halves", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    budgets = [int(budget) for budget in options.budgets.split(",")]
    rows = regrets(options.runs, options.ablation, budgets, options.halves)
    if options.json:
        print(json.dumps(rows))
    else:
        _show(rows)
    return 0


def regrets(
    folder: Path, ablation: str, budgets: Sequence[int], halves: int
) -> list[dict[str, Any]]:
    """A row for each method, criterion of the selection and budget below the number of trials."""
    ledger = Ledger(storage_url(folder, None))
    result = read_ablation(ledger, ablation)
    manifest = result.manifest
    rows = []
    for method in result.results:
        task = load_task(method.task)
        runs = sorted(method.report, key=lambda run: run.trial)
        stored = ledger.predictions_of([run.record.fingerprint for run in runs], "validation")
        outputs = [stored[run.record.fingerprint] for run in runs]
        labels = outputs[0].labels
        answers = np.stack([predicted(task, output.logits) for output in outputs])
        metric = metric_of(manifest.primary_metric(method.task))
        for criterion in CRITERIA:
            pool = read_pool(runs, manifest, method.task, criterion)
            assert pool is not None
            for budget in (budget for budget in budgets if budget < len(runs)):
                generator = np.random.default_rng(0)
                scores = np.array(
                    [
                        score_of_half(pool, labels, answers, metric, budget, generator)
                        for _ in range(halves)
                    ]
                )
                rows.append(
                    {
                        "task": method.task,
                        "method": method.method,
                        "selection": criterion,
                        "budget": budget,
                        "trials": len(runs),
                        "tuned_score": tuned_score(pool, budget),
                        "mean": float(np.mean(pool.reported)),
                        "regret": float((scores[:, 1] - scores[:, 0]).mean()),
                    }
                )
    return rows


def score_of_half(
    pool: Pool,
    labels: npt.NDArray[np.float64],
    answers: npt.NDArray[Any],
    metric: Metric,
    budget: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """The tuned scores of the tuner and of the oracle on one half of the examples."""
    order = generator.permutation(len(labels))
    known, unknown = np.array_split(order, 2)
    on_known, on_unknown = (
        tuple(metric.score(labels[rows], own[rows]) for own in answers) for rows in (known, unknown)
    )
    tuner = tuned_score(Pool(pool.selection, on_unknown), budget)
    return tuner, tuned_score(Pool(on_known, on_unknown), budget)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(title="Tuned scores, and what an oracle's selection would add, in points")
    names = ("task", "method", "selection", "budget", "trials")
    for name in (*names, "mean of the trials", "tuned score", "regret"):
        table.add_column(name, justify="right")
    for row in rows:
        values = (f"{100 * row[name]:.2f}" for name in ("mean", "tuned_score", "regret"))
        table.add_row(*(str(row[name]) for name in names), *values)
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
