"""A ledger with synthetic runs of any number of methods, tasks and seeds, as large as a real ledger.

Names, search spaces, metrics and splits are those of the project. Scores follow from the
predictions, as in a study. One generator draws all numbers, so equal sizes give equal ledgers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.config import (
    ProtocolConfig,
    SearchConfig,
    StudentConfig,
    StudyConfig,
    TrainingConfig,
)
from harness.data.scores import constant_score, evaluate
from harness.data.tasks import LEFT_OUT, Task, load_task, task_names
from harness.method import Method
from harness.registry.cards import card
from harness.registry.discovery import registry
from harness.registry.space import space_of
from harness.runtime.provenance import provenance
from harness.stats.arrays import Floats
from harness.storage.database import storage_url
from harness.storage.fingerprint import fingerprint
from harness.storage.ledger import Ledger
from harness.storage.manifest import (
    Contrast,
    Manifest,
    SeedRequest,
    Source,
    StudyManifest,
    TaskFacts,
    TeacherFacts,
)
from harness.storage.record import (
    LABEL_LOSS,
    Predictions,
    Record,
    Result,
    Role,
    RunInputs,
    RunProvenance,
    SplitHash,
)
from harness.training.run import report_seeds, search_seeds

BASELINE = "kd"
STUDENT_LAYERS, TEACHER_LAYERS = 4, 12
SPLIT_EXAMPLES = (400, 1000)
"""The smallest and the largest evaluation split."""
INSPECTED_EXAMPLES, POINTS = 256, 96
"""Examples of an inspection's means, and examples of its figure of states."""
POPULATION_SIZE = 24
"""Runs in a population."""
SELECTION = {"selection": "s"}
"""The split of search runs, with its digest."""

T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """Numbers of methods, tasks, report seeds, trials and epochs."""

    methods: int
    tasks: int
    seeds: int
    trials: int
    epochs: int = 5


def write_ledger(folder: Path, size: Size) -> str:
    """Write `folder`/ledger.db and return the ablation's name.

    Raises ValueError if there are fewer methods or tasks, or a number is below one.
    """
    for name, count in vars(size).items():
        if count < 1:
            raise ValueError(f"{name}: {count} is below 1")
    methods = _methods(size.methods)
    tasks = _tasks(size.tasks)
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(storage_url(folder, None))
    splits = {task.name: _splits(task, generator) for task in tasks}
    manifest = _manifest(size, methods, tasks, splits)
    ledger.write_ablation(manifest)
    for task in tasks:
        for split in splits[task.name].values():
            ids = np.arange(len(split.labels))
            ledger.write_texts(split.sha256, ids, _texts(len(ids), generator))
        for index, method in enumerate(methods):
            study = manifest.studies[task.name][method.name]
            space = space_of(method, SearchConfig(), task.regression).distributions
            space_texts = {name: repr(distribution) for name, distribution in space.items()}
            ledger.write_study(study, StudyManifest(identity={}, space=space_texts, shapes={}))
            skill = 1.5 + 0.05 * (index % 7)
            runs = list(_runs(size, study, task, splits[task.name], method, skill, generator))
            ledger.write_runs([result for *_, result in runs])
            for role, trial, seed, result in runs:
                ledger.use_run(study, role, trial, seed, result.record.fingerprint)
    ledger.close()
    return manifest.name


def _methods(count: int) -> list[type[Method]]:
    kinds = registry().methods
    candidates = (kind for name, kind in kinds.items() if name != BASELINE)
    project_methods = (kind for kind in candidates if kind.__module__.startswith("methods."))
    return _first(count, "methods", [kinds[BASELINE], *project_methods])


def _tasks(count: int) -> list[Task]:
    names = [name for name in task_names() if name != LEFT_OUT]
    return [load_task(name, {}) for name in _first(count, "tasks", names)]


def _first(count: int, noun: str, items: list[T]) -> list[T]:
    if count > len(items):
        raise ValueError(f"{noun}: there are {len(items)}, not {count}")
    return items[:count]


