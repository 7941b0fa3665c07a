import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.results import MethodResult
from harness.storage.ledger import Ledger
from harness.storage.manifest import StudyManifest
from harness.storage.record import LABEL_LOSS, Predictions, Result
from reports.evidence import Evidence, read_evidence
from reports.kit.blocks import Block
from reports.page.contents import sections
from tests.manifests import manifest
from tests.records import record

LABELS = np.array([0, 1] * 5)
MIB = 2**20
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
            "hyper_parameters": {"layer_weight": "0 to 1"},
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
TOLD = {"split": "validation", "examples": 10, "pooling": "cls"}
LAYERS: dict[str, Any] = TOLD | {
    "cka": {
        "before": [[0.2, 0.6, 0.4], [0.1, 0.3, 0.5]],
        "after": [[0.3, 0.9, 0.5], [0.2, 0.4, 0.7]],
    },
    "cosine": {
        "before": [[0.5, 0.1, -0.2], [0.0, 0.2, 0.4]],
        "after": [[0.5, 0.6, 0.2], [0.1, 0.2, 0.8]],
    },
    "angles": {
        "before": [
            [[0, 30, 60], [30, 0, 40], [60, 40, 0]],
            [[0, 50, 95], [50, 0, 60], [95, 60, 0]],
        ],
        "after": [[[0, 20, 50], [20, 0, 30], [50, 30, 0]], [[0, 45, 80], [45, 0, 70], [80, 70, 0]]],
    },
}
EPOCHS: dict[str, Any] = TOLD | {
    "epochs": [0, 1, 2],
    "map": [[[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], *[[[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]]] * 2],
    "entropy": [[0.9, 0.9], [0.6, 0.8], [0.5, 0.7]],
}
PROJECTION: dict[str, Any] = TOLD | {
    "joint": True,
    "labels": [0, 1, 0, 1],
    "explained": {"student": [0.5, 0.25], "teacher": [0.5, 0.25]},
    "student": [[[1, 0], [2, 1], [3, 0], [4, 1]], [[1.234, 0], [-20, 1], [3, 0], [4, 1]]],
    "teacher": [[[layer, 1], [layer, 2], [0, 3], [0, 4]] for layer in (1, 2, 3)],
    "fused": [[[0.5, 0], [1, 1], [1.5, 0], [2, 1]], [[5, 5], [6, 6], [7, 7], [8, 8]]],
}


class Scribe:
    """Writes a small ledger by hand."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.manifest = copy.deepcopy(MANIFEST)
        self.space = {
            "learning_rate": "FloatDistribution(high=0.001, log=True, low=0.0001, step=None)"
        }
        """The space of every study: hyper-parameters and distributions, as Optuna prints them."""
        self.texts: list[tuple[str, ...]] = [(f"premise {id}", f"guess {id}") for id in range(10)]
        """Texts of the evaluation split."""

    def begin(self) -> None:
        self.write()
        self.ledger.write_texts("sha", np.arange(len(self.texts)), self.texts)
        for studies in self.manifest["studies"].values():
            for study in studies.values():
                self.study(study)

    def write(self, **changes: Any) -> None:
        """Write the manifest, with changes that are of this one only."""
        self.ledger.write_ablation(manifest(**self.manifest | changes))

    def study(self, name: str) -> None:
        self.ledger.write_study(name, StudyManifest({}, self.space, {}))

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
        seen: dict[str, Any] | None = None,
        revision: str = "abc",
        epochs: int = 2,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        name = f"{method}-{role}-{trial}-{seed}"
        finished = status == "complete"
        metrics = {"accuracy": score, "f1": score / 2} if finished else {}
        is_scored = finished and role == "search"
        made = record(
            name,
            inputs={
                "setting": setting or {"learning_rate": 1e-4 * (trial + 1)},
                "training": {"epochs": epochs},
                "evaluation": [["validation" if role == "report" else "select", "sha"]],
            },
            status=status,
            reason=reason,
            metrics=metrics,
            selection={**metrics, LABEL_LOSS: 1 - score} if is_scored else {},
            curves=[{"label": 1.0 + seed - 100, "total": 2.0}, {"label": 0.5, "total": 1.0}]
            if finished
            else [],
            seconds=2.0 + trial,
            examples_per_second=50.0,
            peak_memory=3.0 * 2**20,
            provenance={"revision": revision, **(provenance or {})},
        )
        predictions = {}
        if role == "report" and finished and predicted:
            predictions["validation"] = _predictions(score)
        self.ledger.write_runs([Result(made, predictions, seen or {})])
        self.ledger.use_run(f"s-{method}", role, trial, seed, name)

    def finished(self) -> None:
        """Two trials and three report seeds of two methods; alp's second trial is its best."""
        self.begin()
        for method, best in (("alp", 1), ("finetune", 0)):
            for trial in (0, 1):
                self.run(method, "search", trial, 0, 0.8 if trial == best else 0.6)
            scores = METHOD_SCORES if method == "alp" else BASELINE_SCORES
            for seed, score in scores.items():
                seen = {"layers": LAYERS, "projection": PROJECTION | {"fused": None}}
                if method == "alp":
                    seen |= {"targets": ATTENTION, "epochs": EPOCHS, "projection": PROJECTION}
                self.run(method, "report", best, seed, score, seen=seen)


def measured(
    scribe: Scribe, method: str, points: float, seconds: float, memory: float, *with_: str
) -> MethodResult:
    """A method's result with two report runs of that mean score and cost."""
    scribe.manifest["studies"]["rte"].setdefault(method, f"s-{method}")
    scribe.begin()
    names = [f"{method}-report-0-{seed}" for seed in (100, 101)]
    scribe.run(method, "search", 0, 0, 0.8)
    for seed, less in ((100, 0.01), (101, -0.01)):
        scribe.run(
            method, "report", 0, seed, points / 100 + less, predicted=False,
            provenance={"population": [*names, *with_]},
        )  # fmt: skip
    result = read_evidence(scribe.ledger, "alp-rte").result.result("rte", method)
    shares = (seconds - 1, seconds + 1)
    return replace(
        result,
        report=tuple(
            replace(run, record=replace(run.record, seconds=own, peak_memory=memory * MIB))
            for run, own in zip(result.report, shares, strict=True)
        ),
    )


def section_blocks(evidence: Evidence, anchor: str) -> tuple[Block, ...]:
    """The blocks that the page has under an anchor; none where it leaves the section out."""
    by_anchor = {section.anchor: blocks for section, blocks in sections(evidence)}
    return by_anchor.get(anchor, ())


def looked_inside(scribe: Scribe, *seen: dict[str, Any], method: str = "alp") -> Evidence:
    """Report runs of one method, with what was looked at in each of them."""
    scribe.run(method, "search", 0, 0, 0.7)
    for seed, records in enumerate(seen, start=100):
        scribe.run(method, "report", 0, seed, 0.7, seen=records)
    return read_evidence(scribe.ledger, "alp-rte")


def layers(cka: list[Any], **changes: Any) -> dict[str, Any]:
    """A run's record of its layers with that CKA, before and after."""
    return {"layers": LAYERS | {"cka": {"before": cka, "after": cka}} | changes}


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


@pytest.fixture
def evidence(scribe: Scribe) -> Evidence:
    """The evidence of a finished ablation of two methods."""
    scribe.finished()
    return read_evidence(scribe.ledger, "alp-rte")


@pytest.fixture
def two_tasks(scribe: Scribe) -> Evidence:
    """The same studies under the names of two tasks."""
    for part in ("tasks", "studies", "teachers"):
        scribe.manifest[part]["qnli"] = copy.deepcopy(scribe.manifest[part]["rte"])
    scribe.manifest["family"].append(["qnli", "alp", "finetune"])
    scribe.finished()
    return read_evidence(scribe.ledger, "alp-rte")
