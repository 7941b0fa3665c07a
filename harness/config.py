"""The typed, validated and frozen configuration of one command; every default lives here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass

from harness.errors import ConfigError
from harness.loss_stages import CONSTANT, in_one_form, read_stages
from harness.metric_table import default_margins, metric_of
from harness.paths import user_path
from harness.pooling_table import pooling_row
from harness.validation_faults import fault_lines

Natural = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
MAX_SEEDS = 1000
Seeds = Annotated[int, Field(ge=1, le=MAX_SEEDS, strict=True)]
"""A number of seeds. A repeat has a thousand seeds, so no study has more."""
Rate = Annotated[float, Field(gt=0, lt=1, strict=True)]
Level = Annotated[float, Field(ge=0.001, lt=0.5, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Margin = Annotated[float, Field(ge=1e-4, lt=1, strict=True)]
PositiveNumber = Annotated[float, Field(gt=0, strict=True)]
Choice = bool | int | float | str
PathText = Annotated[
    str, AfterValidator(lambda text: str(user_path(text)) if text.startswith("~") else text)
]
"""The text of a path. A leading `~` becomes the home folder."""
Precision = Literal["auto", "fp32", "tf32", "bf16"]
Keep = Literal["best", "report", "none"]
"""The students whose weights stay on disk: the best one of a study's report runs, all, or none."""
Sampler = Literal["random", "tpe"]
Criterion = Literal["metric", "loss"]
"""The selection score of a trial: the task's first metric, whose ties the loss on the labels breaks; or
the loss alone."""
Unit = Literal["methods", "settings"]
"""The subject of a verdict: methods that are tuned anew, or two settings that one search each found."""

ROUND = 4
"""The number of settings in a search round. Results depend on this constant of the protocol."""

FIRST_LOOK = 20
"""The trials of each method at the first look at pools, if their maximum is not lower."""

LOOK_STEP = 10
"""The trials from one look to the next. Verdicts depend on both numbers: constants of the protocol."""

START_UP = ROUND
"""The number of first settings that the TPE sampler draws at random; a constant of the protocol too."""

OWN_SHAPE = ("checkpoint", "width", "heads", "intermediate")
"""Keys of a student whose shape is not its teacher's."""

NEED_OF_SETTINGS = {
    **dict.fromkeys(
        ("search.sampler", "search.seeds", "search.rungs"),
        "the trials of a pool are independent runs",
    ),
    "protocol.seeds": "each trial of a pool has a seed of its own (--trials N, or --trials auto)",
    "protocol.name": "a pool selects on a part of the training split",
}
"""The reason why a key of the configuration needs `protocol.unit=settings`."""

_EXACT_KEYS = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_EXACT_KEYS)
class SourceConfig:
    """The source of task data: Hugging Face's hub, a folder, or the demo's generator."""

    kind: Literal["hub", "folder", "demo"] = "demo"
    folder: PathText | None = None
    dataset: str = "nyu-mll/glue"

    @model_validator(mode="after")
    def _check_folder(self) -> Self:
        if (self.kind == "folder") != (self.folder is not None):
            raise ValueError("source.folder is given exactly when source.kind is 'folder'")
        return self


@dataclass(frozen=True, config=_EXACT_KEYS)
class TransferConfig:
    """Unlabelled texts that students are distilled from, beside the training part.

    `file` has the texts, and {task} in its path stands for the task. `ratio` is the number of texts for
    each training example; by default all of the file. Both go before what a task's own file says.
    """

    file: PathText | None = None
    ratio: PositiveNumber | None = None