@dataclass(frozen=True)
class _Split:
    """Labels (examples,) and difficulties (examples,) of a split."""

    labels: npt.NDArray[Any]
    difficulty: Floats
    sha256: str


def _splits(task: Task, generator: np.random.Generator) -> dict[str, _Split]:
    splits = {}
    for name in task.evaluation:
        examples = int(generator.integers(*SPLIT_EXAMPLES, endpoint=True))
        labels = _labels(task, examples, generator)
        digest = hashlib.sha256(f"{task.name} {name}".encode()).hexdigest()
        splits[name] = _Split(labels, generator.normal(size=examples), digest)
    return splits


def _labels(task: Task, examples: int, generator: np.random.Generator) -> npt.NDArray[Any]:
    if task.regression:
        return generator.uniform(0, 5, examples)
    return generator.integers(task.outputs, size=examples)


def _texts(examples: int, generator: np.random.Generator) -> list[tuple[str, ...]]:
    """Two texts for each example, with as many words as RTE's texts on average."""
    lengths = generator.integers(10, 60, size=(examples, 2))
    words = np.array([f"w{number:x}" for number in range(4096)])
    return [
        tuple(" ".join(generator.choice(words, count)) for count in counts) for counts in lengths
    ]


def _manifest(
    size: Size,
    methods: list[type[Method]],
    tasks: list[Task],
    splits: Mapping[str, Mapping[str, _Split]],
) -> Manifest:
    names = [method.name for method in methods]
    search = SearchConfig(trials=size.trials, sampler="tpe")
    config = StudyConfig(
        preset="demo",
        methods=tuple(names),
        tasks=tuple(task.name for task in tasks),
        baseline=BASELINE,
        training=TrainingConfig(epochs=size.epochs),
        search=search,
        protocol=ProtocolConfig(unit="settings", seeds=size.seeds),
    )
    return Manifest(
        name=f"synthetic-{len(tasks)}-tasks-{len(names)}-methods",
        command="python -m benchmarks.page",
        source=Source("demo", None),
        config=config,
        students=f"{STUDENT_LAYERS}-layer students (skip layers of the pre-trained encoder)",
        banners=("MADE-UP NUMBERS: a benchmark of the report. Nothing here was trained.",),
        tasks={task.name: _facts(task, splits[task.name]) for task in tasks},
        teachers={task.name: _teacher(task, splits[task.name]) for task in tasks},
        methods={method.name: card(method) for method in methods},
        studies={
            task.name: {name: f"synthetic-{task.name}-{name}" for name in names} for task in tasks
        },
        family=tuple(Contrast(task.name, name, BASELINE) for task in tasks for name in names[1:]),
        random_trials=search.random_trials,
        search_seeds=tuple(search_seeds(1)),
        report_seeds=tuple(report_seeds(size.seeds)),
        seed_requests=(SeedRequest("fixed", size.seeds),),
        storage="none",
        provenance=provenance(),
        refused={},
        broken_plugins={},
    )


def _facts(task: Task, splits: Mapping[str, _Split]) -> TaskFacts:
    labels = next(iter(splits.values())).labels
    return TaskFacts(
        title=task.title,
        labels=task.labels,
        metrics=task.metrics,
        sizes={"train": 700, "selection": 100, **{n: len(s.labels) for n, s in splits.items()}},
        sha256={name: split.sha256 for name, split in splits.items()},
        constant=constant_score(task, labels, labels),
    )


def _teacher(task: Task, splits: Mapping[str, _Split]) -> TeacherFacts:
    return TeacherFacts(
        fingerprint=hashlib.sha256(task.name.encode()).hexdigest(),
        task=task.name,
        name="made up",
        origin="nowhere",
        metrics={split: dict.fromkeys(map(str, task.metrics), 0.9) for split in splits},
        constant=0.5,
        weak=False,
        layers=TEACHER_LAYERS,
        width=48,
        seconds=5.0,
        variance_shares=tuple(np.linspace(0.005, 0.8, TEACHER_LAYERS).tolist()),
    )


