"""Tasks of GLUE (`studies/task/*.yaml`) and of users: columns, labels, splits and metrics."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from harness.compose import names, read_yaml
from harness.data.task_yaml import TaskLoader
from harness.errors import UserError, one_line
from harness.metric_table import METRICS, metric_of
from harness.paths import is_special
from harness.validation_faults import fault_lines

_EXACT_KEYS = ConfigDict(extra="forbid")
Column = StrictStr | Annotated[int, Field(strict=True, ge=0)]
Texts = Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
MetricName = Annotated[StrictStr, AfterValidator(lambda name: metric_of(name).name)]
NO_NAMES = {"all", "null", "true", "false", "nan", "inf"}
"""Names that a user's task cannot have, because they mean something else on a command line."""
LEFT_OUT = "wnli"
"""The task that `--task all` leaves out: its validation split is adversarial to its training split."""


@dataclass(frozen=True, config=_EXACT_KEYS)
class FolderLayout:
    """Files of a task below the data folder, with the columns of texts and label.

    path: the files' folder. columns, label: names in the header, or indices from 0 (TSV and CSV). words:
    labels by the files' spellings. header: whether a TSV or CSV begins with a header. skip_broken_rows:
    whether rows of a TSV or CSV with too few or too many cells are left out and counted; otherwise, and
    always in test files, such a row is an error. test_columns: the columns' names in the header of test
    files, if these names differ from `columns`. The label's column is no column of texts.
    """

    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=2)]
    label: Column
    path: str = "."
    train: str = "train.tsv"
    header: bool = True
    skip_broken_rows: bool = False
    words: Mapping[str, str] = Field(default_factory=dict)
    test_columns: Texts | None = None


@dataclass(frozen=True, config=_EXACT_KEYS)
class HubLayout:
    """Columns of a task in a data set on the hub; `dataset` None stands for `source.dataset`."""

    columns: Texts
    config: str | None = None
    dataset: str | None = None
    label: str = "label"
    words: Mapping[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, config=_EXACT_KEYS)
class TransferLayout:
    """A file of texts without labels, below the data folder, that students are distilled from too.

    columns: names of the columns of texts, by default those of the task's other files. ratio: texts for
    each training example, by default all texts of the file.
    """

    file: str
    columns: Texts | None = None
    ratio: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True, config=_EXACT_KEYS)
