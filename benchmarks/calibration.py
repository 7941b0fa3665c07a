"""Calibration of tests and intervals: `python -m benchmarks.calibration [--quick] [--json]`.

The benchmark simulates scores and compares shares with claims: how often tests reject true
hypotheses (each test alone, in a family, and with a look after every pair), how often intervals
cover the true value, and how often tests find true differences. A share misses its claim if it is
beyond the claim by more than three standard errors of the simulation; then the exit code is 1.
Brackets mark shares without a claim, such as those of data that break a test's assumptions.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import (
    checks,
    multiple_checks,
    pool_checks,
    power_checks,
    simulated,
    tuned_example_checks,
)
from benchmarks.rates import STANDARD_ERRORS, Rate, Size
from harness.runtime.progress import progress, say

FULL_SIZE = Size(20_000, 4000, 40, 4000, 4000, 1500, 2000)
QUICK_SIZE = Size(4000, 200, 4, 250, 250, 100, 150)
SEEDS = (6, 8, 10, 20)
POWER_CASES = (
    *((effect, 6, 1) for effect in (1.5, 2.5)),
    *((effect, 8, 1) for effect in (1.0, 1.5)),
    *((effect, 10, 1) for effect in (-0.7, 1.0, 1.5)),
    *((effect, 15, 1) for effect in (0.5, -0.8)),
    *((effect, 20, 1) for effect in (0.5, 0.7)),
    (0.5, 25, 1),
    *((effect, 10, 15) for effect in (1.5, -2.0, 3.0)),
    *((effect, 15, 15) for effect in (0.9, 1.3)),
    *((effect, 20, 15) for effect in (0.7, 1.0)),
    (0.8, 25, 15),
)
"""Cases of a true mean in standard deviations, seeds, comparisons."""
SEED_CASES = ((0.7, 1), (1.0, 1), (1.5, 1), (1.0, 15), (1.5, 15))
"""Cases of a true mean in standard deviations, comparisons."""
LOOK_CASES = ((30, 1), (20, 1), (20, 6), (10, 1), (10, 6))
"""Cases of the maximum number of pairs, and the number of pairs at the first look."""
POOL_CASES = ((12, 4), (20, 4), (20, 10), (40, 4), (40, 10))
"""Cases of trials in a pool, and a tuner's budget."""
POOL_LAWS = (
    *((law, law) for law in pool_checks.QUALITIES if law not in pool_checks.OFFSETS),
    ("normal", "wide"),
    ("normal", "skewed"),
    ("normal", "some fail"),
    ("normal", "offset"),
)
"""Laws of the qualities of two methods' settings."""
POOL_LOOK_CASES = (
    *((*laws, 60, 4) for laws in POOL_LAWS),
    ("normal", "normal", 40, 10),
    ("normal", "wide", 40, 10),
)
"""Cases of the laws of two methods, the maximum number of trials, and a tuner's budget."""
TUNED_POWER_LAWS = ("normal", "skewed", "some fail", "levels")
"""Laws of the qualities of settings in the checks of power."""
PARTS = (
    "false positives",
    "false positives over examples",
    multiple_checks.FAMILY,
    multiple_checks.LOOKS,
    pool_checks.PART,
    "coverage",
    "power",
)
LEVEL_ROW = "the level that n can have"
Cell = Callable[..., list[Rate]]
"""A function of `rng`, the generator, that simulates and returns rates."""


