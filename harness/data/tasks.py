"""Tasks: the columns, labels, splits and metrics of GLUE's (`studies/task/*.yaml`) and of users' own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from harness.compose import names, read_yaml
from harness.config import fault_lines
from harness.errors import UserError, one_line
from harness.metric_table import METRICS, metric_of

_STRICT = ConfigDict(extra="forbid")
Column = StrictStr | Annotated[int, Field(strict=True, ge=0)]
Texts = Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
MetricName = Annotated[StrictStr, AfterValidator(lambda name: metric_of(name).name)]
NO_NAMES = {"all", "null", "true", "false", "nan", "inf"}
"""Words that mean something else on a command line."""
LEFT_OUT = "wnli"
"""Not part of `--task all`: its validation split is adversarial to its training split."""


@dataclass(frozen=True, config=_STRICT)
class FolderLayout:
    """Files of a task below the data folder: where the texts and the label stand.

    path: their folder. columns, label: names in the header, or indices from 0 (TSV and CSV). words:
    how the files spell the labels. header: whether a TSV or CSV begins with one. skip_broken_rows:
    whether rows of a TSV or CSV with too few or too many cells are left out, and counted, or refused;
    of a test file they are always refused. test_columns: the columns' names in the header of test files,
    where those are laid out otherwise.
    """

    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=2)]
    label: Column
    path: str = "."
    train: str = "train.tsv"
    header: bool = True
    skip_broken_rows: bool = False
    words: Mapping[str, str] = Field(default_factory=dict)
    test_columns: Texts | None = None


@dataclass(frozen=True, config=_STRICT)
class HubLayout:
    """Columns of a task in a data set on the hub; `dataset` None stands for `source.dataset`."""

    columns: Texts
    config: str | None = None
    dataset: str | None = None
    label: str = "label"
    words: Mapping[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class Task:
    """One task. `labels` in GLUE's official order; empty for regression, where `scores` bounds it.

    `metrics`: the first one selects and is tested. `evaluation` maps evaluation splits to file names;
    the first is tested. `test` maps splits without labels to file names, for report runs to predict;
    GLUE's may be missing. `folder`, `hub`: how to read it from files and from the hub, where it can be.
    """

    name: str
    title: str
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)]
    folder: FolderLayout | None = None
    hub: HubLayout | None = None
    labels: tuple[str, ...] = ()
    scores: tuple[float, float] | None = None
    evaluation: Annotated[Mapping[str, str], Field(min_length=1)] = Field(
        default_factory=lambda: {"validation": "dev.tsv"}
    )
    test: Mapping[str, str] = Field(default_factory=dict)
    custom: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        of_scores = [name for name, metric in METRICS.items() if metric.of_scores]
        of_two = [name for name in self.metrics if METRICS[name].labels == "two classes"]
        for fault, found in (
            ("give either labels or scores", bool(self.labels) == (self.scores is not None)),
            ("labels: at least two, all different", len(set(self.labels)) != len(self.labels)),
            ("labels: at least two, all different", len(self.labels) == 1),
            ("scores: [low, high] with low < high", not _ordered(self.scores)),
            ("give folder or hub", self.folder is None and self.hub is None),
            (
                f"metrics: {' and '.join(of_scores)} are for scores, the others for labels",
                any((name in of_scores) != self.regression for name in self.metrics),
            ),
            (
                f"metrics: {' and '.join(of_two)} is for two labels",
                bool(of_two) and len(self.labels) != 2,
            ),
            ("metrics: one is named twice", len(set(self.metrics)) != len(self.metrics)),
            (
                "evaluation: train and selection are no evaluation splits",
                bool({"train", "selection"} & set(self.evaluation)),
            ),
            (
                "test: the name of another split",
                bool({"train", "selection", *self.evaluation} & set(self.test)),
            ),
            ("folder: as many test_columns as columns", not self._same_texts()),
            ("words: a spelling stands for no label", not self._known_words()),
        ):
            if found:
                raise ValueError(fault)
        return self

    def _known_words(self) -> bool:
        layouts = [layout for layout in (self.folder, self.hub) if layout is not None]
        return {word for layout in layouts for word in layout.words.values()} <= set(self.labels)

    def _same_texts(self) -> bool:
        columns = None if self.folder is None else self.folder.test_columns
        return self.folder is None or columns is None or len(columns) == len(self.folder.columns)

    @property
    def regression(self) -> bool:
        """Whether labels are real scores."""
        return self.scores is not None

    @property
    def identity(self) -> Any:
        """What a classifier of the task depends on beside the data: GLUE's are known by name."""
        return {"name": self.name, "labels": list(self.labels)} if self.custom else self.name

    @property
    def outputs(self) -> int:
        """Width of the logits."""
        return 1 if self.regression else len(self.labels)


def _ordered(scores: tuple[float, float] | None) -> bool:
    return scores is None or -float("inf") < scores[0] < scores[1] < float("inf")


def task_names() -> list[str]:
    """GLUE's tasks, sorted."""
    return names("task")


def load_task(name: str, files: Mapping[str, str] | None = None) -> Task:
    """The task of that name: one of GLUE's, or one that a user's file describes.

    `files` are the users' own, by name. Raises `UserError` with the nearest names for an unknown one.
    """
    if files is not None and name in files:
        return read_task(Path(files[name]))
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


class _Loader(yaml.SafeLoader):
    """Safe, and strict: a key that stands twice is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        doubled = [key for key in keys if keys.count(key) > 1]
        if doubled:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{doubled[0]}' stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def is_task_file(text: str) -> bool:
    """Whether a word of `--task` is a file, and not a name."""
    return text.endswith((".yaml", ".yml"))


def read_task(path: Path) -> Task:
    """A user's task: a YAML file with the keys of `Task`; its name is the file's.

    Raises:
        UserError: it cannot be read, or describes no task; all faults are named.
    """
    name = path.stem
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", name) or name in NO_NAMES:
        raise UserError(
            f"--task {path}: name the file with a letter and then a-z, 0-9, - and _ (at most 40)"
        )
    if name in task_names():
        raise UserError(f"--task {path}: {name} is the name of a GLUE task")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506
    except OSError as error:
        raise UserError(f"--task {path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # the parsers of single values raise anything
        raise UserError(f"--task {path}: not YAML ({one_line(error)})") from error
    if not isinstance(values, dict):
        raise UserError(f"--task {path}: not a mapping of keys to values")
    own = sorted({"name", "custom"} & set(values))
    if own:
        raise UserError(f"--task {path}: unknown key '{own[0]}'")
    described = {**{str(key): value for key, value in values.items()}, "name": name, "custom": True}
    try:
        return TypeAdapter(Task).validate_python(described)
    except ValidationError as error:
        raise UserError(f"--task {path}: {'; '.join(fault_lines(error))}") from error
