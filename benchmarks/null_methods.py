"""Copies of one method, compared as methods: `python -m benchmarks.null_methods [--quick] [--json]`.

The benchmark trains a large pool of trials of demo methods by the command, and draws pools of a study's
size from the trials of a method, with replacement. Two draws are pools of two copies of the method:
nothing but the luck of settings and seeds differs between them. So every "better" or "worse" is an
error. A copy whose reported scores are moved by the margin shows the errors of "equivalent". The
benchmark counts with the functions of the verdicts, for each criterion of the selection: single
comparisons, Holm's families, and comparisons with looks (`--trials auto`). Copies that are moved by one
or two points show the power, and the runs that it takes (`benchmarks.null_power`). The exit code is 1 if
errors exceed the upper 0.1 % point of the binomial distribution.
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

from benchmarks.null_power import draw_pool, moved_pool, runs_for_power
from harness.analysis.compare import read_ablation
from harness.analysis.pools import TunedPools, read_pool
from harness.config import Criterion
from harness.runtime.progress import progress, say
from harness.stats import holm
from harness.stats.exchange import tuned_difference, tuned_equivalence
from harness.stats.pool_stopping import look_patterns, look_trials, pool_stopping, read_looks
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
LOOK_TRIALS = 60
"""The maximum number of trials of a copy with looks."""


def main(arguments: list[str] | None = None) -> int:
    """Train the pools, draw the copies, count the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one task, few trials and draws")
    parser.add_argument("--method", default="kd,alp")
    parser.add_argument("--task", default="rte,sst2,stsb")
    parser.add_argument("--pool", type=int, default=160, help="trials to train on each task")
    parser.add_argument("--trials", type=int, default=40, help="trials of each copy")
    parser.add_argument("--budget", type=int, default=4, help="trials of a tuner")
    parser.add_argument("--draws", type=int, default=1000, help="pairs of copies")
    parser.add_argument("--out", type=Path, help="runs folder that keeps the pools")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="overrides of the command"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.method, options.task, options.pool, options.draws = "kd", "rte", 60, 100
    if not 1 <= options.budget < options.trials <= options.pool:
        say("--budget must be below --trials, and --trials at most --pool")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        pools = train_pools(options, options.out or Path(scratch) / "runs")
    rows = []
    with progress("draws", options.draws * len(pools)) as advance:
        for (method, task, criterion), (pool, margin) in pools.items():
            generator = np.random.default_rng(0)
            errors = count_errors(
                pool, options.trials, options.budget, margin, options.draws, generator
            )
            runs = runs_for_power(pool, options.budget, max(1, options.draws // 4), generator)
            advance(options.draws)
            names = {"method": method, "task": task, "criterion": criterion}
            rows.append({**names, **errors, "runs": runs})
    if options.json:
        print(json.dumps({"pool": options.pool, "rows": rows}))
    else:
        _show(rows, options.trials, options.budget)
    return 1 if any(row[key] > row[f"{key}_tolerated"] for row in rows for key in ERRORS) else 0


ERRORS = (
    "errors",
    "family_errors",
    "equivalence_errors",
    "look_errors",
    "look_equivalence_errors",
)
"""Counts of a row that `_tolerated` bounds."""


def train_pools(
    options: argparse.Namespace, runs_folder: Path
) -> dict[tuple[str, str, Criterion], tuple[Pool, float]]:
    """The large pool and the margin of each method, task and criterion, trained by the command."""
    words = f"--preset demo --method {options.method} --task {options.task} --baseline none".split()
    words += ["--trials", str(options.pool), "--json", "--keep", "none"]
    words += [f"protocol.budget={options.budget}", "--out"]
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
            key = (method.method, method.task, criterion)
            pools[key] = (pool, result.manifest.margin(method.metric))
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
    """Counts of errors over pairs of copies with `trials` trials each, and what is tolerated.

    There are `draws` single comparisons, a tenth as many families, and a fifth as many comparisons with
    looks.
    """
    errors = equivalence_errors = 0
    for _ in range(draws):
        method, baseline = (draw_pool(pool, trials, generator) for _ in range(2))
        test = tuned_difference([method], [baseline], budget, 1 - alpha, generator, PATTERNS)
        errors += test.p_value < alpha
        at_margin = [moved_pool(method, margin)]
        equivalence = tuned_equivalence(
            at_margin, [baseline], budget, margin, alpha, generator, PATTERNS
        )
        equivalence_errors += equivalence.p_value < alpha
    families, look_draws = max(1, draws // 10), max(1, draws // 5)
    family_errors = sum(
        family_has_error(pool, trials, budget, generator, alpha) for _ in range(families)
    )
    decisions = [
        decisions_with_looks(pool, budget, margin, generator, alpha) for _ in range(look_draws)
    ]
    tuned = TunedPools((pool,), budget)
    return {
        "tuned_score": tuned.score,
        "search_sd": tuned.sd,
        "draws": draws,
        "families": families,
        "look_draws": look_draws,
        "errors": errors,
        "equivalence_errors": equivalence_errors,
        "family_errors": family_errors,
        "look_errors": sum(null in ("better", "worse") for null, _ in decisions),
        "look_equivalence_errors": sum(at == "equivalent" for _, at in decisions),
        "errors_tolerated": _tolerated(draws, alpha),
        "equivalence_errors_tolerated": _tolerated(draws, alpha),
        "family_errors_tolerated": _tolerated(families, alpha),
        "look_errors_tolerated": _tolerated(look_draws, alpha),
        "look_equivalence_errors_tolerated": _tolerated(look_draws, alpha),
    }


def decisions_with_looks(
    pool: Pool, budget: int, margin: float, generator: np.random.Generator, alpha: float
) -> tuple[str | None, str | None]:
    """The decisions of `--trials auto` on two copies, and on a copy that is better by the margin."""
    copies = [draw_pool(pool, LOOK_TRIALS, generator) for _ in range(2)]
    patterns = look_patterns(LOOK_TRIALS, generator, PATTERNS)
    looks = look_trials(LOOK_TRIALS)

    def decision(method: Pool) -> str | None:
        read = read_looks(method, copies[1], budget, looks, patterns)
        return pool_stopping(read, LOOK_TRIALS, LOOK_TRIALS, alpha, margin).decision

    return decision(copies[0]), decision(moved_pool(copies[0], margin))


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


def _tolerated(draws: int, alpha: float) -> int:
    return int(binom.ppf(QUANTILE, draws, alpha))


def _show(rows: Sequence[Mapping[str, Any]], trials: int, budget: int) -> None:
    console = Console(width=140)
    table = Table(
        title=f"Copies of one method, {trials} trials each, tuned with {budget}: errors in %"
    )
    for column in (
        "method",
        "task",
        "selection",
        "tuned score",
        "sd between searches",
        "better or worse",
        f"in a family of {FAMILY}",
        "with looks",
        "equivalent at the margin",
        "with looks",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        shares = (
            row["errors"] / row["draws"],
            row["family_errors"] / row["families"],
            row["look_errors"] / row["look_draws"],
            row["equivalence_errors"] / row["draws"],
            row["look_equivalence_errors"] / row["look_draws"],
        )
        scores = (f"{100 * row[key]:.2f}" for key in ("tuned_score", "search_sd"))
        cells = (f"{100 * share:.1f}" for share in shares)
        table.add_row(row["method"], row["task"], row["criterion"], *scores, *cells)
    console.print(table)
    table = Table(
        title="A copy that is better by a true difference: found in %, by runs of each method"
    )
    designs = rows[0]["runs"]
    for column in (
        "method",
        "task",
        "selection",
        *(f"{d['design']}, {d['runs']}" for d in designs),
    ):
        table.add_column(column, justify="right")
    for row in rows:
        cells = (
            f"{100 * design['one_point']:.0f}, {100 * design['two_points']:.0f}"
            for design in row["runs"]
        )
        table.add_row(row["method"], row["task"], row["criterion"], *cells)
    console.print(table)
    console.print("Each cell: one point, two points.")


if __name__ == "__main__":
    sys.exit(main())