def main(arguments: list[str] | None = None) -> int:
    """Simulate and print; the exit code is 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer simulations: two minutes")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: the cores")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulations")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    for flag, value, minimum in (("processes", options.processes, 1), ("seed", options.seed, 0)):
        if value < minimum:
            say(f"--{flag}: {value} is below {minimum}")
            return 2
    start = time.monotonic()
    size = QUICK_SIZE if options.quick else FULL_SIZE
    rates = measure(plan(size), options.processes, options.seed)
    say(f"{len(rates)} shares in {time.monotonic() - start:.0f} s")
    if options.json:
        print(
            json.dumps({"seed": options.seed, **vars(size), "rates": [r.as_dict() for r in rates]})
        )
    else:
        _show(rates)
    return 1 if missed_claims(rates) else 0


def plan(size: Size) -> list[Cell]:
    """All simulations, each with a generator of its own; slow simulations come first."""
    laws = (*simulated.SYMMETRIC_LAWS, *simulated.SKEWED_LAWS)
    cells: list[Cell] = [
        partial(multiple_checks.sequential_rates, law, max_pairs, first)
        for law in ("normal", simulated.ACCURACIES)
        for max_pairs, first in LOOK_CASES
    ]
    cells += [partial(pool_checks.look_rates, *case) for case in POOL_LOOK_CASES]
    cells += [
        partial(multiple_checks.repeated_rates, law, max_pairs)
        for law in ("normal", simulated.ACCURACIES)
        for max_pairs in (30, 20, 10)
    ]
    cells += [
        partial(multiple_checks.one_sided_rates, law, max_pairs)
        for law in ("normal", simulated.ACCURACIES)
        for max_pairs in (20, 10)
    ]
    cells += [
        partial(multiple_checks.stopping_rates, law, max_pairs)
        for law, max_pairs in (
            (simulated.ACCURACIES, 20),
            (simulated.ACCURACIES, 10),
            ("normal", 10),
        )
    ]
    cells += [
        partial(multiple_checks.repeated_interval_rates, law, 10)
        for law in ("normal", simulated.ACCURACIES)
    ]
    cells += [partial(power_checks.power_rates, "normal", *case) for case in POWER_CASES]
    cells += [
        partial(power_checks.power_rates, law, effect, 10, 1)
        for law in ("Laplace", "exponential")
        for effect in (1.0, -1.0)
    ]
    cells += [partial(power_checks.seeds_rates, *case) for case in SEED_CASES]
    for check in (checks.paired_rates, checks.effect_rates):
        cells += [partial(check, law, n) for n in reversed(SEEDS) for law in laws]
    with_sd = simulated.STANDARD_DEVIATIONS
    cells += [partial(checks.spread_rates, law, n) for n in SEEDS for law in with_sd]
    cells += [partial(checks.crossed_rates, mix, n) for n in (10, 6) for mix in simulated.MIXTURES]
    cells += [
        partial(multiple_checks.family_rates, law, 10, true_effects, shared_baseline)
        for law in ("normal", "t, 2 df", simulated.ACCURACIES)
        for true_effects, shared_baseline in ((0, True), (0, False), (5, True))
    ]
    cells.append(partial(multiple_checks.family_rates, "normal", 20, 0, True))
    cells += [
        partial(checks.mcnemar_rates, concentration) for concentration in simulated.CONCENTRATIONS
    ]
    cells += [
        partial(pool_checks.exchange_rates, *laws, *case)
        for laws in POOL_LAWS
        for case in POOL_CASES
    ]
    cells += [
        partial(power_checks.tuned_rates, law, *case)
        for law in TUNED_POWER_LAWS
        for case in POOL_CASES
    ]
    cells += [
        partial(tuned_example_checks.over_examples_rates, mixture, examples)
        for mixture in tuned_example_checks.MIXTURES
        for examples in tuned_example_checks.MARGINS
    ]
    return [partial(cell, size=size) for cell in cells]


def measure(cells: list[Cell], processes: int, seed: int) -> list[Rate]:
    """The rates of all cells, equal for any number of processes."""
    sequences = np.random.SeedSequence(seed).spawn(len(cells))
    rates: list[Rate] = []
    with progress("simulations", len(cells)) as advance:
        if processes == 1:
            for cell, sequence in zip(cells, sequences, strict=True):
                rates += _run(cell, sequence)
                advance(1)
            return rates
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process reads it at its start
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            for cell_rates in pool.map(_run, cells, sequences):
                rates += cell_rates
                advance(1)
    return rates


def _run(cell: Cell, sequence: np.random.SeedSequence) -> list[Rate]:
    """The rates of one cell, with a generator of its own."""
    return cell(rng=np.random.default_rng(sequence))


def missed_claims(rates: list[Rate]) -> list[Rate]:
    """The rates that miss their claims."""
    return [rate for rate in rates if rate.is_claimed and not rate.holds]


def _show(rates: list[Rate]) -> None:
    console = Console()
    for part in sorted({rate.part for rate in rates}, key=PARTS.index):
        part_rates = [rate for rate in rates if rate.part == part]
        console.print(_claims(part, part_rates) if part == "power" else _by_seeds(part, part_rates))
    print(
        "In %; s.e.: standard error of the simulation. (brackets): no claim. "
        f"!: misses the claim by more than {STANDARD_ERRORS} s.e. (power: plus 3 points; of tuned "
        "scores: plus 7)."
    )
    misses = missed_claims(rates)
    claims = sum(rate.is_claimed for rate in rates)
    print(f"{claims - len(misses)} of {claims} claims hold.")
    for rate in misses:
        print(f"does not hold: {rate.statistic}, {rate.data}, n = {rate.n}: {_rate_text(rate)}")


def _by_seeds(part: str, rates: list[Rate]) -> Table:
    """A table with a row for each statistic and data, and a column for each n."""
    columns = sorted({rate.n for rate in rates})
    table = Table(part, "of", *(f"n = {n}" for n in columns), "claim", "s.e.")
    rows: dict[tuple[str, str], dict[int, Rate]] = {}
    for rate in sorted(rates, key=lambda rate: (rate.statistic, rate.n)):
        if rate.attainable_level is not None:
            rows.setdefault((rate.statistic, LEVEL_ROW), {})[rate.n] = rate
        rows.setdefault((rate.statistic, rate.data), {})[rate.n] = rate
    for (statistic, data), row in rows.items():
        text = _level_text if data == LEVEL_ROW else _rate_text
        cells = (text(row[n]) if n in row else "" for n in columns)
        row_claims = [rate for rate in row.values() if rate.is_claimed] or list(row.values())
        claims = " / ".join(dict.fromkeys(_claim(rate) for rate in row_claims))
        error = max(rate.standard_error for rate in row.values())
        table.add_row(statistic, data, *cells, claims, f"{100 * error:.2f}")
    return table


def _claims(part: str, rates: list[Rate]) -> Table:
    """A table with a row for each rate and its claim."""
    table = Table(part, "of", "n", "share", "claim", "s.e.")
    for rate in rates:
        error = f"{100 * rate.standard_error:.2f}"
        table.add_row(rate.statistic, rate.data, str(rate.n), _rate_text(rate), _claim(rate), error)
    return table


def _rate_text(rate: Rate) -> str:
    number = f"{100 * rate.rate:.1f}"
    if not rate.is_claimed:
        return f"({number})"
    return number if rate.holds else f"{number} !"


def _level_text(rate: Rate) -> str:
    assert rate.attainable_level is not None
    return f"{100 * rate.attainable_level:.1f}"


def _claim(rate: Rate) -> str:
    sign = {"at most": "≤", "at least": "≥", "about": "≈"}[rate.bound]
    claim = f"{sign} {100 * rate.claim:.3g}"
    return claim if rate.is_claimed else f"({claim})"


if __name__ == "__main__":
    sys.exit(main())
