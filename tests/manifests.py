"""Manifests made by hand: what a test does not give has a default."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

from harness.storage.manifest import MANIFEST, Manifest, StudyManifest

CONFIG_KEYS = {
    "preset": ("preset",),
    "baseline": ("baseline",),
    "trials": ("search", "trials"),
    "alpha": ("protocol", "alpha"),
    "margins": ("protocol", "margins"),
    "protocol": ("protocol", "name"),
    "unit": ("protocol", "unit"),
    "stopping": ("protocol", "stopping"),
}
"""Short names of entries of the configuration."""
DEFAULTS: dict[str, Any] = {
    "name": "ablation",
    "command": "python -m harness.study --method alp --task rte",
    "source": {"kind": "demo", "folder": None},
    "students": "4-layer students (skip layers of the fine-tuned teacher)",
    "banners": [],
    "studies": {"rte": {"alp": "s-alp", "kd": "s-kd"}},
    "family": [],
    "search_seeds": [0],
    "report_seeds": [1, 2, 3],
    "storage": "sqlite:///ledger.db",
    "provenance": {},
    "refused": {},
    "broken_plugins": {},
}
TASK = {
    "labels": ["no", "yes"],
    "metrics": ["accuracy"],
    "sizes": {"train": 90, "selection": 10, "validation": 10},
    "sha256": {},
    "constant": 0.5,
}
TEACHER = {
    "fingerprint": "t" * 64,
    "name": "demo-teacher",
    "origin": "fine-tuned here",
    "metrics": {"validation": {"accuracy": 0.9}},
    "constant": 0.5,
    "weak": False,
    "layers": 3,
    "width": 8,
    "seconds": 3.0,
    "variance_shares": [],
}
CARD = {"aliases": [], "summary": "", "paper": "", "form": "ours", "needs": []}
PROVENANCE = {
    "python": "3.12",
    "libraries": {"torch": "2.11"},
    "machine": "x86_64",
    "processor": "a processor",
    "cores": 2,
    "memory_bytes": 2**33,
    "system": "Linux",
    "revision": "abc",
}
STUDY = StudyManifest({}, {}, {})
"""A study that says nothing of itself."""


def manifest(**given: Any) -> Manifest:
    """The manifest of JSON values, by default on settings; `CONFIG_KEYS` go into the configuration."""
    values = {**DEFAULTS, **copy.deepcopy(given)}
    studies = values["studies"]
    methods = list(dict.fromkeys(chain.from_iterable(studies.values())))
    config = {"preset": "demo", "methods": methods or ["kd"], "tasks": list(studies) or ["rte"]}
    config |= values.pop("config", {})
    if values["family"]:
        values.setdefault("baseline", values["family"][0][2])
    for name, (*groups, key) in CONFIG_KEYS.items():
        if name in values:
            entries = config
            for group in groups:
                entries = entries.setdefault(group, {})
            entries[key] = values.pop(name)
    tasks, teachers, cards = (values.pop(key, {}) for key in ("tasks", "teachers", "methods"))
    values["tasks"] = {
        task: {**TASK, "title": task, **tasks.get(task, {})} for task in {**studies, **tasks}
    }
    values["teachers"] = {
        task: {**TEACHER, "task": task, **teachers.get(task, {})}
        for task in {**studies, **teachers}
    }
    values["methods"] = {
        name: {**CARD, "name": name, "hyper_parameters": {}, **cards.get(name, {})}
        for name in [*methods, *cards]
    }
    values["provenance"] = {**PROVENANCE, **values["provenance"]}
    config.setdefault("protocol", {}).setdefault("unit", "settings")
    trials = config.setdefault("search", {}).setdefault("trials", 10)
    values.setdefault("random_trials", min(trials, 4))
    rule = config["protocol"].get("stopping", "fixed")
    values.setdefault("seed_requests", [[rule, len(values["report_seeds"])]])
    return MANIFEST.validate_python({**values, "config": config})
