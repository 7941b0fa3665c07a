"""The command: `python -m harness.study --method alp --task rte`."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from rich.console import Console
from rich.table import Table

from harness.ablation import Ablation, command_line, load_tasks
from harness.arguments import Request, parser, request
from harness.claims import Claims
from harness.compare import AblationResult, Comparison, summarise
from harness.compose import names
from harness.config import StudyConfig
from harness.errors import UserError
from harness.ledger import Ledger
from harness.method import card
from harness.plan import plan_task
from harness.precision import Arithmetic, choose_arithmetic
from harness.progress import say
from harness.registry import registry
from harness.stats import least_seeds
from harness.storage import storage_url
from harness.tasks import load_task, task_names

BAD_INPUT, RUNS_FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_intermixed_args(arguments)
    try:
        if options.list is not None:
            _show_list(options.list, options.json)
            return 0
        return _run(request(options))
    except UserError as error:
        if options.debug:
            raise
        say(f"error: {error}")
        return BAD_INPUT
    except KeyboardInterrupt:
        say("interrupted: the same command goes on where this one stopped")
        return INTERRUPTED


def _run(asked: Request) -> int:
    started = time.perf_counter()
    config = asked.config
    arithmetic = choose_arithmetic(config.device, config.training.precision)
    _quieten(config.threads)
    _announce(asked, arithmetic)
    tasks, refused = load_tasks(config)
    if asked.dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            plans = [plan_task(config, data, arithmetic, Path(scratch)) for data in tasks.values()]
        _answer(asked, {"plan": [plan.plain() for plan in plans], "refused": refused})
        for plan in plans:
            (say if asked.json else print)(plan.line())
        return 0
    out = Path(config.out)
    ledger = Ledger(storage_url(out, config.storage))
    with Claims(ledger) as claims:
        ablation = Ablation(config, arithmetic, ledger, claims, command_line())
        name = ablation.run(tasks, refused)
    path = _report(ledger, name, out)
    result = summarise(ledger, name)
    _show(result, asked.json)
    summary = _summary(result, path, time.perf_counter() - started)
    _answer(asked, summary)
    (say if asked.json else print)(f"report: {path}")
    if asked.open:
        webbrowser.open(path.absolute().as_uri())
    ledger.close()
    return RUNS_FAILED if summary["failures"] else 0


def _report(ledger: Ledger, name: str, out: Path) -> Path:
    from reports.build import build_report  # plotly is only needed here

    path = out / name / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    build_report(ledger, name, path)
    return path


def _announce(asked: Request, arithmetic: Arithmetic) -> None:
    config = asked.config
    source = config.source.folder or config.source.kind
    say(
        f"preset {config.preset}: data {source}, teacher "
        f"{config.teacher.checkpoint or config.teacher.pretrained}, {config.student.layers}-layer "
        f"students ({_start(config)}), "
        f"{arithmetic.name} on {arithmetic.device.type}"
    )
    for note in asked.notes:
        say(note)
    for name, reason in registry().broken.items():
        say(f"warning: the plug-in {name} cannot be imported ({reason})")
    _warn_of_few_seeds(config)


def _start(config: StudyConfig) -> str:
    if config.student.init == "random":
        return "drawn at random"
    origin = {"finetuned": "fine-tuned teacher", "pretrained": "pre-trained encoder"}
    return f"{config.student.init} layers of the {origin[config.student.origin]}"


def _warn_of_few_seeds(config: StudyConfig) -> None:
    if config.baseline is None:
        return
    comparisons = len(config.tasks) * (len(config.methods) - 1)
    least = least_seeds(comparisons, config.protocol.alpha)
    if config.protocol.seeds < least:
        say(
            f"warning: {config.protocol.seeds} report seeds cannot reach p < {config.protocol.alpha:g} "
            f"in a family of {comparisons} comparison(s); at least {least} can"
        )


def _quieten(threads: int) -> None:
    """Keep libraries' progress bars and advice out of the output, and set the thread count."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads or psutil.cpu_count(logical=False) or 1)


def _answer(asked: Request, summary: dict[str, Any]) -> None:
    if asked.json:
        print(json.dumps(summary))