def _runs(
    size: Size,
    study: str,
    task: Task,
    splits: Mapping[str, _Split],
    method: type[Method],
    skill: float,
    generator: np.random.Generator,
) -> Iterator[tuple[Role, int, int, Result]]:
    """Search runs, then report runs of the best trial, by role, trial and seed."""
    scores, settings = [], []
    for trial in range(size.trials):
        settings.append(_setting(method, task, generator))
        score = float(generator.uniform(0.6, 0.8))
        scores.append(score)
        metrics: dict[str, float] = dict.fromkeys(map(str, task.metrics), score)
        (seed,) = search_seeds(1)
        inputs = _inputs(size, task, method, settings[trial], seed, "search", SELECTION)
        selection = {**metrics, LABEL_LOSS: 1 - score}
        record = _record(size, method, study, inputs, metrics, generator, selection)
        yield "search", trial, seed, Result(record, {}, {})
    best_trial = int(np.argmax(scores))
    for seed in report_seeds(size.seeds):
        predictions, metrics = _predictions(task, splits, skill, generator)
        digests = {name: split.sha256 for name, split in splits.items()}
        inputs = _inputs(size, task, method, settings[best_trial], seed, "report", digests)
        record = _record(size, method, study, inputs, metrics, generator)
        inspections = _inspections(size, task, method, next(iter(splits)), generator)
        yield "report", best_trial, seed, Result(record, predictions, inspections)


def _setting(method: type[Method], task: Task, generator: np.random.Generator) -> dict[str, Any]:
    space = space_of(method, SearchConfig(), task.regression)
    params: dict[str, Any] = {}
    for name, distribution in space.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            params[name] = distribution.choices[generator.integers(len(distribution.choices))]
            continue
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        ends = np.array([distribution.low, distribution.high], dtype=np.float64)
        value = np.exp(generator.uniform(*np.log(ends))) if distribution.log else None
        params[name] = float(generator.uniform(*ends) if value is None else value)
    return space.setting(params)


def _inputs(
    size: Size,
    task: Task,
    method: type[Method],
    setting: Mapping[str, Any],
    seed: int,
    role: Role,
    evaluation: Mapping[str, str],
) -> RunInputs:
    return RunInputs(
        results_version=1,
        task=task.name,
        source="demo",
        method=method.name,
        method_source=hashlib.sha256(method.name.encode()).hexdigest(),
        setting=setting,
        seed=seed,
        role=role,
        teacher=hashlib.sha256(task.name.encode()).hexdigest(),
        student=StudentConfig(layers=STUDENT_LAYERS, origin="pretrained"),
        start="made up",
        pooling="cls",
        pooling_source="made up",
        metric_sources=("made up",) * len(task.metrics),
        training=TrainingConfig(
            epochs=size.epochs, batch_size=16, precision="fp32", engine="stacked"
        ),
        weights="convex",
        device="cpu",
        train="made up",
        evaluation=tuple(SplitHash(*split) for split in evaluation.items()),
    )


def _record(
    size: Size,
    method: type[Method],
    study: str,
    inputs: RunInputs,
    metrics: dict[str, float],
    generator: np.random.Generator,
    selection: Mapping[str, float] = MappingProxyType({}),
) -> Record:
    terms = [
        "label",
        *["kd"] * method.uses_teacher(),
        *["layer"] * method.matches_layers(),
        "total",
    ]
    starts = generator.uniform(0.5, 2.0, len(terms))
    curves = [
        {term: float(start / (epoch + 1)) for term, start in zip(terms, starts, strict=True)}
        for epoch in range(size.epochs)
    ]
    return Record(
        fingerprint=fingerprint([study, inputs.plain()]),
        inputs=inputs,
        status="complete",
        reason=None,
        metrics=metrics,
        selection=selection,
        curves=tuple(curves),
        seconds=float(generator.uniform(0.8, 1.2)),
        examples_per_second=float(generator.uniform(2500, 3500)),
        peak_memory=float(generator.integers(2**30)),
        provenance=RunProvenance(
            **vars(provenance()),
            threads=2,
            population=tuple(f"{number:064x}" for number in range(POPULATION_SIZE)),
        ),
    )


