"""The whole repeated (`--repeat-search R`): the unit of replication is teacher, search and runs.

Each repeat is an ablation of its own in the ledger, with another teacher seed, other search and report
seeds, and a report. One more manifest names them all; its scores are one per repeat, and its verdicts
speak of new teachers and searches too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.config import StudyConfig
from harness.ledger import Ledger
from harness.results import MethodResult, read_results, trials_ended

OWN = ("studies", "teachers", "report_seeds", "search_seeds", "repeat", "banners", "config")
"""What a repeat's manifest says of that repeat alone."""


def repeated(config: StudyConfig, repeat: int) -> StudyConfig:
    """The configuration of one repeat, counted from 0: the first is the one without repeats.

    A teacher from outside stays the same in all of them.
    """
    teacher = replace(config.teacher, seed=config.teacher.seed + repeat)
    return replace(config, teacher=teacher, protocol=replace(config.protocol, repeats=1))


def joint_manifest(
    config: StudyConfig, command: str, parts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The manifest over the repeats, from theirs by name, in order, as far as they are.

    The family is the first's, before whose runs it is written.
    """
    manifests = list(parts.values())
    shared = {key: value for key, value in manifests[0].items() if key not in OWN}
    own = manifests[0]["config"]
    outside = config.teacher.checkpoint is not None
    again = "searches and seeds" if outside else "teachers, searches and seeds"
    banners = [banner for manifest in manifests for banner in manifest["banners"]]
    return {
        **shared,
        "name": f"{manifests[0]['name']}-x{config.protocol.repeats}",
        "repeats": list(parts),
        "repeated": again,
        "command": command,
        "studies": {
            task: dict.fromkeys(studies, "") for task, studies in manifests[0]["studies"].items()
        },
        "teachers": {
            task: _mean_teacher(
                [part["teachers"][task] for part in manifests if task in part["teachers"]]
            )
            for task in manifests[0]["teachers"]
        },
        "report_seeds": list(range(config.protocol.repeats)),
        "search_seeds": [],
        "banners": list(dict.fromkeys(banners)),
        "config": {**own, "protocol": own["protocol"] | {"repeats": config.protocol.repeats}},
    }


def _mean_teacher(teachers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is known of the repeats' teachers together: their mean scores."""
    splits = {split: list(scores) for split, scores in teachers[0]["metrics"].items()}
    return {
        "name": f"mean of {len(teachers)} teachers",
        "fingerprint": ", ".join(str(teacher["fingerprint"]) for teacher in teachers),
        "metrics": {
            split: {
                name: float(np.mean([teacher["metrics"][split][name] for teacher in teachers]))
                for name in names
            }
            for split, names in splits.items()
        },
        **{key: teachers[0][key] for key in ("layers", "width", "origin") if key in teachers[0]},
    }


def read_parts(ledger: Ledger, manifest: Mapping[str, Any]) -> dict[str, tuple[MethodResult, ...]]:
    """The results of each repeat by its ablation's name, in order; empty where nothing was repeated."""
    parts = {name: ledger.manifest(name) for name in manifest.get("repeats", ())}
    return {
        name: tuple(
            result
            for task, studies in part["studies"].items()
            for result in read_results(ledger, part, task, studies)
        )
        for name, part in parts.items()
    }


def read_repeats(ledger: Ledger, manifest: Mapping[str, Any]) -> tuple[MethodResult, ...]:
    """One result per task and method, whose "seeds" are the repeats and whose scores are their means.

    A repeat of which a report run failed is a failed one: what is left of it might flatter. One of
    which runs are missing, of the search too, does not count yet. `search`, `report` and the setting
    are empty: each repeat has its own.
    """
    parts = read_parts(ledger, manifest)
    manifests = [ledger.manifest(name) for name in parts]
    wanted = [len(part["report_seeds"]) for part in manifests]
    found = [
        {(r.task, r.method): r for r in results if trials_ended(r, part) == part["trials"]}
        for part, results in zip(manifests, parts.values(), strict=True)
    ]
    return tuple(
        _joined(task, method, manifest, [of_part.get((task, method)) for of_part in found], wanted)
        for task, methods in manifest["studies"].items()
        for method in methods
    )


def _joined(
    task: str,
    method: str,
    manifest: Mapping[str, Any],
    found: Sequence[MethodResult | None],
    wanted: Sequence[int],
) -> MethodResult:
    whole: dict[int, MethodResult] = {}
    lost, failures = set(), []
    for repeat, (result, seeds) in enumerate(zip(found, wanted, strict=True)):
        if result is None:
            continue
        failures += [f"repeat {repeat}, {text}" for text in result.failures]
        if len(result.scores) == seeds:
            whole[repeat] = result
        elif result.failed_seeds or (result.search and result.best_trial is None):
            lost.add(repeat)
    names = next(iter(whole.values())).metrics if whole else {}
    return MethodResult(
        task=task,
        method=method,
        study="",
        metric=manifest["tasks"][task]["metrics"][0],
        search=(),
        report=(),
        best_trial=None,
        setting={},
        seeds=tuple(whole),
        scores=tuple(result.mean for result in whole.values()),
        metrics={
            name: float(np.mean([result.metrics[name] for result in whole.values()]))
            for name in names
        },
        failures=tuple(failures),
        failed_seeds=frozenset(lost),
    )
