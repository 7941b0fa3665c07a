"""Commands on ledgers that grow: `python -m benchmarks.growth [--runs 1000,10000] [--quick] [--json]`.

The benchmark fills ledgers by the driver of the ordinary command, with workers that make the results of
runs up. A ledger has one of three shapes: the pools of one ablation, the searches and report runs of one
ablation, or many ablations of 50 runs. Two commands then run in processes of their own: the study's
command, which finds all runs of its ablation in the ledger, and `python -m reports.build`. The table has
the medians of `--repeats`, and the processor's milliseconds that each run has added since the smaller
ledger. The study's command takes the last of many ablations, so its time should not grow there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from optuna.storages import InMemoryStorage
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from benchmarks.bulk_trials import copy_studies
from benchmarks.made_up_workers import MadeUpWorkers
from benchmarks.memory import command_cost
from harness.cli.arguments import parser, read_request
from harness.config import StudyConfig
from harness.data.tasks import LEFT_OUT, task_names
from harness.demo.encoder import write_outline
from harness.experiment.ablation import Ablation, load_tasks
from harness.experiment.scheduler import Scheduler
from harness.experiment.search import open_optuna
from harness.registry.discovery import registry
from harness.runtime.progress import progress, redirected, say
from harness.storage.claims import Claims
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.schema import RUNS
from harness.workers.workshop import settle_process

BASELINE = "kd"
TASKS, METHODS = 8, 10
"""Tasks and methods of one large ablation."""
SEEDS = 10
"""Report seeds of a study of settings."""
SMALL = 50
"""Runs of each of many ablations: 25 trials of two methods on one task."""
COMMANDS = ("study", "reports.build")


@dataclass(frozen=True)
class Shape:
    """A ledger's ablations: the words of each command that fills them, without folders."""

    name: str
    commands: tuple[tuple[str, ...], ...]


def pools(runs: int, tasks: int, methods: int) -> Shape:
    """One ablation on methods, with about that number of runs."""
    words = (*_scope(tasks, methods), "--trials", str(_each(runs, tasks * methods)))
    return Shape("pools of one ablation", (words,))


def searches(runs: int, tasks: int, methods: int) -> Shape:
    """One ablation on settings, with about that number of runs."""
    trials = _each(runs, tasks * methods) - SEEDS
    words = (*_scope(tasks, methods), "--trials", str(trials), "--seeds", str(SEEDS))
    return Shape("searches of one ablation", ((*words, "protocol.unit=settings"),))


