"""The manifest of an ablation: what is compared, on what data, how and with what.

`harness.experiment.manifest` writes it before the first run is trained, and the ledger keeps it as JSON.
Everything that reads results starts from it. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from harness.config import StudyConfig
from harness.runtime.provenance import Provenance

_STRICT = ConfigDict(extra="forbid")


class Contrast(NamedTuple):
    """One comparison of an ablation's family: a method against a baseline on a task."""

    task: str
    method: str
    baseline: str


class SeedRequest(NamedTuple):
    """The report seeds that one command asked for: a fixed number, or the most of a sequential rule."""

    rule: Literal["fixed", "sequential"]
    seeds: int


@dataclass(frozen=True, config=_STRICT)
class Source:
    """Where the data came from; the folder as the command named it."""

    kind: Literal["hub", "folder", "demo"]
    folder: str | None


@dataclass(frozen=True, config=_STRICT)
class TaskFacts:
    """A task and its data. `labels` are empty for regression; the first metric decides."""

    title: str
    labels: tuple[str, ...]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)]
    sizes: Mapping[str, int]
    """Examples by split."""
    sha256: Mapping[str, str]
    """Hashes of the data by split."""
    constant: float
    """The primary metric of a constant prediction on the first evaluation split."""


@dataclass(frozen=True, config=_STRICT)
class TeacherFacts:
    """A task's teacher; of repeats, what their teachers have in common, with means of their scores."""

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


@dataclass(frozen=True, config=_STRICT)
class MethodCard:
    """A method's name, sources and hyper-parameters, in words."""

    name: str
    aliases: tuple[str, ...]
    summary: str
    paper: str
    form: str
    needs: tuple[str, ...]
    """What the method reads of a teacher that runs in every step."""
    hyper_parameters: Mapping[str, str]


@dataclass(frozen=True, config=_STRICT)
class Manifest:
    """One ablation. The joint manifest of repeats has `repeats`; a repeat's own has `repeat`."""

    name: str
    command: str
    source: Source
    config: StudyConfig
    """The configuration, with absolute folders and no password."""
    students: str
    """How deep students are and what they start from, in words."""
    banners: tuple[str, ...]
    tasks: Mapping[str, TaskFacts]
    teachers: Mapping[str, TeacherFacts]
    methods: Mapping[str, MethodCard]
    studies: Mapping[str, Mapping[str, str]]
    """Names of studies by task and method; empty names in a joint manifest."""
    family: tuple[Contrast, ...]
    random_trials: int
    """How many of the first trials were drawn at random."""
    search_seeds: tuple[int, ...]
    report_seeds: tuple[int, ...]
    """In a joint manifest the numbers of the repeats."""
    seed_requests: tuple[SeedRequest, ...]
    """Report seeds asked for by this command, after those of earlier commands that left results."""
    storage: str
    provenance: Provenance
    refused: Mapping[str, str]
    """Reasons by the task, or the method on a task, that was left out."""
    broken_plugins: Mapping[str, str]
    repeat: int | None = None
    """Which repeat this is, from 0."""
    repeats: tuple[str | None, ...] = ()
    """The repeats' ablations in order; None for a repeat that could not be trained."""
    replication: str | None = None
    """What is drawn anew in each repeat, in words."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Whether all names that studies and tasks use are described."""
        methods = {method for studies in self.studies.values() for method in studies}
        metrics = {metric for task in self.tasks.values() for metric in task.metrics}
        for group, names, known in (
            ("tasks", self.studies.keys(), self.tasks.keys()),
            ("teachers", self.studies.keys(), self.teachers.keys()),
            ("methods", methods, self.methods.keys()),
            ("config.protocol.margins", metrics, self.config.protocol.margins.keys()),
        ):
            if missing := sorted(names - known):
                raise ValueError(f"{group}.{missing[0]} is missing")
        return self

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
        """Whether seeds are added until the comparisons are decided."""
        return self.config.protocol.stopping == "sequential"

    @property
    def share(self) -> float:
        """One comparison's share of the level, where the family divides it evenly."""
        return self.alpha / max(len(self.family), 1)

    @property
    def joint(self) -> bool:
        """Whether this manifest joins repeats."""
        return bool(self.repeats)

    @property
    def unit(self) -> Literal["seed", "repeat"]:
        """The unit of replication: what one score of a method stands for."""
        return "repeat" if self.joint else "seed"

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


@dataclass(frozen=True, config=_STRICT)
class StudyManifest:
    """One method's search on one task. The study's name ends in eight digits of the identity's hash."""

    identity: Mapping[str, JsonValue]
    space: Mapping[str, str]
    """What is searched: each hyper-parameter's distribution, as Optuna prints it."""
    shapes: Mapping[str, int]
    """Layers, widths and outputs of teacher and student."""


MANIFEST, STUDY_MANIFEST = TypeAdapter(Manifest), TypeAdapter(StudyManifest)
