"""The manifest of an ablation, made from its configuration, data and teachers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from harness.config import Criterion, StudyConfig, json_values
from harness.data.scores import constant_score
from harness.errors import DamagedManifestError, without_passwords
from harness.experiment.banners import all_banners, choice_banners, seed_banners
from harness.loss_stages import CONSTANT, in_words
from harness.registry.cards import card
from harness.registry.discovery import chosen_methods, registry
from harness.runtime.progress import say
from harness.runtime.provenance import provenance
from harness.storage.compression import Compression
from harness.storage.database import masked_url
from harness.storage.fingerprint import fingerprint
from harness.storage.ledger import Ledger
from harness.storage.manifest import (
    Contrast,
    Manifest,
    SeedRequest,
    Source,
    StudyManifest,
    TaskFacts,
)
from harness.training.run import report_seeds, search_seeds
from harness.workers.prepared_task import PreparedTask
from harness.workers.workshop import with_absolute_folders

QUOTES = "'\""
COUNTS = {
    "search": ("trials",),
    "protocol": ("seeds", "stopping", "repeats", "alpha", "margins", "budget"),
}
"""Keys outside a study's identity. A command with other values of these keys continues the study."""
IDENTITY = ("pooling", "student", "training", "search", "protocol")
"""Keys of the configuration in a study's identity, where fingerprints stand for data and teacher."""

Studies = Mapping[str, Mapping[str, str]]
"""Names of studies by task and method."""


def identity_of(config: StudyConfig, repeat: int | None) -> dict[str, Any]:
    """The configuration's part of the identity of each study."""
    identity = {k: v for k, v in json_values(config).items() if k in IDENTITY}
    for group, counts in COUNTS.items():
        identity[group] = {k: v for k, v in identity[group].items() if k not in counts}
    identity["student"].pop("checkpoint", None)  # the fingerprint of a run has its content
    if not identity["search"]["rungs"]:
        del identity["search"]["rungs"]
    if config.training.stages == CONSTANT:
        del identity["training"]["stages"]
    if repeat:
        identity["repeat"] = repeat
    return identity


def ablation_name(config: StudyConfig, studies: Studies, repeat: int | None) -> str:
    """An ablation's name: source, tasks, methods, and eight digits of a fingerprint.

    The fingerprint covers the studies, the baseline and a tuner's budget. A name of more than 80
    characters gives the numbers of tasks and methods instead of their names.
    """
    kind = config.source.kind
    methods = "+".join(config.methods)
    stem = f"{kind}-{'+'.join(config.tasks)}-{methods}"
    if len(stem) > 80:
        stem = f"{kind}-{len(config.tasks)}-tasks-{len(config.methods)}-methods"
    part = "" if repeat is None else f"-r{repeat}"
    identity: list[Any] = [studies, config.baseline]
    if config.protocol.unit == "methods":
        identity.append(config.protocol.budget)
    return f"{stem}-{fingerprint(identity)[:8]}{part}"


def ablation_manifest(
    config: StudyConfig,
    ledger: Ledger,
    name: str,
    studies: Studies,
    tasks: Mapping[str, PreparedTask],
    refusals: Mapping[str, str],
    unused_studies: Set[str],
    *,
    command: str,
    repeat: int | None,
) -> Manifest:
    """The manifest of an ablation.

    `refusals` are reasons by task or method. The ledger holds the report seeds of earlier commands.
    `unused_studies` had no report runs before this command, which may have trained some by now.
    """
    family = [
        Contrast(task, method, config.baseline)
        for task, methods in studies.items()
        for method in methods
        if config.baseline is not None and method != config.baseline
    ]
    used_studies = _names(studies) - unused_studies
    is_new = name not in ledger.ablations()
    orphans = _orphans(ledger, used_studies) if is_new else []
    if is_new:
        earlier_requests = [study.request for study in orphans if study.request is not None]
    else:
        earlier_requests = [*ledger.manifest(name).seed_requests] if used_studies else []
    requests = _seed_requests(config, earlier_requests)
    earlier_choices = [
        *((study.budget, config.search.criterion) for study in orphans if study.budget),
        *_earlier_choices(config, ledger, name, studies, unused_studies),
    ]
    return Manifest(
        name=name,
        command=command,
        source=Source(config.source.kind, config.source.folder),
        config=shown_config(config),
        students=students_in_words(config),
        banners=(
            *all_banners(config, tasks.values()),
            *seed_banners(requests, family, config.protocol.unit),
            *choice_banners(config, earlier_choices),
        ),
        tasks={task: _task_facts(prepared) for task, prepared in tasks.items()},
        teachers={task: prepared.outcome.teacher for task, prepared in tasks.items()},
        methods={method.name: card(method) for method in chosen_methods(config)},
        studies=studies,
        compression=_compression(tasks),
        family=tuple(family),
        random_trials=config.search.random_trials,
        search_seeds=tuple(search_seeds(config.search.seeds, repeat or 0)),
        report_seeds=tuple(report_seeds(config.report_runs, repeat or 0)),
        seed_requests=requests,
        storage=masked_url(ledger.url),
        provenance=provenance(),
        refused=dict(refusals),
        broken_plugins=registry().import_errors,
        repeat=repeat,
    )