class Task:
    """One task of classification, or of regression.

    Rows whose label the source spells as one of `drop_labels` have no label: they are left out and
    counted, in all splits but those of `test`.

    `labels` are in GLUE's official order. For regression `labels` are empty, and `scores` has the range.
    The first of `metrics` selects settings and decides comparisons. `evaluation` maps evaluation splits
    to file names; comparisons use the first. `test` maps splits without labels to file names. Report
    runs predict these splits; GLUE's files may be missing. `folder` and `hub` describe the files and the
    data set on the hub; one of the two may be missing. `transfer` describes unlabelled texts.
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
    drop_labels: tuple[StrictStr | StrictInt | StrictFloat | None, ...] = ()
    transfer: TransferLayout | None = None
    custom: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        score_metrics = [name for name, metric in METRICS.items() if metric.of_scores]
        two_class_metrics = [name for name in self.metrics if METRICS[name].labels == "two classes"]
        for fault, has_fault in (
            ("give either labels or scores", bool(self.labels) == (self.scores is not None)),
            ("labels: at least two, all different", len(set(self.labels)) != len(self.labels)),
            ("labels: at least two, all different", len(self.labels) == 1),
            ("scores: [low, high] with low < high", not _is_ordered(self.scores)),
            ("give folder or hub", self.folder is None and self.hub is None),
            (
                f"metrics: {' and '.join(score_metrics)} are for scores, the others for labels",
                any((name in score_metrics) != self.regression for name in self.metrics),
            ),
            (
                f"metrics: {' and '.join(two_class_metrics)} is for two labels",
                bool(two_class_metrics) and len(self.labels) != 2,
            ),
            ("metrics: a name comes twice", len(set(self.metrics)) != len(self.metrics)),
            (
                "evaluation: train and selection cannot be evaluation splits",
                bool({"train", "selection"} & set(self.evaluation)),
            ),
            (
                "test: the name of another split",
                bool({"train", "selection", *self.evaluation} & set(self.test)),
            ),
            ("folder: as many test_columns as columns", not self._same_texts()),
            ("columns: the label's column cannot be a text", self._label_is_text()),
            ("transfer: as many columns as the task has texts", not self._fits_transfer()),
            ("drop_labels: one of them is a label", self._drops_a_label()),
            ("words: a spelling maps to no label", not self._known_words()),
        ):
            if has_fault:
                raise ValueError(fault)
        return self

    @property
    def _layouts(self) -> list[FolderLayout | HubLayout]:
        return [layout for layout in (self.folder, self.hub) if layout is not None]

    def _known_words(self) -> bool:
        words = {word for layout in self._layouts for word in layout.words.values()}
        return words <= set(self.labels)

    def _fits_transfer(self) -> bool:
        columns = None if self.transfer is None else self.transfer.columns
        return columns is None or not self._layouts or len(columns) == self.texts

    def _label_is_text(self) -> bool:
        texts = [(layout.label, layout.columns) for layout in self._layouts]
        if self.folder is not None and self.folder.test_columns is not None:
            texts.append((self.folder.label, self.folder.test_columns))
        return any(label in columns for label, columns in texts)

    def _drops_a_label(self) -> bool:
        spellings = {word for layout in self._layouts for word in layout.words} | set(self.labels)
        return bool(spellings & self.dropped_spellings)

    @cached_property
    def dropped_spellings(self) -> frozenset[str]:
        """The spellings of the labels of rows that are left out, as `spelling_of` gives them."""
        return frozenset(spelling_of(label) for label in self.drop_labels)

    @property
    def texts(self) -> int:
        """The number of texts of an example, 1 or 2."""
        return len(self._layouts[0].columns)

    def _same_texts(self) -> bool:
        columns = None if self.folder is None else self.folder.test_columns
        return self.folder is None or columns is None or len(columns) == len(self.folder.columns)

    @property
    def regression(self) -> bool:
        """Whether labels are scores, real numbers."""
        return self.scores is not None

    @property
    def identity(self) -> Any:
        """The task's part in a classifier's identity. The identity of a GLUE task is its name."""
        return {"name": self.name, "labels": list(self.labels)} if self.custom else self.name

    @property
    def outputs(self) -> int:
        """Width of the logits."""
        return 1 if self.regression else len(self.labels)


def spelling_of(value: object) -> str:
    """A label as text: a text as it is, any other plain value as JSON."""
    is_plain = value is None or isinstance(value, bool | int | float)
    return json.dumps(value) if is_plain else str(value)


def _is_ordered(scores: tuple[float, float] | None) -> bool:
    return scores is None or -float("inf") < scores[0] < scores[1] < float("inf")


def task_names() -> list[str]:
    """GLUE's tasks, sorted."""
    return names("task")


def load_task(name: str, files: Mapping[str, str] | None = None) -> Task:
    """The task of a name: a task of GLUE, or of a user's file.

    `files` has the users' files by name. Raises `UserError` with the nearest names for an unknown name.
    """
    if files is not None and name in files:
        return read_task(Path(files[name]))
    if name not in task_names():
        suggestions = difflib.get_close_matches(name, task_names(), n=2)
        hint = (
            f"did you mean {' or '.join(suggestions)}?"
            if suggestions
            else f"choose from {', '.join(task_names())}"
        )
        raise UserError(f"--task {name}: no such task; {hint}")
    values: dict[str, Any] = {"name": name, **read_yaml("task", name)}
    return TypeAdapter(Task).validate_python(values)


def is_task_file(text: str) -> bool:
    """Whether a word of `--task` is a file."""
    return text.endswith((".yaml", ".yml"))


def read_task(path: Path) -> Task:
    """A user's task from a YAML file with the keys of `Task`. The task has the file's name.

    Raises:
        UserError: the file cannot be read or describes no task; the message names all faults.
    """
    name = path.stem
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", name) or name in NO_NAMES:
        raise UserError(
            f"--task {path}: name the file with a letter and then a-z, 0-9, - and _ (at most 40)"
        )
    if name in task_names():
        raise UserError(f"--task {path}: {name} is the name of a GLUE task")
    if is_special(path):
        raise UserError(f"--task {path}: cannot be read (it is no regular file)")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=TaskLoader)  # noqa: S506
    except OSError as error:
        raise UserError(f"--task {path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # the parsers of single values raise anything
        raise UserError(f"--task {path}: not YAML ({one_line(error)})") from error
    if not isinstance(values, dict):
        raise UserError(f"--task {path}: not a mapping of keys to values")
    reserved_keys = sorted({"name", "custom"} & set(values))
    if reserved_keys:
        raise UserError(f"--task {path}: unknown key '{reserved_keys[0]}'")
    task_values = {
        **{str(key): value for key, value in values.items()},
        "name": name,
        "custom": True,
    }
    try:
        return TypeAdapter(Task).validate_python(task_values)
    except ValidationError as error:
        raise UserError(f"--task {path}: {'; '.join(fault_lines(error))}") from error
