"""A ledger with synthetic runs of any number of methods, tasks and seeds, as large as a real ledger.

Names, search spaces, metrics and splits are those of the project. Scores follow from the
predictions, as in a study. One generator draws all numbers, so equal sizes give equal ledgers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks.made_up_results import (
    STUDENT_LAYERS,
    TEACHER_LAYERS,
    MadeUpSplit,
    made_up_inspections,
    made_up_labels,
    made_up_predictions,
    made_up_record,
)
from harness.config import (
    ProtocolConfig,
    SearchConfig,
    StudentConfig,
    StudyConfig,
    TrainingConfig,
)
from harness.data.scores import constant_score
from harness.data.tasks import LEFT_OUT, Task, load_task, task_names
from harness.method import Method
from harness.registry.cards import card
from harness.registry.discovery import registry
from harness.registry.space import space_of
from harness.runtime.provenance import provenance
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
    Result,
    Role,
    RunInputs,
    SplitHash,
)
from harness.training.run import report_seeds, search_seeds

BASELINE = "kd"
SPLIT_EXAMPLES = (400, 1000)
"""The smallest and the largest evaluation split."""
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


def _splits(task: Task, generator: np.random.Generator) -> dict[str, MadeUpSplit]:
    splits = {}
    for name in task.evaluation:
        examples = int(generator.integers(*SPLIT_EXAMPLES, endpoint=True))
        labels = made_up_labels(task, examples, generator)
        digest = hashlib.sha256(f"{task.name} {name}".encode()).hexdigest()
        splits[name] = MadeUpSplit(labels, generator.normal(size=examples), digest)
    return splits


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
    splits: Mapping[str, Mapping[str, MadeUpSplit]],
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


def _facts(task: Task, splits: Mapping[str, MadeUpSplit]) -> TaskFacts:
    labels = next(iter(splits.values())).labels
    return TaskFacts(
        title=task.title,
        labels=task.labels,
        metrics=task.metrics,
        sizes={"train": 700, "selection": 100, **{n: len(s.labels) for n, s in splits.items()}},
        sha256={name: split.sha256 for name, split in splits.items()},
        constant=constant_score(task, labels, labels),
    )


def _teacher(task: Task, splits: Mapping[str, MadeUpSplit]) -> TeacherFacts:
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
    splits: Mapping[str, MadeUpSplit],
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
        key = fingerprint([study, inputs.plain()])
        record = made_up_record(key, method, inputs, metrics, generator, selection)
        yield "search", trial, seed, Result(record, {}, {})
    best_trial = int(np.argmax(scores))
    for seed in report_seeds(size.seeds):
        predictions, metrics = made_up_predictions(task, splits, skill, generator)
        digests = {name: split.sha256 for name, split in splits.items()}
        inputs = _inputs(size, task, method, settings[best_trial], seed, "report", digests)
        key = fingerprint([study, inputs.plain()])
        record = made_up_record(key, method, inputs, metrics, generator)
        inspections = made_up_inspections(size.epochs, task, method, next(iter(splits)), generator)
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
