"""The cost of a report's page: `python -m benchmarks.page [--json]`.

The benchmark writes a synthetic ledger of 22 methods on 8 tasks with 10 report seeds and 8 trials
each. It builds the report as a user does, by `python -m reports.build` in a process of its own, and
measures seconds, processor seconds, peak memory and the size of the page. Then a headless Chromium
opens the page: milliseconds until the load event, and until the first figure is drawn. The numbers
are medians of `--repeats`; builds and openings take turns.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from benchmarks.memory import command_cost
from benchmarks.synthetic import Size, write_ledger
from harness.runtime.progress import say

TARGETS = {
    "build_seconds": 12.0,
    "peak_mebibytes": 1024.0,
    "page_megabytes": 7.0,
    "load_milliseconds": 3000.0,
    "first_figure_milliseconds": 3000.0,
}
"""Upper limits for a page of 22 methods, 8 tasks and 10 seeds on 2 cores."""
LABELS = {
    "build_seconds": "build, s",
    "processor_seconds": "build, processor s",
    "peak_mebibytes": "build, peak memory, MiB",
    "page_megabytes": "page, MB",
    "gzipped_megabytes": "page in gzip, MB",
    "load_milliseconds": "opening: load event, ms",
    "first_figure_milliseconds": "opening: first figure, ms",
}
TIMEOUT = 120_000
"""Milliseconds that the browser may take."""
FIRST_FIGURE = "() => document.querySelector('.plot[data-drawn=done]') && performance.now()"


def main(arguments: list[str] | None = None) -> int:
    """Write the ledger, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", type=int, default=22)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=10, help="report seeds")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="runs folder that keeps the ledger and the page")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    size = Size(options.methods, options.tasks, options.seeds, options.trials)
    with tempfile.TemporaryDirectory() as scratch:
        runs = options.out or Path(scratch) / "runs"
        start = time.perf_counter()
        try:
            name = write_ledger(runs, size)
        except ValueError as error:
            say(f"--{error}")
            return 2
        say(f"wrote the ledger of {name}: {time.perf_counter() - start:.0f} s")
        result = measure(runs, runs / name / "report.html", options.repeats)
    if options.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0


def measure(runs: Path, page: Path, repeats: int) -> dict[str, Any]:
    """Medians of all numbers, with the repeats; without Chromium the browser's numbers are missing."""
    rows: list[dict[str, float]] = []
    with _chromium() as browser:
        for _ in range(repeats):
            row = build(runs)
            text = page.read_bytes()
            row["page_megabytes"] = len(text) / 1e6
            row["gzipped_megabytes"] = len(gzip.compress(text, 6)) / 1e6
            if browser is not None:
                row |= open_times(browser, page)
            rows.append(row)
    return {
        "medians": {name: median(row[name] for row in rows) for name in rows[0]},
        "targets": TARGETS,
        "repeats": rows,
    }


def build(runs: Path) -> dict[str, float]:
    """Seconds, processor seconds and peak memory (MiB) of the command that builds the reports."""
    cost = command_cost([sys.executable, "-m", "reports.build", str(runs)])
    return {"build_seconds" if name == "seconds" else name: n for name, n in cost.items()}


@contextmanager
def _chromium() -> Iterator[Browser | None]:
    """A headless Chromium; None, with a message, if Chromium is not installed."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        say("chromium is not installed: the opening of the page is not measured")
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def open_times(browser: Browser, page: Path) -> dict[str, float]:
    """Milliseconds from the start of the navigation, each in a fresh context."""
    load, address = (
        "() => performance.getEntriesByType('navigation')[0].loadEventEnd",
        page.as_uri(),
    )
    return {
        "load_milliseconds": _milliseconds_until(browser, address, load),
        "first_figure_milliseconds": _milliseconds_until(
            browser, f"{address}#figure-1", FIRST_FIGURE
        ),
    }


def _milliseconds_until(browser: Browser, address: str, moment: str) -> float:
    """The first value of a script's function that is not falsy, after the page opens."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, offline=True)
    context.set_default_timeout(TIMEOUT)
    try:
        page = context.new_page()
        page.goto(address)
        return float(page.wait_for_function(moment, polling="raf").json_value())
    finally:
        context.close()


def _show(result: dict[str, Any]) -> None:
    table = Table("", "median", "lowest to highest", "target")
    for name, middle in result["medians"].items():
        of_repeats = [row[name] for row in result["repeats"]]
        target = result["targets"].get(name)
        table.add_row(
            LABELS[name],
            f"{middle:.4g}",
            f"{min(of_repeats):.4g} to {max(of_repeats):.4g}",
            "" if target is None else f"below {target:g}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