def students_in_words(config: StudyConfig) -> str:
    """The students' shape, initial weights and stages, in words."""
    student = config.student
    models = {"finetuned": "the fine-tuned teacher", "pretrained": "the pre-trained encoder"}
    model = student.checkpoint or models[student.origin]
    depth = "students" if student.layers is None else f"{student.layers}-layer students"
    layers = "all" if student.layers is None else student.init
    start = f"{layers} layers of {model}"
    if student.init == "random":
        start = "drawn at random"
        if student.checkpoint is not None:
            start += f" in the shape of {student.checkpoint}"
    sizes = ("width", "heads", "intermediate")
    texts = [f"{key} {size}" for key in sizes if (size := getattr(student, key)) is not None]
    words = f"{depth} ({', '.join([start, *texts])})"
    stages = in_words(config.training.stages)
    return f"{words}, {stages}" if stages else words


def command_line(words: Sequence[str]) -> str:
    """The command with these arguments, without the storage's password."""
    return f"python -m harness.study {shlex.join(map(_without_password, words))}"


def shown_config(config: StudyConfig) -> StudyConfig:
    """The configuration for manifests and reports: absolute folders, no storage password."""
    storage = None if config.storage is None else masked_url(config.storage)
    return replace(with_absolute_folders(config), out=config.out, storage=storage)


def _without_password(argument: str) -> str:
    key, _, value = argument.partition("=")
    if key != "storage":
        return without_passwords(argument)
    return f"storage={masked_url(value.strip(QUOTES))}"


def request_of(config: StudyConfig) -> SeedRequest:
    """The report runs or trials that a command asks for."""
    return SeedRequest(config.protocol.stopping, config.report_runs)


def _seed_requests(
    config: StudyConfig, earlier_requests: Sequence[SeedRequest]
) -> tuple[SeedRequest, ...]:
    """The requests for report runs: of earlier commands that have left results, and of this command."""
    request = request_of(config)
    requests = tuple(dict.fromkeys(earlier_requests))
    return requests if requests[-1:] == (request,) else (*requests, request)


def _orphans(ledger: Ledger, used_studies: Set[str]) -> list[StudyManifest]:
    """The studies that no manifest names, though they have results: their command ended before it."""
    names = set(used_studies)
    for ablation in reversed(ledger.ablations()):
        if not names:
            break
        names -= set(ledger.manifest(ablation).study_names)
    manifests = [ledger.study_manifest(name) for name in sorted(names)]
    return [manifest for manifest in manifests if manifest is not None]


def _names(studies: Studies) -> set[str]:
    return {study for methods in studies.values() for study in methods.values()}


def _earlier_choices(
    config: StudyConfig, ledger: Ledger, name: str, studies: Studies, unused: Set[str]
) -> list[tuple[int, Criterion]]:
    """Budget and selection of other ablations with results of the same studies, where one differs."""
    others = ledger.ablations_unlike(config.protocol.budget, config.search.criterion)
    designs = _designs(ledger, studies)
    return [
        (manifest.config.protocol.budget, manifest.config.search.criterion)
        for manifest in map(ledger.manifest, others)
        if manifest.name != name
        and not manifest.is_joint
        and designs & _designs(ledger, manifest.studies)
        and ledger.has_report_runs(set(manifest.study_names) - unused)
    ]


def _designs(ledger: Ledger, studies: Studies) -> set[str]:
    """The fingerprints of studies' identities without the criterion of the selection.

    Studies whose manifests are damaged are left out, and a warning says so. They are other commands'.
    """
    designs = set()
    for methods in studies.values():
        for study in methods.values():
            try:
                manifest = ledger.study_manifest(study)
            except DamagedManifestError as error:
                say(f"warning: {error}")
                continue
            assert manifest is not None  # it is written before any ablation's manifest
            identity = dict(manifest.identity)
            search = identity.pop("search")
            assert isinstance(search, dict)
            others = {key: value for key, value in search.items() if key != "criterion"}
            designs.add(fingerprint([identity, others]))
    return designs


def _compression(tasks: Mapping[str, PreparedTask]) -> dict[str, Compression]:
    """The sizes of teachers and students by task, as each worker has counted them."""
    return {
        task: prepared.outcome.compression
        for task, prepared in tasks.items()
        if prepared.outcome.compression is not None
    }


def _task_facts(prepared: PreparedTask) -> TaskFacts:
    data = prepared.data
    evaluation = next(iter(data.evaluation.values()))
    splits = data.splits | data.unlabelled
    return TaskFacts(
        title=data.task.title,
        labels=data.task.labels,
        metrics=data.task.metrics,
        sizes={name: len(split) for name, split in splits.items()},
        sha256={name: split.sha256 for name, split in splits.items()},
        constant=constant_score(data.task, data.train.labels, evaluation.labels),
        splits=prepared.outcome.splits,
    )
