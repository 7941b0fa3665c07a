import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.ledger import Ledger, Predictions, Record, Result

LABELS = np.array([0, 1] * 5)
METHOD_SCORES = {100: 0.9, 101: 0.8, 102: 0.9}
BASELINE_SCORES = {100: 0.8, 101: 0.7, 102: 0.6}
MANIFEST: dict[str, Any] = {
    "name": "alp-rte",
    "source": {"kind": "demo", "folder": None},
    "banners": ["DEMO DATA: made up, says nothing about GLUE."],
    "preset": "demo",
    "command": "python -m harness.study --method alp --task rte",
    "protocol": "clean",
    "tasks": {
        "rte": {
            "title": "Textual entailment",
            "metrics": ["accuracy", "f1"],
            "sizes": {"train": 90, "select": 10, "validation": 10},
            "constant": 0.5,
        }
    },
    "studies": {"rte": {"alp": "s-alp", "finetune": "s-finetune"}},
    "methods": {
        "alp": {
            "name": "alp",
            "aliases": ["alp-kd"],
            "summary": "Attention over teacher layers.",
            "paper": "arXiv 2012.14022",
            "hyper-parameters": {"layer_weight": "0 to 1"},
        }
    },
    "family": [["rte", "alp", "finetune"]],
    "trials": 2,
    "random_trials": 2,
    "search_seeds": [0],
    "report_seeds": [100, 101, 102],
    "alpha": 0.05,
    "baseline": "finetune",
    "teachers": {
        "rte": {
            "fingerprint": "t" * 64,
            "task": "rte",
            "name": "demo-teacher",
            "origin": "fine-tuned here",
            "metrics": {
                "select": {"accuracy": 0.97, "f1": 0.96},
                "validation": {"accuracy": 0.95, "f1": 0.94},
            },
            "constant": 0.5,
            "layers": 3,
            "width": 8,
            "variance_shares": [0.005, 0.3, 0.4],
            "seconds": 3.0,
            "weak": False,
        }
    },
    "config": {"training": {"epochs": 2, "precision": "fp32"}, "storage": None},
    "provenance": {"python": "3.12", "libraries": {"torch": "2.11"}, "revision": "abc"},
    "refused": {},
    "broken_plugins": {},
}
ATTENTION: dict[str, Any] = {
    "split": "validation",
    "examples": 10,
    "map": [[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]],
    "entropy": [0.5, 0.7],
    "target_length": [2.0, 3.0],
    "target_variance_share": [0.2, 0.1],
}


class Scribe:
    """Writes a small ledger by hand."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.manifest = copy.deepcopy(MANIFEST)

    def begin(self) -> None:
        self.ledger.write_ablation(self.manifest["name"], self.manifest)
        for studies in self.manifest["studies"].values():
            for study in studies.values():
                self.ledger.write_study(study, {})

    def teacher(self, **changes: Any) -> None:
        self.manifest["teachers"]["rte"] |= changes

    def run(
        self,
        method: str,
        role: Any,
        trial: int,
        seed: int,
        score: float,
        *,
        status: Any = "complete",
        reason: str | None = None,
        setting: dict[str, Any] | None = None,
        predicted: bool = True,
        targets: dict[str, Any] | None = None,
        revision: str = "abc",
        epochs: int = 2,
    ) -> None:
        name = f"{method}-{role}-{trial}-{seed}"
        finished = status == "complete"
        record = Record(
            fingerprint=name,
            inputs={
                "results_version": 1,
                "task": "rte",
                "setting": setting or {"learning_rate": 1e-4 * (trial + 1)},
                "training": {"epochs": epochs},
                "evaluation": [["validation" if role == "report" else "select", "sha"]],
            },
            status=status,
            reason=reason,
            metrics={"accuracy": score, "f1": score / 2} if finished else {},
            curves=[{"label": 1.0 + seed - 100, "total": 2.0}, {"label": 0.5, "total": 1.0}]
            if finished
            else [],
            seconds=2.0 + trial,
            examples_per_second=50.0,
            peak_memory=3.0 * 2**20,
            provenance={"revision": revision, "libraries": {"torch": "2.11"}},
        )
        predictions = {}
        if role == "report" and finished and predicted:
            predictions["validation"] = _predictions(score)
        inspections = {"targets": targets} if targets else {}
        self.ledger.write_runs([Result(record, predictions, inspections)])
        self.ledger.use_run(f"s-{method}", role, trial, seed, name)

    def finished(self) -> None:
        """Two trials and three report seeds of two methods; alp's second trial is its best."""
        self.begin()
        for method, best in (("alp", 1), ("finetune", 0)):
            for trial in (0, 1):
                self.run(method, "search", trial, 0, 0.8 if trial == best else 0.6)
            scores = METHOD_SCORES if method == "alp" else BASELINE_SCORES
            for seed, score in scores.items():
                seen = ATTENTION if method == "alp" else None
                self.run(method, "report", best, seed, score, targets=seen)


def _predictions(score: float) -> Predictions:
    """Ten examples of which the first `score` share are right."""
    right = np.arange(10) < round(10 * score)
    predicted = np.where(right, LABELS, 1 - LABELS)
    logits = np.eye(2, dtype=np.float32)[predicted]
    return Predictions(logits, LABELS.astype(np.float64), np.arange(10))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield opened
    opened.close()


@pytest.fixture
def scribe(ledger: Ledger) -> Scribe:
    return Scribe(ledger)
