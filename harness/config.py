"""The typed, validated and frozen configuration of one command; every default lives here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from harness.errors import ConfigError
from harness.metric_table import default_margins, metric_of
from harness.pooling_table import pooling_row

Natural = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Seeds = Annotated[int, Field(ge=1, le=1000, strict=True)]
"""A number of seeds, or of repeats: each repeat of the whole has a thousand seeds of its own."""
Rate = Annotated[float, Field(gt=0, lt=1, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Margin = Annotated[float, Field(ge=1e-4, lt=1, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
Choice = bool | int | float | str
Precision = Literal["auto", "fp32", "tf32", "bf16"]
Keep = Literal["best", "report", "none"]
"""Students whose weights stay on disk: of each study's report runs the best one, all, or none."""
Sampler = Literal["tpe", "random"]

ROUND = 4
"""Settings asked together. A constant of the protocol: results depend on it."""

START_UP = ROUND
"""A search's first settings, which the TPE sampler draws at random; a constant of the protocol too."""

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class SourceConfig:
    """Where task data and the pre-trained encoder come from."""

    kind: Literal["hub", "folder", "demo"] = "demo"
    folder: str | None = None
    dataset: str = "nyu-mll/glue"

    @model_validator(mode="after")
    def _folder_named(self) -> Self:
        if (self.kind == "folder") != (self.folder is not None):
            raise ValueError("source.folder is given exactly when source.kind is 'folder'")
        return self


@dataclass(frozen=True, config=_STRICT)
class TeacherConfig:
    """The teacher: fine-tuned here from `pretrained`, or a fine-tuned `checkpoint` from outside.

    `labels` names a checkpoint's outputs, by task and in its order, where its own names do not.
    """

    pretrained: str = "demo"
    checkpoint: str | None = None
    epochs: Count = 4
    batch_size: Count = 32
    learning_rate: Rate = 5e-5
    seed: Natural = 0
    allow_weak: bool = False
    labels: Mapping[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _labels_of_a_checkpoint(self) -> Self:
        if self.labels and self.checkpoint is None:
            raise ValueError(
                "teacher.labels names the outputs of a teacher from outside (--teacher)"
            )
        return self


@dataclass(frozen=True, config=_STRICT)
class StudentConfig:
    """Depth and initialisation of the student.

    `init` picks the layers copied from the teacher (`skip`: every n/m-th, `first`: the first m,
    `random`: none); `origin` says whether they come from the fine-tuned or the pre-trained one.
    """

    layers: Count = 4
    init: Literal["skip", "first", "random"] = "skip"
    origin: Literal["finetuned", "pretrained"] = "finetuned"


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    """One student's training: AdamW, linear warm-up and decay, a fixed number of epochs.

    `embeddings` can be left as they are. `engine`: runs stacked into one network where the encoder
    allows it, or one at a time through Hugging Face's class.
    """

    epochs: Count = 3
    batch_size: Count = 32
    max_length: Annotated[int, Field(ge=8, le=512, strict=True)] = 128
    weight_decay: Annotated[float, Field(ge=0, strict=True)] = 0.01
    warmup: Fraction = 0.1
    clip_norm: Positive = 1.0
    precision: Precision = "auto"
    embeddings: Literal["trained", "frozen"] = "trained"
    engine: Literal["auto", "stacked", "reference"] = "auto"


@dataclass(frozen=True, config=_STRICT)
class SearchConfig:
    """The search over settings; `space` narrows, fixes or opens hyper-parameters by name.

    A `space` entry is a list: `[value]` fixes, `[low, high]` bounds a numeric range, and any list
    of choices restricts a categorical one.
    """

    trials: Count = 10
    seeds: Seeds = 1
    sampler: Sampler = "tpe"
    learning_rate: tuple[Rate, Rate] = (1e-5, 1e-4)
    weights: Literal["convex", "simplex"] = "convex"
    rungs: tuple[Count, ...] = ()
    """Epochs after which the worse half of a round's settings stops, of each method; none by default."""
    space: Mapping[str, tuple[Choice, ...]] = Field(default_factory=dict)

    @property
    def random_trials(self) -> int:
        """How many of the first trials are drawn at random, whatever the scores of others."""
        return self.trials if self.sampler == "random" else min(self.trials, START_UP)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"search.rungs must rise, not {list(self.rungs)}")
        if self.learning_rate[0] >= self.learning_rate[1]:
            raise ValueError(f"search.learning_rate must be [low, high], not {self.learning_rate}")
        empty = [name for name, choices in self.space.items() if not choices]
        if empty:
            raise ValueError(f"search.space.{empty[0]} is an empty list")
        return self