def _show_list(what: str, as_json: bool) -> None:
    cards: list[dict[str, Any]]
    if what == "methods":
        cards = [card(method) for method in registry().methods.values()]
    elif what == "tasks":
        cards = [{"name": name, "summary": load_task(name).title} for name in task_names()]
    else:
        cards = [{"name": name, "summary": _preset_line(name)} for name in names("preset")]
    if as_json:
        print(json.dumps(cards))
        return
    for entry in cards:
        aliases = f" ({', '.join(entry['aliases'])})" if entry.get("aliases") else ""
        print(f"{entry['name'] + aliases:<20} {entry['summary']}")
        if what == "methods":
            print(f"{'':<20} {entry['paper']}")
            for name, distribution in entry["hyper-parameters"].items():
                print(f"{'':<20}   {name}: {distribution}")
    for name, reason in registry().broken.items() if what == "methods" else ():
        print(f"{name}: cannot be imported ({reason})", file=sys.stderr)


def _preset_line(name: str) -> str:
    lines = {
        "demo": "built-in procedural tasks and a small encoder; minutes on a laptop, no network",
        "minilm": "GLUE with all-MiniLM-L6-v2, 6 to 3 layers, mean pooling; hours on a CPU",
        "paper": "GLUE with bert-base-uncased, 12 to 4 layers; for a GPU",
    }
    return lines.get(name, "")


def _show(result: AblationResult, as_json: bool) -> None:
    """The verdict table and sentences; on stderr when stdout carries JSON."""
    console = Console(stderr=as_json, soft_wrap=True)
    if not console.is_terminal:
        console.width = 140
    for banner in result.manifest["banners"]:
        console.print(banner, style="bold", markup=False)
    table = Table(title=f"{result.manifest['name']} (points, mean ± sd over seeds)")
    for column in (
        "task",
        "method",
        "metric",
        "score",
        "seeds",
        "difference",
        "p (Holm)",
        "verdict",
    ):
        table.add_column(column)
    compared = {(c.task, c.method): c for c in result.comparisons}
    for found in result.results:
        comparison = compared.get((found.task, found.method))
        score = (
            f"{100 * found.mean:.1f} ± {100 * found.sd:.1f}" if found.scores else "none finished"
        )
        cells = ("", "", "baseline" if found.method == result.manifest["baseline"] else "")
        if comparison is not None:
            cells = (
                f"{100 * comparison.difference.mean:+.1f} {_interval(comparison)}",
                f"{comparison.adjusted_p:.3g}",
                comparison.verdict.outcome,
            )
        table.add_row(found.task, found.method, found.metric, score, str(len(found.seeds)), *cells)
    console.print(table)
    for comparison in result.comparisons:
        console.print(comparison.verdict.sentence, markup=False, highlight=False)
    for text in result.missing:
        console.print(text, markup=False, highlight=False)


def _interval(comparison: Comparison) -> str:
    low, high = (100 * bound for bound in comparison.difference.interval)
    return f"[{low:+.1f}, {high:+.1f}]" if _finite(low) is not None else "(unbounded)"


def _summary(result: AblationResult, path: Path, seconds: float) -> dict[str, Any]:
    return {
        "ablation": result.manifest["name"],
        "source": result.manifest["source"],
        "report": str(path.absolute()),
        "seconds": seconds,
        "results": [
            {
                "task": found.task,
                "method": found.method,
                "metric": found.metric,
                "mean": found.mean if found.scores else None,
                "scores": list(found.scores),
                "seeds": list(found.seeds),
                "setting": found.setting,
            }
            for found in result.results
        ],
        "comparisons": [
            {
                "task": c.task,
                "method": c.method,
                "baseline": c.baseline,
                "difference": c.difference.mean,
                "interval": [_finite(bound) for bound in c.difference.interval],
                "adjusted_p": c.adjusted_p,
                "pairs": c.difference.n,
                "verdict": c.verdict.outcome,
                "sentence": c.verdict.sentence,
            }
            for c in result.comparisons
        ],
        "missing": list(result.missing),
        "refused": result.manifest["refused"],
        "failures": [f"{r.task} {r.method}: {text}" for r in result.results for text in r.failures],
    }


def _finite(value: float) -> float | None:
    return value if abs(value) != float("inf") else None


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
