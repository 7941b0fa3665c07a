"""The picture of a report's first screen in the README (`python -m benchmarks.first_screen REPORT`).

Chromium draws the page at 1280 × 800 points.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import sync_playwright

from harness.runtime.progress import say

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "first-screen.png"
SIZE = {"width": 1280, "height": 800}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the picture of a report; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="a report.html")
    parser.add_argument("--out", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    chromium = shutil.which("chromium")
    if chromium is None or not options.report.is_file():
        say(f"needs chromium and a report: {options.report}")
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport=SIZE)
        page.goto(options.report.absolute().as_uri())
        page.screenshot(path=options.out)
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