@dataclass(frozen=True, config=_EXACT_KEYS)
class TeacherConfig:
    """The teacher: fine-tuned here from `pretrained`, or a fine-tuned `checkpoint` from outside.

    `labels` gives the names of a checkpoint's outputs by task, in the checkpoint's order. They replace
    names in the checkpoint that differ from the task's labels.
    """

    pretrained: PathText = "demo"
    checkpoint: PathText | None = None
    epochs: Count = 4
    batch_size: Count = 32
    learning_rate: Rate = 5e-5
    seed: Natural = 0
    allow_weak: bool = False
    labels: Mapping[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.labels and self.checkpoint is None:
            raise ValueError(
                "teacher.labels names the outputs of a teacher from outside (--teacher)"
            )
        return self


@dataclass(frozen=True, config=_EXACT_KEYS)
class StudentConfig:
    """Shape and initialisation of the student.

    A student of m layers copies layers from a model of n layers. `init` chooses the layers: `skip` every
    n/m-th, `first` the first m, `random` no layer. `origin` chooses the model: the fine-tuned teacher,
    or the pre-trained encoder. A `checkpoint` is another pre-trained encoder to start from, with its own
    width, heads, vocabulary and tokenizer.
    """

    layers: Count | None = 4
    """None takes all layers of the model, as a checkpoint has by default."""
    init: Literal["skip", "first", "random"] = "skip"
    origin: Literal["finetuned", "pretrained"] = "finetuned"
    checkpoint: PathText | None = None
    """A folder or a hub id, in which `{task}` stands for the task."""
    width: Count | None = None
    """The width of a random student; None takes the teacher's."""
    heads: Count | None = None
    """The attention heads of a random student; None keeps the width of a head."""
    intermediate: Count | None = None
    """The inner width of a random student's feed-forward layers; None keeps its ratio to the width."""

    @property
    def has_own_shape(self) -> bool:
        """Whether a student differs from its teacher in more than the depth."""
        return any(getattr(self, key) is not None for key in OWN_SHAPE)

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The values that fingerprints hash: those of `OWN_SHAPE` only where they are not None."""
        values: dict[str, Any] = handler(self)
        return {k: v for k, v in values.items() if v is not None or k not in OWN_SHAPE}

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        sizes = [
            key for key in ("width", "heads", "intermediate") if getattr(self, key) is not None
        ]
        if sizes and self.checkpoint is not None:
            raise ValueError(f"student.{sizes[0]} is the checkpoint's own: leave it out")
        if sizes and self.init != "random":
            raise ValueError(
                f"student.{sizes[0]} needs student.init=random: layers of another shape cannot be copied"
            )
        if self.checkpoint is None:
            return self
        if self.origin != "finetuned":
            raise ValueError(
                "student.origin is not read with student.checkpoint: it starts from the checkpoint"
            )
        if self.init == "first" and self.layers is None:
            raise ValueError(
                "student.init=first is skip where all layers of a checkpoint are copied: give skip, or "
                "fewer layers (student.layers)"
            )
        return self


@dataclass(frozen=True, config=_EXACT_KEYS)
class TrainingConfig:
    """One student's training: AdamW, linear warm-up and decay, a fixed number of epochs.

    With frozen `embeddings` training leaves the embeddings unchanged. The stacked `engine` trains many
    runs as one network, and the reference engine trains one run at a time with Hugging Face's class.
    `auto` takes the stacked engine for each encoder that allows stacking. `stages` says when each loss
    acts (`harness.loss_stages`).
    """

    epochs: Count = 3
    batch_size: Count = 32
    max_length: Annotated[int, Field(ge=8, le=512, strict=True)] = 128
    weight_decay: Annotated[float, Field(ge=0, strict=True)] = 0.01
    warmup: Fraction = 0.1
    clip_norm: PositiveNumber = 1.0
    precision: Precision = "auto"
    embeddings: Literal["trained", "frozen"] = "trained"
    engine: Literal["auto", "stacked", "reference"] = "auto"
    stages: Annotated[str, Field(strict=True), AfterValidator(in_one_form)] = CONSTANT


@dataclass(frozen=True, config=_EXACT_KEYS)
class SearchConfig:
    """The search over settings. `space` changes the ranges of hyper-parameters by name.

    A `space` entry is a list: `[value]` fixes, `[low, high]` bounds a numeric range, and any list
    of choices restricts a categorical one.
    """

    trials: Count = 40
    seeds: Seeds = 1
    sampler: Sampler = "random"
    criterion: Criterion = "metric"
    learning_rate: tuple[Rate, Rate] = (1e-5, 1e-4)
    weights: Literal["convex", "simplex"] = "convex"
    rungs: tuple[Count, ...] = ()
    """Epochs at which the worse half of a method's settings in a round stops; by default no epochs."""
    space: Mapping[str, tuple[Choice, ...]] = Field(default_factory=dict)

    @property
    def random_trials(self) -> int:
        """The number of first trials whose settings do not depend on other trials' scores."""
        return self.trials if self.sampler == "random" else min(self.trials, START_UP)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"search.rungs must rise, not {list(self.rungs)}")
        if self.learning_rate[0] >= self.learning_rate[1]:
            raise ValueError(f"search.learning_rate must be [low, high], not {self.learning_rate}")
        empty_names = [name for name, choices in self.space.items() if not choices]
        if empty_names:
            raise ValueError(f"search.space.{empty_names[0]} is an empty list")
        return self


def _complete_margins(margins: Mapping[str, float]) -> Mapping[str, float]:
    """The margins, with defaults for other metrics. Raises `ValueError` for unknown metrics."""
    for name in margins:
        metric_of(name)
    return {**default_margins(), **margins}


