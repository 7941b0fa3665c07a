"""The command line: flags become settings of the configuration, explicit overrides win."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from harness.cli.axes import chosen_axes, is_list
from harness.cli.choices import (
    checked_choice,
    chosen_baseline,
    chosen_preset,
    folder_of,
    named_methods,
    named_tasks,
)
from harness.compose import compose_config, names
from harness.config import NEED_OF_SETTINGS, Keep, Sampler, StudyConfig, Unit
from harness.errors import UserError
from harness.grid import Cell, compose_cells
from harness.models.export_formats import FORMATS, check_export
from harness.paths import name_fault, user_path
from harness.registry.checks import check_at_start
from harness.registry.discovery import chosen_methods
from harness.runtime.output import CommandParser
from harness.tracking.trackers import TRACKERS, check_tracker

LISTS = ("methods", "ablations", "tasks", "presets")
MOST_SEEDS = 20
MOST_TRIALS = 60
FLAGS = {
    "methods": "--method",
    "tasks": "--task",
    "task_files": "--task",
    "baseline": "--baseline",
    "preset": "--preset",
    "source.folder": "--data",
    "transfer.file": "--transfer",
    "teacher.checkpoint": "--teacher",
    "student.checkpoint": "--student",
    "student.layers": "--student-layers",
    "search.sampler": "--sampler",
    "protocol.repeats": "--repeat-search",
    "out": "--out",
    "keep": "--keep",
    "cluster.workers": "--workers",
    "cluster.kind": "--cluster",
    "cluster.address": "--cluster",
}
"""The flag that sets a key of the configuration."""
RESERVED_KEYS = ("methods", "tasks", "task_files", "baseline", "preset")
"""Keys that an override may not set."""
EPILOG = "Any further KEY=VALUE overrides the configuration, e.g. training.epochs=5."


@dataclass(frozen=True)
class Request:
    """The configuration that a command line asks for, and the form of the answer."""

    config: StudyConfig
    notes: tuple[str, ...]
    dry_run: bool
    json: bool
    opens_report: bool
    repairs: bool = False
    """Whether damaged runs and manifests are set aside first."""
    measures_latency: bool = False
    """Whether the speeds of teachers and students are measured at the end."""
    cells: tuple[Cell, ...] = ()
    """The cells of a command with axes. The configuration is then that of the first cell."""
    tracker: str | None = None
    """Where finished runs are tracked; None tracks nowhere."""
    exports: str | None = None
    """The format to which kept students are exported at the end; None exports nothing."""

    @property
    def configs(self) -> list[StudyConfig]:
        """The configurations of the cells, or the one of a command without axes."""
        return [cell.config for cell in self.cells] or [self.config]


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    flags = CommandParser(
        prog="python -m harness.study",
        description="Tune distillation methods, train them over many seeds, and compare them.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    flags.add_argument(
        "--method", metavar="NAME[,NAME...]|all", help="methods or ablations to study"
    )
    flags.add_argument("--task", metavar="NAME[,NAME...]|all", help="GLUE tasks, or YAML files")
    flags.add_argument("--preset", default="auto", help="auto, paper, minilm or demo")
    flags.add_argument("--data", metavar="DIR", help="folder of data files")
    flags.add_argument(
        "--transfer",
        metavar="FILE",
        help="unlabelled texts to distil from, too; {task} stands for the task",
    )
    flags.add_argument(
        "--teacher", metavar="PATH|ID", help="fine-tuned teacher; {task} stands for the task"
    )
    flags.add_argument(
        "--student",
        metavar="PATH|ID",
        help="pre-trained smaller encoder that students start from; {task} stands for the task",
    )
    flags.add_argument(
        "--student-layers", metavar="N[,N...]", help="depth of the student; several are an axis"
    )
    flags.add_argument(
        "--vary",
        metavar="KEY=V1,V2[,...]",
        action="append",
        default=[],
        help="an axis: study every value of a configuration key; several axes make a grid",
    )
    flags.add_argument(
        "--trials",
        metavar="N|auto",
        help="random trials of each method; auto: until the comparison is decided",
    )
    flags.add_argument(
        "--max-trials",
        metavar="N",
        help=f"the most that --trials auto adds (default: {MOST_TRIALS})",
    )
    flags.add_argument(
        "--sampler", metavar="NAME", help="random (default); tpe with protocol.unit=settings"
    )
    flags.add_argument(
        "--seeds",
        metavar="N|auto",
        help="with protocol.unit=settings: report seeds of the best setting; auto: until decided",
    )
    flags.add_argument(
        "--max-seeds", metavar="N", help=f"the most that --seeds auto adds (default: {MOST_SEEDS})"
    )
    flags.add_argument(
        "--repeat-search",
        metavar="R",
        help="repeat teacher and trials (or search and seeds) R times, compare the repeats",
    )
    flags.add_argument(
        "--baseline", metavar="NAME|none", help="method to compare with (default: kd)"
    )
    flags.add_argument("--protocol", metavar="NAME", help="clean (default) or paper")
    flags.add_argument("--out", metavar="DIR", help="folder of all results (default: runs)")
    flags.add_argument("--keep", metavar="WHICH", help="students to keep: best, report or none")
    flags.add_argument(
        "--export",
        metavar="FORMAT",
        help=f"export kept students to {', '.join(FORMATS)} at the end",
    )
    flags.add_argument(
        "--track", metavar="NAME", help=f"track runs with {', '.join(TRACKERS)} (default: nowhere)"
    )
    flags.add_argument(
        "--workers", metavar="N|auto", help="train in N processes; auto: one a GPU, or one a core"
    )
    flags.add_argument(
        "--cluster",
        metavar="NAME|ADDRESS",
        help="train in jobs of slurm, pbs, lsf or sge, or on the Dask cluster at ADDRESS",
    )
    flags.add_argument(
        "--allow-weak-teacher", action="store_true", help="go on with a weak teacher"
    )
    flags.add_argument(
        "--repair", action="store_true", help="set damaged rows aside, and train their runs again"
    )
    flags.add_argument(
        "--latency",
        action="store_true",
        help="measure latency and throughput of teachers and students here, when all runs are there",
    )
    flags.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    flags.add_argument("--list", choices=LISTS, help="show names and stop")
    flags.add_argument(
        "--check-method",
        metavar="NAME[,NAME...]|all",
        help="check methods against every rule of the contract and stop",
    )
    flags.add_argument(
        "--replay", metavar="FINGERPRINT", help="train a recorded run again, compare"
    )
    flags.add_argument("--json", action="store_true", help="one JSON summary on stdout")
    flags.add_argument("--open", action="store_true", help="open the report in a browser")
    flags.add_argument("--debug", action="store_true", help="show tracebacks")
    flags.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration overrides")
    return flags


def replay_request(options: argparse.Namespace) -> tuple[str, Path, str | None]:
    """The fingerprint, the runs folder and the storage of `--replay`. Raises `UserError`."""
    _check_paths(options)
    options_of_replay = {"replay", "out", "json", "debug", "overrides"}
    defaults = parser()
    surplus = [
        f"--{name.replace('_', '-')}"
        for name, value in vars(options).items()
        if name not in options_of_replay and value != defaults.get_default(name)
    ]
    overrides = [text.partition("=") for text in options.overrides]
    surplus += [key for key, _, _ in overrides if key != "storage"]
    if surplus:
        raise UserError(f"--replay takes its configuration from the ledger: leave {surplus[0]} out")
    storage = overrides[-1][2].strip("'\"") if overrides else None
    return options.replay, Path(options.out or StudyConfig.out), storage


def read_request(options: argparse.Namespace) -> Request:
    """Compose the configuration of parsed flags, and check the methods.

    Raises:
        UserError: a flag or a value that cannot be used, or a method that breaks a rule.
    """
    if options.method is None or options.task is None:
        raise UserError("--method and --task are needed (see --list methods, --list tasks)")
    _check_overrides(options.overrides)
    _check_paths(options)
    check_tracker(options.track)
    check_export(options.export)
    if options.repair and options.dry_run:
        raise UserError("--repair changes the ledger, and --dry-run nothing: leave one out")
    tasks, files, task_notes = named_tasks(options.task)
    data = options.data if options.data is not None else folder_of(tasks, files)
    if options.preset == "demo" and files:
        raise UserError(f"--preset demo makes GLUE's tasks only, not {', '.join(files)}")
    preset, preset_notes = chosen_preset(options.preset, data)
    methods = named_methods(options.method)
    baseline = chosen_baseline(options.baseline, methods)
    settings: dict[str, object] = {
        "methods": methods if baseline is None else list(dict.fromkeys([*methods, baseline])),
        "tasks": tasks,
        "baseline": baseline,
        "task_files": {name: Path(file) for name, file in files.items()},
    }
    if data is not None:
        settings |= {"source.kind": "folder", "source.folder": Path(data)}
    if options.allow_weak_teacher:
        settings["teacher.allow_weak"] = True
    flag_settings = {
        "transfer.file": _path(options.transfer),
        "teacher.checkpoint": _path(options.teacher),
        "student.checkpoint": _path(options.student),
        "student.layers": None
        if is_list(options.student_layers)
        else _count("--student-layers", options.student_layers),
        "search.sampler": checked_choice("--sampler", options.sampler, get_args(Sampler)),
        **_number("seeds", "protocol.seeds", options.seeds, options.max_seeds, MOST_SEEDS),
        **_number("trials", "search.trials", options.trials, options.max_trials, MOST_TRIALS),
        "protocol.repeats": _count("--repeat-search", options.repeat_search),
        "out": _path(options.out),
        "keep": checked_choice("--keep", options.keep, get_args(Keep)),
        **_cluster(options.workers, options.cluster, options.overrides),
    }
    settings |= {key: value for key, value in flag_settings.items() if value is not None}
    groups = [f"preset={preset}"]
    if options.cluster in names("cluster"):
        groups.append(f"cluster={options.cluster}")
    if (protocol := checked_choice("--protocol", options.protocol, names("protocol"))) is not None:
        groups.append(f"protocol={protocol}")
    flags = {
        **FLAGS,
        "protocol.seeds": "--seeds" if options.max_seeds is None else "--max-seeds",
        "search.trials": "--trials" if options.max_trials is None else "--max-trials",
    }
    words = [*groups, *options.overrides]
    axes = chosen_axes(options.student_layers, options.vary)
    cells = compose_cells(axes, words, settings, flags) if axes else ()
    words += [f"{axis.key}={axis.texts[0]}" for axis in axes]
    if options.seeds is not None or options.trials == "auto":
        numbers = ("protocol.seeds", "protocol.stopping", "search.trials")
        rest = {key: value for key, value in settings.items() if key not in numbers}
        _check_unit(options, compose_config(words, rest, flags).protocol.unit)
    config = compose_config(words, settings, flags)
    notes = (*preset_notes, *task_notes)
    for method in chosen_methods(config):
        check_at_start(method)
    if options.latency and config.protocol.repeats > 1:
        raise UserError("--latency and --repeat-search: leave one of them out")
    if options.export is not None and config.keep == "none":
        raise UserError(f"--export {options.export}: --keep none keeps no student")
    form = (options.dry_run, options.json, options.open, options.repair, options.latency)
    return Request(config, notes, *form, cells, options.track, options.export)


def _cluster(workers: str | None, cluster: str | None, words: Sequence[str]) -> dict[str, object]:
    """The settings of `--workers` and `--cluster`; `words` are overrides. Raises `UserError`."""
    settings: dict[str, object] = {}
    is_group = any(word.partition("=")[0] == "cluster" for word in words)
    if cluster is not None and is_group:
        raise UserError(f"--cluster {cluster} and cluster= are given: leave one out")
    if workers is not None:
        number = 0 if workers == "auto" else _count("--workers", workers, "auto or a whole number")
        if number == 0 and workers != "auto":
            raise UserError(f"--workers {workers}: must be auto or at least 1")
        settings["cluster.workers"] = number
        if cluster is None and not is_group:
            settings["cluster.kind"] = "machine"
    if cluster is not None and cluster not in names("cluster"):
        if "://" not in cluster:
            kinds = ", ".join(name for name in names("cluster") if name != "local")
            raise UserError(
                f"--cluster {cluster}: neither an address like tcp://HOST:8786 nor {kinds}"
            )
        settings |= {"cluster.kind": "dask", "cluster.address": cluster}
    return settings


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuse words without `=`, and overrides of keys whose flags check the names."""
    for text in overrides:
        if "=" not in text:
            raise UserError(f"'{text}' is neither a flag nor KEY=VALUE")
    keys = [re.split(r"[=.]", text)[0].lstrip("+~") for text in overrides]
    for key in RESERVED_KEYS:
        if key in keys:
            raise UserError(f"'{key}=' is set by {FLAGS[key]}, which also checks the names")


