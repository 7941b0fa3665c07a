"""Repeats of a whole ablation (`--repeat-search R`), as they are trained and written.

Each repeat is an ablation of its own in the ledger: another teacher seed, other search and report
seeds, and a report. One more manifest, the joint one, names them all. Its scores are one per repeat,
so that its verdicts hold over new teachers and searches too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.config import StudyConfig
from harness.errors import UserError
from harness.runtime.progress import say
from harness.storage.ledger import Ledger

REPEAT_KEYS = ("studies", "teachers", "report_seeds", "search_seeds", "repeat", "banners", "config")
"""Keys of a manifest whose values belong to one repeat alone."""


def repeat_config(config: StudyConfig, repeat: int) -> StudyConfig:
    """The configuration of one repeat, counted from 0. Repeat 0 is the ablation without repeats.

    A teacher from outside is the same in all repeats.
    """
    teacher = replace(config.teacher, seed=config.teacher.seed + repeat)
    return replace(config, teacher=teacher, protocol=replace(config.protocol, repeats=1))


class JointAblation:
    """The manifest over all repeats, written again as each repeat begins.

    Tasks, methods and the family of comparisons are those of the first repeat.
    """

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
        """Add a repeat whose manifest, `name`, is written; `refused` are reasons by task or method."""
        self.names.append(name)
        self.refused |= {
            f"repeat {repeat}, {subject}": reason for subject, reason in refused.items()
        }
        if repeat == 0:
            self.name = f"{name.removesuffix('-r0')}-x{self.config.protocol.repeats}"
        self._write()
        say(f"repeat {repeat + 1} of {self.config.protocol.repeats}: {name}")

    def leave_out(self, repeat: int, error: UserError) -> None:
        """Note that a repeat cannot be trained at all. The other repeats go on."""
        self.names.append(None)
        self.refused[f"repeat {repeat}"] = str(error)
        self._write()
        say(f"repeat {repeat + 1} of {self.config.protocol.repeats} is left out: {error}")

    def _write(self) -> None:
        names = list(self.names)
        if self.name in self.ledger.ablations():  # an earlier or another command was further
            names += self.ledger.manifest(self.name)["repeats"][len(names) :]
        parts = {name: self.ledger.manifest(name) for name in names if name is not None}
        joint = joint_manifest(self.config, parts)
        joint |= {"name": self.name, "repeats": names, "command": self.command}
        self.ledger.write_ablation(self.name, joint | {"refused": self.refused})


def joint_manifest(config: StudyConfig, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest over repeats, from the repeats' manifests by name; without its own name."""
    manifests = list(parts.values())
    shared = {key: value for key, value in manifests[0].items() if key not in REPEAT_KEYS}
    first_config = manifests[0]["config"]
    outside = config.teacher.checkpoint is not None
    varied = "searches and seeds, with this teacher" if outside else "teachers, searches and seeds"
    banners = [banner for manifest in manifests for banner in manifest["banners"]]
    return {
        **shared,
        "repeated": varied,
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
        "config": {
            **first_config,
            "protocol": first_config["protocol"] | {"repeats": config.protocol.repeats},
        },
    }


def _mean_teacher(teachers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Facts of the repeats' teachers together, with their mean scores."""
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