def ablations(runs: int, tasks: int, methods: int) -> Shape:
    """Ablations of `SMALL` runs on one task, which differ in the range of the learning rate."""
    words = (*_scope(1, 2), "--trials", str(SMALL // 2))
    highest_rates = [1e-3 + 1e-6 * number for number in range(max(1, runs // SMALL))]
    ranges = [f"search.learning_rate=[0.0002,{rate:.6f}]" for rate in highest_rates]
    return Shape("many ablations", tuple((*words, override) for override in ranges))


SHAPES = {"pools": pools, "searches": searches, "ablations": ablations}


def _scope(tasks: int, methods: int) -> tuple[str, ...]:
    """The flags of the first tasks and methods; the baseline is one of them."""
    names = [BASELINE, *(name for name in registry().methods if name != BASELINE)]
    task_list = [name for name in task_names() if name != LEFT_OUT][:tasks]
    return ("--method", ",".join(names[:methods]), "--task", ",".join(task_list))


def _each(runs: int, studies: int) -> int:
    return -(-runs // studies)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the ledgers, time the commands, print the table."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--runs", default="1000,10000,50000", help="runs of the ledgers")
    flags.add_argument("--shapes", default=",".join(SHAPES), help="shapes of the ledgers")
    flags.add_argument("--commands", default=",".join(COMMANDS), help="commands to time")
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--quick", action="store_true", help="100 and 200 runs of 2 methods, once")
    flags.add_argument("--out", type=Path, help="folder that keeps the ledgers for later calls")
    flags.add_argument("--json", action="store_true")
    options = flags.parse_args(arguments)
    tasks, methods, sizes = TASKS, METHODS, [int(size) for size in options.runs.split(",")]
    if options.quick:
        tasks, methods, sizes, options.repeats = 1, 2, [100, 200], 1
    for word, known in ((options.shapes, SHAPES), (options.commands, COMMANDS)):
        if unknown := set(word.split(",")) - set(known):
            say(f"{', '.join(sorted(unknown))}: none of {', '.join(known)}")
            return 2
    if options.repeats < 1 or min(sizes) < SMALL:
        say(f"--repeats must be at least 1, and --runs at least {SMALL}")
        return 2
    rows: list[dict[str, Any]] = []
    settle_process(1)
    with contextlib.ExitStack() as stack:
        out = options.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in options.shapes.split(","):
            rows += measure(name, sorted(sizes), tasks, methods, out, options)
    if options.json:
        print(json.dumps({"rows": rows}))
    else:
        _show(rows)
    return 0


def measure(
    name: str,
    sizes: Sequence[int],
    tasks: int,
    methods: int,
    out: Path,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """The rows of a shape: for each command and size the medians, and the cost of each run more."""
    rows: dict[str, list[dict[str, Any]]] = {command: [] for command in options.commands.split(",")}
    for size in sizes:
        shape = SHAPES[name](size, tasks, methods)
        runs = fill(shape, out / f"{name}-{size}")
        for command, command_rows in rows.items():
            words = _command(command, shape, out / f"{name}-{size}")
            costs = [command_cost(words) for _ in range(options.repeats)]
            row = {"shape": shape.name, "command": command, "runs": runs}
            row |= {key: median(cost[key] for cost in costs) for key in costs[0]}
            row["ms_a_run_more"] = _slope(command_rows[-1], row) if command_rows else None
            command_rows.append(row)
        if runs != count_runs(out / f"{name}-{size}"):
            raise SystemExit(
                "the command has trained runs: the ledger was not filled as it fills it"
            )
    return [row for command_rows in rows.values() for row in command_rows]


def _slope(smaller: Mapping[str, Any], larger: Mapping[str, Any]) -> float:
    seconds = larger["processor_seconds"] - smaller["processor_seconds"]
    return float(1000 * seconds / (larger["runs"] - smaller["runs"]))


def _command(command: str, shape: Shape, folder: Path) -> list[str]:
    if command == "reports.build":
        return [sys.executable, "-m", "reports.build", str(folder / "runs")]
    return [sys.executable, "-m", "harness.study", *_words(shape.commands[-1], folder)]


def _words(words: Sequence[str], folder: Path) -> list[str]:
    """The words of a command, with its runs folder and an encoder that needs no pre-training."""
    place = ("--out", str(folder / "runs"), f"teacher.pretrained={folder / 'encoder'}")
    teacher = ("--allow-weak-teacher", "teacher.epochs=1")
    return ["--preset", "demo", *words, *place, *teacher, "threads=1"]


class FreeClaims(Claims):
    """Claims of a command that is alone with its ledger: nothing is written."""

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """The key is free."""
        yield True


def fill(shape: Shape, folder: Path) -> int:
    """Fill the ledger of `folder`/runs, unless an earlier call has; returns the number of its runs."""
    if not (folder / "filled").exists():
        folder.mkdir(parents=True)
        write_outline(folder / "encoder")
        configs = [
            read_request(parser().parse_intermixed_args(_words(words, folder))).config
            for words in shape.commands
        ]
        with progress(f"{shape.name}: ablations", len(configs)) as advance:
            _fill(configs, advance)
        (folder / "filled").touch()
    return count_runs(folder)


def _fill(configs: Sequence[StudyConfig], advance: Callable[[int], None]) -> None:
    """Write the ablations of these configurations, whose tasks are the same, into one ledger."""
    tasks, _ = load_tasks(configs[0])
    workers = MadeUpWorkers(tasks)
    ledger = Ledger(storage_url(Path(configs[0].out), None))
    with contextlib.closing(ledger), Claims(ledger) as claims:
        optuna = open_optuna(ledger.url, claims)
        for config in configs:
            scheduler, trials = Scheduler(ledger, FreeClaims(ledger), workers), InMemoryStorage()
            # Made-up students have no weights to keep.
            silent = replace(config, keep="none")
            command = "python -m benchmarks.growth"
            ablation = Ablation(silent, ledger, scheduler.populations.claims, trials, command)
            refusals: dict[str, str] = {}
            with redirected(lambda line: None):
                scheduler.start(ablation.flow(tasks, refusals, scheduler))
                scheduler.finish()
            if refusals:
                raise SystemExit("; ".join(refusals.values()))
            copy_studies(trials, optuna)
            advance(1)
        optuna.engine.dispose()


def count_runs(folder: Path) -> int:
    """The number of runs in the ledger of `folder`/runs."""
    with contextlib.closing(Ledger(storage_url(folder / "runs", None))) as ledger:
        query = select(func.count()).select_from(RUNS)
        return ledger.transact(lambda connection: connection.scalar(query)) or 0


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table("ledger", "command", "runs", "s", "processor s", "ms a run more", "MiB")
    for row in rows:
        slope = row["ms_a_run_more"]
        table.add_row(
            row["shape"],
            row["command"],
            f"{row['runs']:,}",
            f"{row['seconds']:.1f}",
            f"{row['processor_seconds']:.1f}",
            "" if slope is None else f"{slope:.2f}",
            f"{row['peak_mebibytes']:.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
