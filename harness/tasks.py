"""Tasks: what the columns, labels, splits and metrics of each GLUE task are (`studies/task/*.yaml`)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from harness.compose import names, read_yaml
from harness.errors import UserError

_STRICT = ConfigDict(extra="forbid")
LEFT_OUT = "wnli"
"""Not part of `--task all`: its validation split is adversarial to its training split."""


@dataclass(frozen=True, config=_STRICT)
class FolderLayout:
    """Official TSV files of a task: where the texts and the label stand, by header name or index."""

    path: str
    columns: tuple[str | int, ...]
    label: str | int
    header: bool = True
    words: Mapping[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class HubLayout:
    """The configuration and text columns of a task in the hub's data set."""

    config: str
    columns: tuple[str, ...]


@dataclass(frozen=True, config=_STRICT)
class Task:
    """One task. `labels` in GLUE's official order; empty for regression, where `scores` bounds it.

    `metrics`: the first one selects and is tested. `evaluation` maps evaluation splits to file names.
    """

    name: str
    title: str
    metrics: Annotated[tuple[str, ...], Field(min_length=1)]
    folder: FolderLayout
    hub: HubLayout
    labels: tuple[str, ...] = ()
    scores: tuple[float, float] | None = None
    evaluation: Mapping[str, str] = Field(default_factory=lambda: {"validation": "dev.tsv"})

    @property
    def regression(self) -> bool:
        """Whether labels are real scores."""
        return self.scores is not None

    @property
    def outputs(self) -> int:
        """Width of the logits."""
        return 1 if self.regression else len(self.labels)


def task_names() -> list[str]:
    """All tasks that can be named, sorted."""
    return names("task")


def load_task(name: str) -> Task:
    """The task of that name. Raises `UserError` with the nearest names for an unknown one."""
    if name not in task_names():
        near = difflib.get_close_matches(name, task_names(), n=2)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else f"choose from {', '.join(task_names())}"
        )
        raise UserError(f"--task {name}: no such task; {hint}")
    values: dict[str, Any] = {"name": name, **read_yaml("task", name)}
    return TypeAdapter(Task).validate_python(values)