def _predictions(
    task: Task, splits: Mapping[str, _Split], skill: float, generator: np.random.Generator
) -> tuple[dict[str, Predictions], dict[str, float]]:
    """Predictions and metrics by split, named as `harness.evaluation.scoring` does."""
    predictions: dict[str, Predictions] = {}
    metrics: dict[str, float] = {}
    luck = float(generator.normal(scale=0.1))
    for position, (name, split) in enumerate(splits.items()):
        ease = skill + luck - split.difficulty + 0.3 * generator.normal(size=len(split.labels))
        if task.regression:
            logits = (split.labels + generator.normal(size=len(ease)) / np.exp(ease / 2))[:, None]
        else:
            logits = generator.normal(size=(len(ease), task.outputs))
            logits[np.arange(len(ease)), split.labels] += ease
        split_predictions = Predictions(
            logits.astype(np.float32),
            split.labels.astype(np.float64),
            np.arange(len(ease), dtype=np.int64),
        )
        scores = evaluate(task, split.labels, split_predictions.logits)
        metrics |= scores if position == 0 else {f"{k} ({name})": v for k, v in scores.items()}
        predictions[name] = split_predictions
    return predictions, metrics


def _inspections(
    size: Size, task: Task, method: type[Method], split: str, generator: np.random.Generator
) -> dict[str, Any]:
    """The inspections of a report run, by name."""
    m, n = STUDENT_LAYERS, TEACHER_LAYERS
    source = {"split": split, "examples": INSPECTED_EXAMPLES}

    def before_and_after() -> dict[str, Any]:
        return {moment: _rounded_list(generator.random((m, n))) for moment in ("before", "after")}

    inspections: dict[str, Any] = {
        "layers": source
        | {
            "pooling": "cls",
            "cka": before_and_after(),
            "cosine": before_and_after(),
            "angles": {moment: _angles(generator) for moment in ("before", "after")},
        },
        "projection": source
        | {
            "pooling": "cls",
            "joint": True,
            "labels": _rounded_list(_labels(task, POINTS, generator)),
            "explained": {"student": [0.5, 0.2], "teacher": [0.5, 0.2]},
            "student": _rounded_list(generator.normal(size=(m, POINTS, 2))),
            "teacher": _rounded_list(generator.normal(size=(n, POINTS, 2))),
            "fused": _rounded_list(generator.normal(size=(m, POINTS, 2)))
            if method.inspects()
            else None,
        },
    }
    if method.inspects():
        maps = generator.dirichlet(np.ones(n), size=(size.epochs + 1, m))
        entropy = generator.random((size.epochs + 1, m))
        inspections["targets"] = source | {
            "map": _rounded_list(maps[-1]),
            "entropy": _rounded_list(entropy[-1]),
            "target_length": generator.uniform(1, 3, m).tolist(),
            "target_variance_share": generator.uniform(0.1, 0.6, m).tolist(),
        }
        inspections["epochs"] = source | {
            "epochs": list(range(size.epochs + 1)),
            "map": _rounded_list(maps),
            "entropy": _rounded_list(entropy),
        }
    return inspections


def _angles(generator: np.random.Generator) -> Any:
    """Degrees between two teacher layers at each student layer (m, n, n): symmetric, zero diagonal."""
    angles = np.triu(generator.uniform(20, 90, (STUDENT_LAYERS, TEACHER_LAYERS, TEACHER_LAYERS)), 1)
    return _rounded_list(angles + angles.swapaxes(1, 2))


def _rounded_list(values: npt.NDArray[Any]) -> Any:
    """The values as lists, rounded to the digits of recorded inspections."""
    return values.round(4).tolist()
