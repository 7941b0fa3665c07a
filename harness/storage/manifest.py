"""The manifest of an ablation: the comparisons, the data, the protocol and the versions.

`harness.experiment.manifest` writes the manifest when the last teacher is there. No part of it depends
on a run. The ledger keeps it as JSON. All readers of results start from the manifest. The module never
imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from harness.config import StudyConfig
from harness.runtime.provenance import Provenance

_EXACT_KEYS = ConfigDict(extra="forbid")


class Contrast(NamedTuple):
    """One comparison of an ablation's family: a method against a baseline on a task."""

    task: str
    method: str
    baseline: str


class SeedRequest(NamedTuple):
    """The report seeds or trials of one command: a fixed number, or the maximum of a sequential rule."""

    rule: Literal["fixed", "sequential"]
    seeds: int


@dataclass(frozen=True, config=_EXACT_KEYS)
class Source:
    """The source of the data, with the folder as the command named it."""

    kind: Literal["hub", "folder", "demo"]
    folder: str | None


@dataclass(frozen=True, config=_EXACT_KEYS)
class SplitFacts:
    """Counts of a split that say what its scores can mean."""

    examples: int
    left_out: int
    """Rows of the file or data set that are no examples: broken rows, and rows without a label."""
    duplicates: int | None
    """Examples whose texts are training examples too; None for the training split and test splits."""
    truncated: int
    """Examples that are cut at `training.max_length` tokens."""
    words: int
    """Tokens of the texts."""
    unknown: int
    """Tokens that stand for text outside the tokenizer's vocabulary."""

    @property
    def duplicate_share(self) -> float:
        """The share of examples whose texts are training examples too."""
        return (self.duplicates or 0) / self.examples

    @property
    def truncated_share(self) -> float:
        """The share of examples that are cut."""
        return self.truncated / self.examples

    @property
    def unknown_share(self) -> float:
        """The share of tokens that are unknown; 1 where the tokenizer finds no token at all."""
        return self.unknown / self.words if self.words else 1.0


@dataclass(frozen=True, config=_EXACT_KEYS)
class TaskFacts:
    """A task and its data. `labels` are empty for regression. The first metric decides."""

    title: str
    labels: tuple[str, ...]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)]
    sizes: Mapping[str, int]
    """Examples by split."""
    sha256: Mapping[str, str]
    """Hashes of the data by split."""
    constant: float
    """The primary metric of a constant prediction on the first evaluation split."""
    splits: Mapping[str, SplitFacts] = Field(default_factory=dict)
    """Counts by split; empty in ledgers of earlier versions."""

    @property
    def unlabelled(self) -> int:
        """The number of unlabelled texts that students of all methods are distilled from too."""
        return self.sizes.get("transfer", 0)


@dataclass(frozen=True, config=_EXACT_KEYS)
class TeacherFacts:
    """A task's teacher. In a joint manifest: the facts that all repeats share, with mean scores."""

    fingerprint: str
    task: str
    name: str
    origin: str
    metrics: Mapping[str, Mapping[str, float]]
    """Scores by split and metric."""
    constant: float
    """The primary metric of a constant prediction on the selection split."""
    weak: bool
    """Whether the teacher's score on the selection split is not above `constant`."""
    layers: int
    width: int
    seconds: float
    """Seconds of fine-tuning; 0 for a teacher from outside."""
    variance_shares: tuple[float, ...]
    """Share of each layer's pooled energy that varies between examples; empty for repeats."""
    second_recipe: str = ""
    """A sentence on the recipe, where the configuration's was no better than a constant; else empty."""


@dataclass(frozen=True, config=_EXACT_KEYS)
class MethodCard:
    """A method's name, sources and hyper-parameters, in words."""

    name: str
    aliases: tuple[str, ...]
    summary: str
    paper: str
    form: str
    needs: tuple[str, ...]
    """The outputs that the method reads from a teacher that runs in every step."""
    hyper_parameters: Mapping[str, str]


class AxisContrast(NamedTuple):
    """One comparison along an axis: a method in a cell against the same method in another cell.

    The cells, which `subject` and `reference` are tasks of, differ in the value of the axis alone.
    """

    axis: str
    method: str
    subject: str
    reference: str


@dataclass(frozen=True, config=_EXACT_KEYS)
class CellFacts:
    """A cell: its values by axis, and its configuration, with absolute folders and no password."""

    values: Mapping[str, JsonValue]
    config: StudyConfig


@dataclass(frozen=True, config=_EXACT_KEYS)
class Place:
    """The place of a task in a grid: the task's own name, and the name of its cell."""

    task: str
    cell: str


@dataclass(frozen=True, config=_EXACT_KEYS)
class Grid:
    """The grid of an ablation with axes. Each task of such a manifest is a task in one cell."""

    axes: Mapping[str, tuple[JsonValue, ...]]
    """The values of each axis, in the order of the command, by key of the configuration."""
    cells: Mapping[str, CellFacts]
    places: Mapping[str, Place]
    """By task of the manifest."""
    family: tuple[AxisContrast, ...]
    """The comparisons along the axes: a family of their own."""

    def values_of(self, task: str) -> Mapping[str, JsonValue]:
        """The axes' values of a task of the manifest."""
        return self.cells[self.places[task].cell].values


