"""Copies of one method, compared as methods: `python -m benchmarks.null_methods [--quick] [--json]`.

The benchmark trains a large pool of trials of one demo method by the command, and draws pools of a
study's size from it, with replacement. Two draws are pools of two copies of the method: nothing
but the luck of settings and seeds differs between them. So every "better" or "worse" is an error.
A copy whose reported scores are moved by one or two points shows the power; a copy that is moved
by the margin shows the errors of "equivalent". The benchmark counts with the functions of the
verdicts, for selection by the metric, ties by the loss on the labels, and by the loss alone. The
exit code is 1 if errors exceed the upper 0.1 % point of the binomial distribution.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

from harness.analysis.compare import read_ablation
from harness.analysis.pools import TunedPools, read_pool
from harness.config import Criterion
from harness.runtime.progress import progress, say
from harness.stats import holm
from harness.stats.exchange import tuned_difference, tuned_equivalence
from harness.stats.tuned_score import Pool
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main as study

QUANTILE = 0.999
"""Quantile of the binomial distribution that the number of errors may reach."""
FAMILY = 24
"""Comparisons in a family: 24 copies against one baseline."""
PATTERNS = 999
"""Random patterns of each test. A test's level holds for any number of patterns."""
FAMILY_PATTERNS = 4999
"""Random patterns in a family, where Holm's first level is alpha / 24."""
POINT = 0.01


def main(arguments: list[str] | None = None) -> int:
    """Train the pools, draw the copies, count the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one task, few trials and draws")
    parser.add_argument("--method", default="kd")
    parser.add_argument("--task", default="rte,sst2,stsb")
    parser.add_argument("--pool", type=int, default=160, help="trials to train on each task")
    parser.add_argument("--trials", type=int, default=20, help="trials of each copy")
    parser.add_argument("--budget", type=int, default=4, help="trials of a tuner")
    parser.add_argument("--draws", type=int, default=1000, help="pairs of copies")
    parser.add_argument("--out", type=Path, help="runs folder that keeps the pools")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="overrides of the command"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.task, options.pool, options.draws = "rte", 40, 100
    if not 1 <= options.budget < options.trials <= options.pool:
        say("--budget must be below --trials, and --trials at most --pool")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        pools = train_pools(options, options.out or Path(scratch) / "runs")
    rows = []
    with progress("draws", options.draws * len(pools)) as advance:
        for (task, criterion), (pool, margin) in pools.items():
            generator = np.random.default_rng(0)
            rates = count_errors(
                pool, options.trials, options.budget, margin, options.draws, generator
            )
            advance(options.draws)
            rows.append({"task": task, "criterion": criterion, **rates})
    if options.json:
        print(json.dumps({"method": options.method, "pool": options.pool, "rows": rows}))
    else:
        _show(rows, options.trials, options.budget)
    return 1 if any(row[key] > row[f"{key}_tolerated"] for row in rows for key in ERRORS) else 0


ERRORS = ("errors", "family_errors", "equivalence_errors")
"""Counts of a row that `_tolerated` bounds."""


def train_pools(
    options: argparse.Namespace, runs_folder: Path
) -> dict[tuple[str, Criterion], tuple[Pool, float]]:
    """The large pool and the margin of each task and criterion, trained by the command."""
    words = f"--preset demo --method {options.method} --task {options.task} --baseline none".split()
    words += ["--sampler", "random", "--trials", str(options.pool), "--json", "--keep", "none"]
    words += ["protocol.unit=methods", f"protocol.budget={options.budget}", "--out"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = study([*words, str(runs_folder), *options.overrides])
    if code:
        raise SystemExit(f"the pools' command ended with exit code {code}")
    ledger = Ledger(storage_url(runs_folder, None))
    result = read_ablation(ledger, str(json.loads(output.getvalue())["ablation"]))
    ledger.close()
    pools = {}
    for method in result.results:
        for criterion in get_args(Criterion):
            pool = read_pool(method.report, result.manifest, method.task, criterion)
            if pool is None:
                raise SystemExit(f"{method.task}: no pool of {options.pool} trials")
            pools[method.task, criterion] = (pool, result.manifest.margin(method.metric))
    return pools


def count_errors(
    pool: Pool,
    trials: int,
    budget: int,
    margin: float,
    draws: int,
    generator: np.random.Generator,
    alpha: float = 0.05,
) -> dict[str, float]:
    """Counts and shares over pairs of copies with `trials` trials each."""
    counts = dict.fromkeys(("errors", "equivalence_errors", "one_point", "two_points"), 0)
    for _ in range(draws):
        method, baseline = (draw_pool(pool, trials, generator) for _ in range(2))

        def p_value(
            distance: float, method: Pool = method, baseline: Pool = baseline
        ) -> tuple[float, float]:
            moved = [moved_pool(method, distance)]
            test = tuned_difference(moved, [baseline], budget, 1 - alpha, generator, PATTERNS)
            return test.p_value, test.mean

        counts["errors"] += p_value(0.0)[0] < alpha
        for name, points in (("one_point", 1), ("two_points", 2)):
            p, mean = p_value(points * POINT)
            counts[name] += p < alpha and mean > 0
        at_margin = [moved_pool(method, margin)]
        equivalence = tuned_equivalence(
            at_margin, [baseline], budget, margin, alpha, generator, PATTERNS
        )
        counts["equivalence_errors"] += equivalence.p_value < alpha
    families = max(1, draws // 10)
    family_errors = sum(
        family_has_error(pool, trials, budget, generator, alpha) for _ in range(families)
    )
    tuned = TunedPools((pool,), budget)
    return {
        "tuned_score": tuned.score,
        "search_sd": tuned.sd,
        "draws": draws,
        "families": families,
        **counts,
        "family_errors": family_errors,
        "errors_tolerated": _tolerated(draws, alpha),
        "equivalence_errors_tolerated": _tolerated(draws, alpha),
        "family_errors_tolerated": _tolerated(families, alpha),
    }


def family_has_error(
    pool: Pool, trials: int, budget: int, generator: np.random.Generator, alpha: float
) -> bool:
    """Whether Holm's procedure finds a difference among `FAMILY` copies and one baseline."""
    baseline = draw_pool(pool, trials, generator)
    p_values = [
        tuned_difference(
            [draw_pool(pool, trials, generator)],
            [baseline],
            budget,
            1 - alpha,
            generator,
            FAMILY_PATTERNS,
        ).p_value
        for _ in range(FAMILY)
    ]
    return min(holm(p_values)) < alpha