def _number(
    runs: str, key: str, number: str | None, maximum: str | None, most: int
) -> dict[str, object]:
    """The settings of `--seeds` or `--trials`: a fixed number, or `auto` with a maximum."""
    if number == "auto":
        count = most if maximum is None else _count(f"--max-{runs}", maximum)
        return {"protocol.stopping": "sequential", key: count}
    if maximum is not None:
        raise UserError(f"--max-{runs} goes with --{runs} auto")
    return {key: _count(f"--{runs}", number, "auto or a whole number")}


def _check_unit(options: argparse.Namespace, unit: Unit) -> None:
    """Refuse flags of the other unit. Raises `UserError`."""
    if options.trials == "auto" and unit == "settings":
        raise UserError("--trials auto needs protocol.unit=methods; two settings have --seeds auto")
    if options.seeds is not None and unit == "methods":
        need = NEED_OF_SETTINGS["protocol.seeds"]
        raise UserError(f"--seeds {options.seeds} needs protocol.unit=settings: {need}")


def _count(flag: str, text: str | None, form: str = "a whole number") -> int | None:
    """A flag's number, or None without the flag. The configuration checks the range."""
    if text is None:
        return None
    if not re.fullmatch("[+-]?[0-9]{1,9}", text):
        raise UserError(f"{flag} {text}: must be {form}")
    return int(text)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _check_paths(options: argparse.Namespace) -> None:
    """Put home folders in place of `~` in the flags with paths.

    Raises:
        UserError: a path is empty, or no library would find its name.
    """
    for flag in ("data", "transfer", "teacher", "student", "out"):
        text = getattr(options, flag)
        if text == "":
            raise UserError(f"--{flag}: is empty")
        if text is not None and text.startswith("~"):
            setattr(options, flag, str(user_path(text)))
        if text and (fault := name_fault(Path(text))) is not None:
            raise UserError(f"--{flag} {fault}")
