"""Build reports from a ledger, on any machine: `python -m reports.build RUNS_DIR`."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence

from harness.paths import user_path
from harness.runtime.imports import import_at_once
from harness.runtime.output import CommandParser, exit_code, leave

COLLECTION_THRESHOLD = 100_000
"""New objects after which Python searches for garbage cycles. A report's objects live until the report
is written; with Python's default, hundreds, a twentieth of the time goes into vain searches."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the reports that the command line asks for; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    gc.set_threshold(COLLECTION_THRESHOLD)
    import_at_once("reports.report")
    from reports.report import build_chosen

    return build_chosen(options)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="python -m reports.build", description=__doc__)
    parser.add_argument("runs", type=user_path, metavar="RUNS_DIR", help="folder with ledger.db")
    parser.add_argument(
        "--out", type=user_path, metavar="FILE", help="where to write a single report"
    )
    parser.add_argument("--ablation", metavar="NAME", help="the ablation to report; default: all")
    parser.add_argument("--storage", metavar="URL", help="the ledger's database, if not ledger.db")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="NAME",
        help="build one page that compares two ablations, and no report",
    )
    return parser


def entry() -> None:
    """The console script."""
    leave(main())


if __name__ == "__main__":
    entry()