def draw_pool(pool: Pool, trials: int, generator: np.random.Generator) -> Pool:
    """`trials` independent draws from the trials of a large pool."""
    indices = generator.integers(pool.trials, size=trials)
    return Pool(
        tuple(pool.selection[index] for index in indices),
        tuple(pool.reported[index] for index in indices),
    )


def moved_pool(pool: Pool, distance: float) -> Pool:
    """A pool whose reported scores are higher by `distance`."""
    return Pool(pool.selection, tuple(score + distance for score in pool.reported))


def _tolerated(draws: int, alpha: float) -> int:
    return int(binom.ppf(QUANTILE, draws, alpha))


def _show(rows: Sequence[Mapping[str, Any]], trials: int, budget: int) -> None:
    table = Table(title=f"Copies of one method, {trials} trials each, tuned with {budget}")
    for column in (
        "task",
        "selection",
        "tuned score",
        "sd between searches",
        "better or worse, %",
        f"family of {FAMILY}, %",
        "equivalent at the margin, %",
        "found: 1 point, %",
        "2 points, %",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        shares = [row[key] / row["draws"] for key in ("errors", "equivalence_errors")]
        powers = [row[key] / row["draws"] for key in ("one_point", "two_points")]
        numbers = [shares[0], row["family_errors"] / row["families"], shares[1], *powers]
        table.add_row(
            row["task"],
            row["criterion"],
            f"{100 * row['tuned_score']:.2f}",
            f"{100 * row['search_sd']:.2f}",
            *(f"{100 * number:.1f}" for number in numbers),
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    sys.exit(main())
