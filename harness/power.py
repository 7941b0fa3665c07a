"""Plan seeds or trials: `python -m harness.power --sd 0.012`, or `--runs DIR` for a study's spread.

With `--budget T` the plan is for verdicts on methods: the number of trials of each method.

The analysis takes more than a second to import, so the functions that use it import it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from harness.config import MAX_SEEDS, ProtocolConfig
from harness.errors import UserError, one_line
from harness.metric_table import METRICS
from harness.paths import user_path
from harness.runtime.output import exit_code, leave, printing
from harness.runtime.progress import say
from harness.runtime.threads import count_threads, limit_pools

if TYPE_CHECKING:
    from harness.cli.seed_table import Question

SEEDS = (6, 8, 10, 15, 20, 30)
TRIALS = (10, 20, 40, 80, 160)
MAX_COUNT = 100_000
"""The largest number of seeds and of comparisons."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan that the command line asks for; returns the exit code."""
    return exit_code(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = _parser().parse_args(arguments)
        _check(options)
        limit_pools(count_threads())
        question = (
            _question_of_flags(options) if options.runs is None else _question_of_runs(options)
        )
        if question.power <= question.level:
            raise UserError(f"--power {question.power:g}: is not above alpha, {question.level:g}")
    except UserError as error:
        say(f"error: {one_line(error)}")
        return 2
    from harness.analysis.seed_plan import plan_seeds
    from harness.cli.seed_table import plain_plans, show_plans

    counts = options.seeds or (TRIALS if question.unit == "trials" else SEEDS)
    plans = [
        plan_seeds(spread, counts, question.level, question.power) for spread in question.spreads
    ]
    with printing():
        if options.json:
            print(json.dumps(plain_plans(question, plans)))
        else:
            show_plans(question, plans)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m harness.power",
        description="How many seeds, or trials of each method, a comparison takes.",
        epilog="Differences and their spread are in score units: 0.01 is one point.",
        allow_abbrev=False,
    )
    share = _number("between 0 and 1", lambda value: 0 < value < 1)
    spread = parser.add_mutually_exclusive_group(required=True)
    spread.add_argument(
        "--sd",
        type=_number("between 0 and 1 (0.01 is one point)", lambda value: 0 < value < 1),
        help="standard deviation of the paired differences; with --budget, of one search's score "
        "(the ± of a verdict table), alike for both methods",
    )
    spread.add_argument(
        "--runs", type=user_path, metavar="DIR", help="read it from this runs folder"
    )
    parser.add_argument(
        "--ablation", metavar="NAME", help="ablation of --runs, if there are several"
    )
    parser.add_argument(
        "--storage", metavar="URL", help="ledger of --runs (default: its ledger.db)"
    )
    parser.add_argument(
        "--budget",
        type=_count(1),
        metavar="T",
        help="plan for verdicts on methods, tuned with T trials (--runs reads it from the study)",
    )
    parser.add_argument(
        "--sd-seeds",
        type=_count(2),
        metavar="N",
        help="seeds, or trials, that --sd was estimated from",
    )
    parser.add_argument(
        "--metric",
        choices=tuple(METRICS),
        help="metric of --sd, for the margin (default: accuracy)",
    )
    parser.add_argument(
        "--margin",
        type=_number("from 0.0001 to 1 (0.01 is one point)", lambda value: 1e-4 <= value < 1),
        help="the difference that matters (default: the metric's)",
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
        metavar="N[,N...]",
        help="numbers of seeds, or of trials, to show",
    )
    parser.add_argument(
        "--power", type=share, default=0.8, help="chance to find the difference (default: 0.8)"
    )
    parser.add_argument(
        "--alpha", type=share, help="the family's level (default: 0.05, or that of --runs)"
    )
    parser.add_argument(
        "--comparisons",
        type=_count(1),
        metavar="K",
        help="comparisons in the family (default: 1, or those of --runs)",
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


def _count(minimum: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text) if re.fullmatch("[0-9]{1,9}", text) else -1
        if not minimum <= value <= MAX_COUNT:
            raise argparse.ArgumentTypeError(
                f"'{text}' is not a number from {minimum} to {MAX_COUNT}"
            )
        return value

    return read


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(sorted({_count(1)(word) for word in text.split(",")}))


def _check(options: argparse.Namespace) -> None:
    """Refuse flags that the source of the spread does not use."""
    source, foreign_options = "--sd", ["ablation", "storage"]
    if options.runs is not None:
        source, foreign_options = "--runs", ["sd_seeds", "metric", "budget"]
    for name in foreign_options:
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}: cannot be used with {source}")
    if (options.budget or 1) > MAX_SEEDS // 2:
        raise UserError(f"--budget {options.budget}: a pool has at most {MAX_SEEDS} trials")
    least_trials = 2 * (options.budget or 1)
    if options.sd_seeds is not None and options.sd_seeds < least_trials:
        raise UserError(
            f"--sd-seeds {options.sd_seeds}: a budget of {options.budget} takes at least "
            f"{least_trials} trials"
        )


def _question_of_flags(options: argparse.Namespace) -> Question:
    from harness.analysis.seed_plan import Spread
    from harness.cli.seed_table import Question
    from harness.stats.tuned_power import spread_of_searches

    metric = options.metric or "accuracy"
    margin = METRICS[metric].margin if options.margin is None else options.margin
    sd, budget = options.sd, options.budget or 1
    if options.budget is not None:
        sd = spread_of_searches(sd, budget, options.sd_seeds)
    return Question(
        spreads=[Spread(None, metric, sd, options.sd_seeds, margin, budget)],
        exclusions=[],
        alpha=ProtocolConfig().alpha if options.alpha is None else options.alpha,
        comparisons=options.comparisons or 1,
        power=options.power,
        unit="seeds" if options.budget is None else "trials",
        budget=budget,
    )


def _question_of_runs(options: argparse.Namespace) -> Question:
    from harness.analysis.compare import summarise
    from harness.analysis.seed_plan import observed_spreads
    from harness.cli.seed_table import Question
    from harness.storage.database import existing_url
    from harness.storage.ledger import Ledger

    ledger = Ledger(existing_url(options.runs, options.storage))
    try:
        result = summarise(ledger, _ablation_name(ledger.ablations(), options))
    finally:
        ledger.close()
    spreads, exclusions = observed_spreads(result, options.margin)
    if not spreads:
        reasons = "; ".join(exclusions) or "it compares nothing"
        raise UserError(f"--runs {options.runs}: there is no spread to plan from: {reasons}")
    manifest = result.manifest
    return Question(
        spreads=spreads,
        exclusions=exclusions,
        alpha=manifest.alpha if options.alpha is None else options.alpha,
        comparisons=options.comparisons or len(manifest.family),
        power=options.power,
        unit=f"{manifest.unit}s",
        budget=manifest.pool_budget,
    )


def _ablation_name(ablations: Sequence[str], options: argparse.Namespace) -> str:
    name: str | None = options.ablation
    if name is None and len(ablations) == 1:
        return ablations[0]
    names = ", ".join(ablations) or "none yet"
    if name is None:
        raise UserError(f"--runs {options.runs}: name one of its ablations by --ablation: {names}")
    if name not in ablations:
        raise UserError(f"--ablation {name}: not in the ledger, which has {names}")
    return name


def entry() -> None:
    """The console script."""
    leave(main())


if __name__ == "__main__":
    entry()