@dataclass(frozen=True, config=_EXACT_KEYS)
class ProtocolConfig:
    """The protocol: the split that selects settings, the report seeds, and the tests' parameters."""

    name: Literal["clean", "paper"] = "clean"
    unit: Unit = "methods"
    """`methods` compares tuned scores: each method has a pool of `search.trials` independent random
    trials. `settings` compares the best settings of two searches over report seeds."""
    budget: Count = 4
    """The number of trials of a tuner, of which a tuned score speaks; for `unit=methods` alone."""
    fraction: Rate = 0.1
    """The share of the training split that selects, within `least` and `most` examples. The demo has a
    selection split instead."""
    least: Count = 100
    most: Count = 2000
    seeds: Seeds = 10
    """Report seeds of a setting, for `unit=settings` alone: a trial of a pool has its own seed."""
    stopping: Literal["fixed", "sequential"] = "fixed"
    """`fixed` runs all `seeds`, or all `search.trials` of a pool. `sequential` adds seeds or trials, at
    most as many, until all comparisons are decided."""
    repeats: Annotated[int, Field(ge=1, le=999, strict=True)] = 1
    """The number of repeats. Each repeat has another teacher seed, and other search and report seeds."""
    alpha: Level = 0.05
    margins: Annotated[Mapping[str, Margin], AfterValidator(_complete_margins)] = Field(
        default_factory=default_margins
    )
    """The margin of equivalence by metric, in score units: 0.01 is one point. Methods whose difference
    is below the margin count as equivalent. The margins are fixed before any run."""

    @model_validator(mode="after")
    def _check_replication(self) -> Self:
        if self.repeats > 1 and self.stopping == "sequential":
            unit = "trials" if self.unit == "methods" else "seeds"
            raise ValueError(
                f"protocol.repeats (--repeat-search) wants a fixed number of {unit}, not --{unit} auto"
            )
        return self

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"protocol.least={self.least} is above protocol.most={self.most}")
        return self


@dataclass(frozen=True, config=_EXACT_KEYS)
class ChecksConfig:
    """Limits on a task's data, as shares from 0 to 1. No result depends on them.

    Data above `most_duplicates` or `most_unknown` are refused; the limit 1 allows all data. Data above
    `usual_unknown` or `usual_truncated` raise a warning, and a banner on reports and model cards.
    """

    most_duplicates: Share = 0.1
    """The share of an evaluation split's examples whose texts are in the training file too."""
    most_unknown: Share = 0.5
    """The share of a split's tokens that the tokenizer does not know."""
    usual_unknown: Share = 0.02
    usual_truncated: Share = 0.05
    """The share of a split's examples that are longer than `training.max_length`."""


