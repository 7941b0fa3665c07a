"""Plan seeds: `python -m harness.power --sd 0.012`, or `--runs DIR` for an earlier study's spread.

What is needed to compute takes more than a second to import, and is imported when it is.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.config import ProtocolConfig
from harness.errors import UserError, one_line
from harness.metric_table import METRICS
from harness.runtime.progress import say

if TYPE_CHECKING:
    from harness.cli.seed_table import Question

SEEDS = (6, 8, 10, 15, 20, 30)
MOST = 100_000
"""Seeds and comparisons that can be asked about."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan that the command line asks for; returns the exit code."""
    try:
        options = _parser().parse_args(arguments)
        _check(options)
        asked = _given(options) if options.runs is None else _observed(options)
        if asked.power <= asked.level:
            raise UserError(f"--power {asked.power:g}: is not above alpha, {asked.level:g}")
    except UserError as error:
        say(f"error: {one_line(error)}")
        return 2
    from harness.analysis.seed_plan import plan_seeds
    from harness.cli.seed_table import plain_plans, show_plans

    plans = [
        plan_seeds(spread, options.seeds, asked.level, asked.power) for spread in asked.spreads
    ]
    if options.json:
        print(json.dumps(plain_plans(asked, plans)))
    else:
        show_plans(asked, plans)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m harness.power",
        description="How many seeds a comparison takes.",
        epilog="Differences and their spread are in score units: 0.01 is one point.",
        allow_abbrev=False,
    )
    share = _number("between 0 and 1", lambda value: 0 < value < 1)
    spread = parser.add_mutually_exclusive_group(required=True)
    spread.add_argument(
        "--sd",
        type=_number("between 0 and 1 (0.01 is one point)", lambda value: 0 < value < 1),
        help="standard deviation of the paired differences",
    )
    spread.add_argument("--runs", type=Path, metavar="DIR", help="read it from this runs folder")
    parser.add_argument("--ablation", metavar="NAME", help="of --runs, where it has several")
    parser.add_argument("--storage", metavar="URL", help="of --runs, if it is not its ledger.db")
    parser.add_argument(
        "--sd-seeds", type=_count(2), metavar="N", help="seeds that --sd was estimated from"
    )
    parser.add_argument(
        "--metric", choices=tuple(METRICS), help="of --sd, for its margin (default: accuracy)"
    )
    parser.add_argument(
        "--margin",
        type=_number("from 0.0001 to 1 (0.01 is one point)", lambda value: 1e-4 <= value < 1),
        help="the difference that matters (default: the metric's)",
    )
    parser.add_argument(
        "--seeds", type=_seeds, default=SEEDS, metavar="N[,N...]", help="numbers of seeds to show"
    )
    parser.add_argument(
        "--power", type=share, default=0.8, help="chance to find the difference (default: 0.8)"
    )
    parser.add_argument(
        "--alpha", type=share, help="of the family (default: 0.05, or that of --runs)"
    )
    parser.add_argument(
        "--comparisons",
        type=_count(1),
        metavar="K",
        help="in the family (default: 1, or those of --runs)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def _number(words: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not fits(value):
            raise argparse.ArgumentTypeError(f"'{text}' is not a number {words}")
        return value

    return read


def _count(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text) if re.fullmatch("[0-9]{1,9}", text) else -1
        if not least <= value <= MOST:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number from {least} to {MOST}")
        return value

    return read


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(sorted({_count(1)(word) for word in text.split(",")}))


def _check(options: argparse.Namespace) -> None:
    """Refuse flags that would not be read."""
    given, unread = "--sd", ("ablation", "storage")
    if options.runs is not None:
        given, unread = "--runs", ("sd_seeds", "metric")
    for name in unread:
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}: cannot be used with {given}")


def _given(options: argparse.Namespace) -> Question:
    from harness.analysis.seed_plan import Spread
    from harness.cli.seed_table import Question

    metric = options.metric or "accuracy"
    margin = METRICS[metric].margin if options.margin is None else options.margin
    return Question(
        spreads=[Spread(None, metric, options.sd, options.sd_seeds, margin)],
        without=[],
        alpha=ProtocolConfig().alpha if options.alpha is None else options.alpha,
        comparisons=options.comparisons or 1,
        power=options.power,
    )


def _observed(options: argparse.Namespace) -> Question:
    from harness.analysis.compare import summarise
    from harness.analysis.seed_plan import observed_spreads
    from harness.cli.seed_table import Question
    from harness.storage.database import existing_url
    from harness.storage.ledger import Ledger

    ledger = Ledger(existing_url(options.runs, options.storage))
    try:
        result = summarise(ledger, _chosen(ledger.ablations(), options))
    finally:
        ledger.close()
    spreads, without = observed_spreads(result, options.margin)
    if not spreads:
        reasons = "; ".join(without) or "it compares nothing"
        raise UserError(f"--runs {options.runs}: there is no spread to plan from: {reasons}")
    manifest = result.manifest
    return Question(
        spreads=spreads,
        without=without,
        alpha=manifest.alpha if options.alpha is None else options.alpha,
        comparisons=options.comparisons or len(manifest.family),
        power=options.power,
        unit=f"{manifest.unit}s",
    )


def _chosen(found: Sequence[str], options: argparse.Namespace) -> str:
    wanted: str | None = options.ablation
    if wanted is None and len(found) == 1:
        return found[0]
    names = ", ".join(found) or "none yet"
    if wanted is None:
        raise UserError(f"--runs {options.runs}: name one of its ablations by --ablation: {names}")
    if wanted not in found:
        raise UserError(f"--ablation {wanted}: not in the ledger, which has {names}")
    return wanted


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
