"""Whether tests and intervals do what they claim: `python -m benchmarks.calibration [--quick] [--json]`.

On simulated scores: how often true hypotheses are rejected (by each test alone, in a family, with a
look after every pair), how often intervals hold the truth, and how often differences that are there
are found, against what is claimed. A share is off if it is beyond the claim by more than three standard
errors of the simulation; then the exit code is 1. Where a test's assumptions are broken, or nothing
is claimed, shares are shown beside, in brackets.
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

from benchmarks import checks, multiple_checks, power_checks, simulated
from benchmarks.rates import STANDARD_ERRORS, Rate, Size
from harness.runtime.progress import progress, say

FULL = Size(20_000, 4000, 40, 4000, 4000, 1500)
QUICK = Size(4000, 200, 4, 250, 250, 100)
SEEDS = (6, 8, 10, 20)
PLANNED_POWER = (
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
"""True mean in standard deviations, seeds, comparisons."""
PLANNED_SEEDS = ((0.7, 1), (1.0, 1), (1.5, 1), (1.0, 15), (1.5, 15))
LOOKED_AT = ((30, 1), (20, 1), (20, 6), (10, 1), (10, 6))
"""Most pairs, and the first that is looked at."""
PARTS = (
    "false positives",
    "false positives over examples",
    multiple_checks.FAMILY,
    multiple_checks.LOOKS,
    "coverage",
    "power",
)
REACHABLE = "the level that n can have"
Cell = Callable[..., list[Rate]]
"""Called with `rng`."""


def main(arguments: list[str] | None = None) -> int:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer simulations: two minutes")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: the cores")
    parser.add_argument("--seed", type=int, default=0, help="of the simulations")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    for flag, given, least in (("processes", asked.processes, 1), ("seed", asked.seed, 0)):
        if given < least:
            say(f"--{flag}: {given} is below {least}")
            return 2
    started = time.monotonic()
    size = QUICK if asked.quick else FULL
    rates = measure(plan(size), asked.processes, asked.seed)
    say(f"{len(rates)} shares in {time.monotonic() - started:.0f} s")
    if asked.json:
        print(json.dumps({"seed": asked.seed, **vars(size), "rates": [r.as_dict() for r in rates]}))
    else:
        _show(rates)
    return 1 if missed(rates) else 0


def plan(size: Size) -> list[Cell]:
    """Everything that is simulated, each with random numbers of its own; slow ones first."""
    laws = (*simulated.SYMMETRIC, *simulated.SKEWED)
    cells: list[Cell] = [
        partial(multiple_checks.sequential_rates, law, most, first)
        for law in ("normal", simulated.ACCURACIES)
        for most, first in LOOKED_AT
    ]
    cells += [
        partial(multiple_checks.repeated_rates, law, most)
        for law in ("normal", simulated.ACCURACIES)
        for most in (30, 20, 10)
    ]
    cells += [
        partial(multiple_checks.one_sided_rates, law, most)
        for law in ("normal", simulated.ACCURACIES)
        for most in (20, 10)
    ]
    cells += [
        partial(multiple_checks.stopping_rates, law, most)
        for law, most in ((simulated.ACCURACIES, 20), (simulated.ACCURACIES, 10), ("normal", 10))
    ]
    cells += [
        partial(multiple_checks.repeated_interval_rates, law, 10)
        for law in ("normal", simulated.ACCURACIES)
    ]
    cells += [partial(power_checks.power_rates, "normal", *planned) for planned in PLANNED_POWER]
    cells += [
        partial(power_checks.power_rates, law, effect, 10, 1)
        for law in ("Laplace", "exponential")
        for effect in (1.0, -1.0)
    ]
    cells += [partial(power_checks.seeds_rates, *planned) for planned in PLANNED_SEEDS]
    for check in (checks.paired_rates, checks.effect_rates):
        cells += [partial(check, law, n) for n in reversed(SEEDS) for law in laws]
    with_sd = simulated.STANDARD_DEVIATIONS
    cells += [partial(checks.spread_rates, law, n) for n in SEEDS for law in with_sd]
    cells += [partial(checks.crossed_rates, mix, n) for n in (10, 6) for mix in simulated.MIXTURES]
    cells += [
        partial(multiple_checks.family_rates, law, 10, real, shared)
        for law in ("normal", "t, 2 df", simulated.ACCURACIES)
        for real, shared in ((0, True), (0, False), (5, True))
    ]
    cells.append(partial(multiple_checks.family_rates, "normal", 20, 0, True))
    some = (simulated.FEW, simulated.SOME, simulated.MANY)
    cells += [partial(checks.mcnemar_rates, concentration) for concentration in some]
    return [partial(cell, size=size) for cell in cells]


def measure(cells: list[Cell], processes: int, seed: int) -> list[Rate]:
    """The rates of all cells, the same with any number of processes."""
    sequences = np.random.SeedSequence(seed).spawn(len(cells))
    rates: list[Rate] = []
    with progress("simulations", len(cells)) as advance:
        if processes == 1:
            for cell, sequence in zip(cells, sequences, strict=True):
                rates += _run(cell, sequence)
                advance(1)
            return rates
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each process, read when it starts
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            for found in pool.map(_run, cells, sequences):
                rates += found
                advance(1)
    return rates


def _run(cell: Cell, sequence: np.random.SeedSequence) -> list[Rate]:
    """One cell with a generator of its own."""
    return cell(rng=np.random.default_rng(sequence))


def missed(rates: list[Rate]) -> list[Rate]:
    """What is promised and not kept."""
    return [rate for rate in rates if rate.promised and not rate.holds]


def _show(rates: list[Rate]) -> None:
    console = Console()
    for part in sorted({rate.part for rate in rates}, key=PARTS.index):
        chosen = [rate for rate in rates if rate.part == part]
        console.print(_claims(part, chosen) if part == "power" else _by_seeds(part, chosen))
    print(
        "In %; s.e.: of the simulation. (brackets): shown beside, nothing is claimed. "
        f"!: off the claim by more than {STANDARD_ERRORS} s.e. (power: and 3 points)."
    )
    bad = missed(rates)
    claimed = sum(rate.promised for rate in rates)
    print(f"{claimed - len(bad)} of {claimed} claims hold.")
    for rate in bad:
        print(f"does not hold: {rate.statistic}, {rate.data}, n = {rate.n}: {_shown(rate)}")


def _by_seeds(part: str, rates: list[Rate]) -> Table:
    """A row for each test or interval and data, a column for each n."""
    columns = sorted({rate.n for rate in rates})
    table = Table(part, "of", *(f"n = {n}" for n in columns), "claim", "s.e.")
    rows: dict[tuple[str, str], dict[int, Rate]] = {}
    for rate in sorted(rates, key=lambda rate: (rate.statistic, rate.n)):
        if rate.reachable is not None:
            rows.setdefault((rate.statistic, REACHABLE), {})[rate.n] = rate
        rows.setdefault((rate.statistic, rate.data), {})[rate.n] = rate
    for (statistic, data), found in rows.items():
        shown = _reachable if data == REACHABLE else _shown
        cells = (shown(found[n]) if n in found else "" for n in columns)
        claimed = [rate for rate in found.values() if rate.promised] or list(found.values())
        claims = " / ".join(dict.fromkeys(_claim(rate) for rate in claimed))
        error = max(rate.standard_error for rate in found.values())
        table.add_row(statistic, data, *cells, claims, f"{100 * error:.2f}")
    return table


def _claims(part: str, rates: list[Rate]) -> Table:
    """A row for each rate, with what is claimed of it."""
    table = Table(part, "of", "n", "found", "claim", "s.e.")
    for rate in rates:
        error = f"{100 * rate.standard_error:.2f}"
        table.add_row(rate.statistic, rate.data, str(rate.n), _shown(rate), _claim(rate), error)
    return table


def _shown(rate: Rate) -> str:
    number = f"{100 * rate.rate:.1f}"
    if not rate.promised:
        return f"({number})"
    return number if rate.holds else f"{number} !"


def _reachable(rate: Rate) -> str:
    assert rate.reachable is not None
    return f"{100 * rate.reachable:.1f}"


def _claim(rate: Rate) -> str:
    sign = {"at most": "≤", "at least": "≥", "about": "≈"}[rate.bound]
    claim = f"{sign} {100 * rate.claim:.3g}"
    return claim if rate.promised else f"({claim})"


if __name__ == "__main__":
    sys.exit(main())