def _every_margin(margins: Mapping[str, float]) -> Mapping[str, float]:
    """The margins with the default of each metric that has none. Raises `ValueError`."""
    for name in margins:
        metric_of(name)
    return {**default_margins(), **margins}


@dataclass(frozen=True, config=_STRICT)
class ProtocolConfig:
    """Which split selects the setting, how many seeds report it, and what decides."""

    name: Literal["clean", "paper"] = "clean"
    fraction: Rate = 0.1
    least: Count = 100
    most: Count = 2000
    seeds: Seeds = 10
    stopping: Literal["fixed", "sequential"] = "fixed"
    """Whether all `seeds` are run, or more of them, up to so many, until the comparisons are decided."""
    repeats: Annotated[int, Field(ge=1, le=999, strict=True)] = 1
    """How often the whole is done, with another teacher seed, search and report seeds each time."""
    alpha: Rate = 0.05
    margins: Annotated[Mapping[str, Margin], AfterValidator(_every_margin)] = Field(
        default_factory=default_margins
    )
    """By metric the difference below which two methods count as equivalent, fixed before any run. In
    score units: 0.01 is one point."""

    @model_validator(mode="after")
    def _one_unit_of_replication(self) -> Self:
        if self.repeats > 1 and self.stopping == "sequential":
            raise ValueError(
                "protocol.repeats (--repeat-search) wants a fixed number of seeds, not --seeds auto"
            )
        return self

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"protocol.least={self.least} is above protocol.most={self.most}")
        return self


@dataclass(frozen=True, config=_STRICT)
class StudyConfig:
    """Everything one command was asked to do. Raises `ConfigError` through `validate` only."""

    preset: Literal["paper", "minilm", "demo"]
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    baseline: str | None = None
    pooling: Annotated[str, AfterValidator(lambda name: pooling_row(name).name)] = "cls"
    task_files: Mapping[str, str] = Field(default_factory=dict)
    source: SourceConfig = Field(default_factory=SourceConfig)
    teacher: TeacherConfig = Field(default_factory=TeacherConfig)
    student: StudentConfig = Field(default_factory=StudentConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    search: SearchConfig = Field(default_factory=SearchConfig)
    protocol: ProtocolConfig = Field(default_factory=ProtocolConfig)
    out: str = "runs"
    storage: str | None = None
    keep: Keep = "best"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Natural = 0
    """Threads of products on a CPU; 0 takes the physical cores. One is best for tiny models."""

    @model_validator(mode="after")
    def _rungs_within_the_training(self) -> Self:
        if self.search.rungs and self.search.rungs[-1] >= self.training.epochs:
            raise ValueError(
                f"search.rungs: {self.search.rungs[-1]} is not before the last of "
                f"{self.training.epochs} epochs"
            )
        return self

    @model_validator(mode="after")
    def _something_to_decide(self) -> Self:
        if self.protocol.stopping == "sequential" and self.baseline is None:
            raise ValueError("protocol.stopping=sequential (--seeds auto) needs a baseline")
        return self

    @model_validator(mode="after")
    def _labels_of_a_task(self) -> Self:
        unknown = [name for name in self.teacher.labels if name not in self.tasks]
        if unknown:
            raise ValueError(f"teacher.labels.{unknown[0]}: no task of this command")
        return self


_ADAPTER = TypeAdapter(StudyConfig)


def validate(values: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> StudyConfig:
    """Turn plain composed values into a `StudyConfig`.

    `labels` are names to show instead of dotted keys.

    Raises:
        ConfigError: naming all faults, in one line.
    """
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        raise ConfigError("; ".join(fault_lines(error, labels))) from error


def fault_lines(error: ValidationError, labels: Mapping[str, str] | None = None) -> list[str]:
    """The faults that pydantic found: a line for each, with its dotted key or that key's label."""
    return [_fault_line(detail, labels or {}) for detail in error.errors()]


def _fault_line(detail: Any, labels: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "unexpected_keyword_argument":
        return f"unknown key '{key}'"
    if detail["type"] == "missing":
        return f"'{key}' is missing"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:].replace("tuple", "list")
    value = "" if detail["type"] == "value_error" else f" (got {detail['input']!r})"
    return f"{labels.get(key, key)}: {message}{value}" if key else message


def plain(config: StudyConfig) -> dict[str, Any]:
    """The configuration as plain JSON values, as written into manifests."""
    dumped: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    return dumped
