"""The whole repeated (`--repeat-search R`): the unit of replication is teacher, search and runs.

Each repeat is an ablation of its own in the ledger, with another teacher seed, other search and report
seeds, and a report. One more manifest names them all; its scores are one per repeat, and its verdicts
speak of new teachers and searches too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from harness.analysis.results import MethodResult, read_results, search_ended
from harness.config import StudyConfig
from harness.errors import UserError
from harness.runtime.progress import say
from harness.storage.ledger import Ledger

OWN = ("studies", "teachers", "report_seeds", "search_seeds", "repeat", "banners", "config")
"""What a repeat's manifest says of that repeat alone."""


def repeated(config: StudyConfig, repeat: int) -> StudyConfig:
    """The configuration of one repeat, counted from 0: the first is the one without repeats.

    A teacher from outside stays the same in all of them.
    """
    teacher = replace(config.teacher, seed=config.teacher.seed + repeat)
    return replace(config, teacher=teacher, protocol=replace(config.protocol, repeats=1))


class JointAblation:
    """The manifest over the repeats, written again as each of them begins: the family is the first's."""

    def __init__(
        self, config: StudyConfig, ledger: Ledger, command: str, refused: Mapping[str, str]
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.command = command
        self.refused = dict(refused)
        self.names: list[str | None] = []
        self.name = ""

    def add(self, repeat: int, name: str, refused: Mapping[str, str]) -> None:
        """A repeat's own manifest is written; `refused` is what it could not use."""
        self.names.append(name)
        self.refused |= {f"repeat {repeat}, {what}": reason for what, reason in refused.items()}
        if repeat == 0:
            self.name = f"{name.removesuffix('-r0')}-x{self.config.protocol.repeats}"
        self._write()
        say(f"repeat {repeat + 1} of {self.config.protocol.repeats}: {name}")

    def lose(self, repeat: int, error: UserError) -> None:
        """A repeat cannot be done at all; the others can."""
        self.names.append(None)
        self.refused[f"repeat {repeat}"] = str(error)
        self._write()
        say(f"repeat {repeat + 1} of {self.config.protocol.repeats} is left out: {error}")

    def _write(self) -> None:
        names = list(self.names)
        if self.name in self.ledger.ablations():  # an earlier command, or another one, was further
            names += self.ledger.manifest(self.name)["repeats"][len(names) :]
        parts = {name: self.ledger.manifest(name) for name in names if name is not None}
        joint = joint_manifest(self.config, parts)
        own = {"name": self.name, "repeats": names, "command": self.command}
        self.ledger.write_ablation(self.name, joint | own | {"refused": self.refused})


def joint_manifest(config: StudyConfig, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the manifests of the repeats, by name, say together."""
    manifests = list(parts.values())
    shared = {key: value for key, value in manifests[0].items() if key not in OWN}
    own = manifests[0]["config"]
    outside = config.teacher.checkpoint is not None
    again = "searches and seeds, with this teacher" if outside else "teachers, searches and seeds"
    banners = [banner for manifest in manifests for banner in manifest["banners"]]
    return {
        **shared,
        "repeated": again,
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
    return {name: tuple(part.results.values()) for name, part in _parts(ledger, manifest).items()}


def read_repeats(ledger: Ledger, manifest: Mapping[str, Any]) -> tuple[MethodResult, ...]:
    """One result per task and method, whose "seeds" are the repeats and whose scores are their means.

    A repeat that could not be done, or of which a report run failed, is a failed one: what is left of
    it might flatter. One of which runs are missing, of the search too, does not count yet. `search`,
    `report` and the setting are empty: each repeat has its own.
    """
    found = _parts(ledger, manifest)
    parts = [None if name is None else found[name] for name in manifest["repeats"]]
    return tuple(
        _joined(task, method, manifest["tasks"][task]["metrics"][0], parts)
        for task, methods in manifest["studies"].items()
        for method in methods
    )


class _Part(NamedTuple):
    """A repeat: its manifest, and its results by task and method."""

    manifest: Mapping[str, Any]
    results: Mapping[tuple[str, str], MethodResult]


def _parts(ledger: Ledger, manifest: Mapping[str, Any]) -> dict[str, _Part]:
    """The repeats that could be done by their ablations' names, in order."""
    manifests = {
        name: ledger.manifest(name) for name in manifest.get("repeats", ()) if name is not None
    }
    return {
        name: _Part(
            part,
            {
                (result.task, result.method): result
                for task, studies in part["studies"].items()
                for result in read_results(ledger, part, task, studies)
            },
        )
        for name, part in manifests.items()
    }


def _joined(task: str, method: str, metric: str, parts: Sequence[_Part | None]) -> MethodResult:
    whole: dict[int, MethodResult] = {}
    lost, failures = set(), []
    for repeat, part in enumerate(parts):
        result = None if part is None else part.results.get((task, method))
        if part is None or result is None:
            lost.add(repeat)
            continue
        failures += [f"repeat {repeat}, {text}" for text in result.failures]
        if not search_ended(result, part.manifest):
            continue
        if len(result.scores) == len(part.manifest["report_seeds"]):
            whole[repeat] = result
        elif result.failed_seeds or result.best_trial is None:
            lost.add(repeat)
    names = next(iter(whole.values())).metrics if whole else {}
    return MethodResult(
        task=task,
        method=method,
        study="",
        metric=metric,
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