@dataclass(frozen=True, config=_EXACT_KEYS)
class Manifest:
    """One ablation. The joint manifest of repeats has `repeats`; a repeat's own has `repeat`.

    With axes it has a `grid`, and `config` is that of the first cell.
    """

    name: str
    command: str
    source: Source
    config: StudyConfig
    """The configuration, with absolute folders and no password."""
    students: str
    """The depth and the start of the students, in words."""
    banners: tuple[str, ...]
    tasks: Mapping[str, TaskFacts]
    teachers: Mapping[str, TeacherFacts]
    methods: Mapping[str, MethodCard]
    studies: Mapping[str, Mapping[str, str]]
    """Names of studies by task and method; empty names in a joint manifest."""
    family: tuple[Contrast, ...]
    random_trials: int
    """The number of first trials that are drawn at random."""
    search_seeds: tuple[int, ...]
    report_seeds: tuple[int, ...]
    """The report seeds; in a joint manifest the numbers of the repeats."""
    seed_requests: tuple[SeedRequest, ...]
    """The requests for report seeds, or for trials of pools: of earlier commands that left results, then
    of this command."""
    storage: str
    provenance: Provenance
    refused: Mapping[str, str]
    """The reasons why tasks, or methods on a task, are left out."""
    broken_plugins: Mapping[str, str]
    repeat: int | None = None
    """The number of the repeat, from 0."""
    repeats: tuple[str | None, ...] = ()
    """The repeats' ablations in order; None for a repeat that could not be trained."""
    replication: str | None = None
    """The parts that each repeat draws anew, in words."""
    grid: Grid | None = Field(default=None, exclude_if=lambda grid: grid is None)
    """The axes and cells; None, and not in the JSON, without axes."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        """Check that all names that studies and tasks use are described."""
        methods = {method for studies in self.studies.values() for method in studies}
        metrics = {metric for task in self.tasks.values() for metric in task.metrics}
        for group, names, described_names in (
            ("tasks", self.studies.keys(), self.tasks.keys()),
            ("teachers", self.studies.keys(), self.teachers.keys()),
            ("methods", methods, self.methods.keys()),
            ("config.protocol.margins", metrics, self.config.protocol.margins.keys()),
        ):
            if missing_names := sorted(names - described_names):
                raise ValueError(f"{group}.{missing_names[0]} is missing")
        if self.grid is not None and (unplaced := sorted(self.tasks.keys() - self.grid.places)):
            raise ValueError(f"grid.places.{unplaced[0]} is missing")
        return self

    def view_of(self, task: str) -> Manifest:
        """The manifest with the configuration of the task's cell; without axes the manifest itself."""
        if self.grid is None:
            return self
        return replace(self, config=self.grid.cells[self.grid.places[task].cell].config)

    @property
    def preset(self) -> str:
        """The preset that the configuration started from."""
        return self.config.preset

    @property
    def protocol(self) -> str:
        """The protocol of selection: `clean` or `paper`."""
        return self.config.protocol.name

    @property
    def trials(self) -> int:
        """Search trials of each study."""
        return self.config.search.trials

    @property
    def alpha(self) -> float:
        """The family's level."""
        return self.config.protocol.alpha

    @property
    def baseline(self) -> str | None:
        """The method that others are compared with."""
        return self.config.baseline

    @property
    def sequential(self) -> bool:
        """Whether seeds or trials are added until the comparisons are decided."""
        return self.config.protocol.stopping == "sequential"

    @property
    def share(self) -> float:
        """One comparison's share of the level, where the family divides it evenly."""
        return self.alpha / max(len(self.family), 1)

    @property
    def is_joint(self) -> bool:
        """Whether this manifest joins repeats."""
        return bool(self.repeats)

    @property
    def unit(self) -> Literal["seed", "trial", "repeat"]:
        """The unit of replication, which gives one score of a method."""
        if self.config.protocol.unit == "methods" and not self.is_joint:
            return "trial"
        return "repeat" if self.is_joint else "seed"

    @property
    def budget(self) -> int | None:
        """The number of trials of a tuner whose methods the verdicts compare; None for two settings."""
        if self.config.protocol.unit == "methods":
            return self.config.protocol.budget
        return self.trials if self.is_joint else None

    @property
    def pool_budget(self) -> int:
        """Number of trials of a tuner in comparisons of pools; 1 in those of seeds or repeats."""
        return self.config.protocol.budget if self.unit == "trial" else 1

    @property
    def study_names(self) -> tuple[str, ...]:
        """The names of all studies."""
        return tuple(name for studies in self.studies.values() for name in studies.values())

    def primary_metric(self, task: str) -> str:
        """The metric that selects and decides on a task."""
        return self.tasks[task].metrics[0]

    def margin(self, metric: str) -> float:
        """The margin of equivalence of a metric, in score units."""
        return self.config.protocol.margins[metric]

    def family_on(self, task: str) -> tuple[Contrast, ...]:
        """The family's comparisons on a task."""
        return tuple(contrast for contrast in self.family if contrast.task == task)


@dataclass(frozen=True, config=_EXACT_KEYS)
class StudyManifest:
    """A study, one method's search on one task, whose name ends in 8 digits of the identity's hash."""

    identity: Mapping[str, JsonValue]
    space: Mapping[str, str]
    """The search space: each hyper-parameter's distribution, as Optuna prints it."""
    shapes: Mapping[str, int]
    """Layers, widths and outputs of teacher and student."""
    request: SeedRequest | None = None
    """The report runs that the first command asked for; None in ledgers of earlier versions."""
    budget: int | None = None
    """The budget of the first command; None in ledgers of earlier versions."""


MANIFEST, STUDY_MANIFEST = TypeAdapter(Manifest), TypeAdapter(StudyManifest)