@dataclass(frozen=True, config=_EXACT_KEYS)
class ClusterConfig:
    """The workers that train. No result depends on them, up to the last digits."""

    kind: Literal["local", "machine", "dask", "slurm", "pbs", "lsf", "sge"] = "local"
    """`local` is the command's own process, `machine` several processes on its machine, `dask` a Dask
    cluster that runs at `address`. The others start jobs of that scheduler."""
    workers: Natural = 0
    """Processes on the machine, where 0 takes one for each GPU, or one for each share of the cores; or
    jobs, at least 1."""
    address: str | None = None
    """The address of the scheduler of `dask`, such as tcp://HOST:8786."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Arguments of the scheduler's class in `dask_jobqueue`."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        """Refuse keys that the kind does not read."""
        has_jobs = self.kind not in ("local", "machine", "dask")
        for key, is_set, is_read in (
            ("workers", self.workers > 0, has_jobs or self.kind == "machine"),
            ("address", self.address is not None, self.kind == "dask"),
            ("options", bool(self.options), has_jobs),
        ):
            if is_set and not is_read:
                raise ValueError(f"cluster.{key} is not read with cluster.kind={self.kind}")
        if self.kind == "dask" and self.address is None:
            raise ValueError("cluster.kind=dask needs cluster.address (--cluster ADDRESS)")
        if has_jobs and not self.workers:
            raise ValueError(
                f"cluster.kind={self.kind} needs cluster.workers, at least 1 (--workers)"
            )
        return self


@dataclass(frozen=True, config=_EXACT_KEYS)
class StudyConfig:
    """The whole configuration of one command. `validate` makes it and raises `ConfigError`."""

    preset: Literal["paper", "minilm", "demo"]
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    baseline: str | None = None
    pooling: Annotated[str, AfterValidator(lambda name: pooling_row(name).name)] = "cls"
    """The states of each layer that the methods match. The classifier's head always reads the first
    token."""
    task_files: Mapping[str, PathText] = Field(default_factory=dict)
    source: SourceConfig = Field(default_factory=SourceConfig)
    transfer: TransferConfig = Field(default_factory=TransferConfig)
    teacher: TeacherConfig = Field(default_factory=TeacherConfig)
    student: StudentConfig = Field(default_factory=StudentConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    search: SearchConfig = Field(default_factory=SearchConfig)
    protocol: ProtocolConfig = Field(default_factory=ProtocolConfig)
    checks: ChecksConfig = Field(default_factory=ChecksConfig)
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    out: PathText = "runs"
    storage: str | None = None
    keep: Keep = "best"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Natural = 0
    """Threads of matrix products on a CPU. 0 takes OMP_NUM_THREADS, or else the physical cores that the
    process may use. One thread is best for tiny models."""

    @property
    def search_runs(self) -> int:
        """The number of search runs of each method on each task."""
        return 0 if self.protocol.unit == "methods" else self.search.trials * self.search.seeds

    @property
    def report_runs(self) -> int:
        """The number of report runs of each method on each task: trials of a pool, or report seeds."""
        return self.search.trials if self.protocol.unit == "methods" else self.protocol.seeds

    @model_validator(mode="after")
    def _check_rungs(self) -> Self:
        if self.search.rungs and self.search.rungs[-1] >= self.training.epochs:
            raise ValueError(
                f"search.rungs: {self.search.rungs[-1]} is not before the last of "
                f"{self.training.epochs} epochs"
            )
        first_share = read_stages(self.training.stages).first_share
        if self.search.rungs and self.search.rungs[0] <= (first_share or 0) * self.training.epochs:
            raise ValueError(
                f"search.rungs: after epoch {self.search.rungs[0]} only layer terms have acted "
                f"(training.stages={self.training.stages}), so scores say nothing of a setting"
            )
        return self

    @model_validator(mode="after")
    def _check_stopping(self) -> Self:
        if self.protocol.stopping == "sequential" and self.baseline is None:
            unit = "trials" if self.protocol.unit == "methods" else "seeds"
            raise ValueError(f"protocol.stopping=sequential (--{unit} auto) needs a baseline")
        return self

    @model_validator(mode="after")
    def _check_unit(self) -> Self:
        if self.protocol.unit == "settings":
            if self.protocol.budget != ProtocolConfig.budget:
                raise ValueError(
                    f"protocol.budget={self.protocol.budget} needs protocol.unit=methods: report seeds "
                    "train the one setting that a search found"
                )
            return self
        for key, value, required in (
            ("search.sampler", self.search.sampler, "random"),
            ("search.seeds", self.search.seeds, 1),
            ("search.rungs", list(self.search.rungs), []),
            ("protocol.seeds", self.protocol.seeds, ProtocolConfig.seeds),
            ("protocol.name", self.protocol.name, "clean"),
        ):
            if value != required:
                raise ValueError(
                    f"{key}={value} needs protocol.unit=settings: {NEED_OF_SETTINGS[key]}"
                )
        if 2 * self.protocol.budget > self.search.trials:
            raise ValueError(
                f"search.trials={self.search.trials} is too few: a budget of {self.protocol.budget} "
                f"needs at least {2 * self.protocol.budget} trials (protocol.budget)"
            )
        if self.protocol.stopping == "sequential" and 2 * self.protocol.budget > FIRST_LOOK:
            raise ValueError(
                f"protocol.budget={self.protocol.budget} is above half of the first look at "
                f"{FIRST_LOOK} trials (--trials auto)"
            )
        if self.search.trials > MAX_SEEDS:
            raise ValueError(f"search.trials={self.search.trials}: a pool has at most {MAX_SEEDS}")
        return self

    @model_validator(mode="after")
    def _check_selection(self) -> Self:
        for key in ("fraction", "least", "most"):
            value = getattr(self.protocol, key)
            if self.source.kind == "demo" and value != getattr(ProtocolConfig, key):
                raise ValueError(
                    f"protocol.{key}={value} has no effect: the demo has a selection split of its own"
                )
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        unknown_tasks = [name for name in self.teacher.labels if name not in self.tasks]
        if unknown_tasks:
            raise ValueError(f"teacher.labels.{unknown_tasks[0]}: no task of this command")
        return self


_ADAPTER = TypeAdapter(StudyConfig)


def validate(values: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> StudyConfig:
    """The `StudyConfig` with these values, from a composed configuration.

    `labels` replace dotted keys in messages.

    Raises:
        ConfigError: the values have faults. The message names all faults in one line.
    """
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        raise ConfigError("; ".join(fault_lines(error, labels))) from error


def json_values(config: StudyConfig) -> dict[str, Any]:
    """The configuration as JSON values, as manifests hold them."""
    values: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    return values
