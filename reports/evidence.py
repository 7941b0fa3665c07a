"""All that one report is made of, read from the ledger once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.across import Across, across, false_discovery
from harness.by_example import ByExample, by_example
from harness.compare import AblationResult, summarise
from harness.ledger import Ledger, Record
from harness.repeats import read_parts
from harness.results import MethodResult

POINTS = 100.0
"""Scores are printed in points: hundredths."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Targets:
    """What a method's student layers were matched to, each value a mean over its `seeds` report runs.

    `target_length` and `target_variance_share` (student layers,), on `examples` examples of `split`;
    of attention also `weights` (student layers, teacher layers) and their `entropy` (student layers,),
    a share of its maximum.
    """

    weights: Floats | None
    entropy: Floats | None
    target_length: Floats
    target_variance_share: Floats
    split: str
    examples: int
    seeds: int


@dataclass(frozen=True)
class Evidence:
    """An ablation's result, with targets by (task, method) for methods that have them.

    `discovery_p` are Benjamini-Hochberg adjusted p values by (task, method, baseline).
    """

    result: AblationResult
    targets: Mapping[tuple[str, str], Targets]
    across: Across
    by_example: ByExample
    discovery_p: Mapping[tuple[str, str, str], float]
    repeats: Mapping[str, tuple[MethodResult, ...]]
    """The results of each repeat by its ablation's name, where the whole was repeated."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the command that made the ablation wrote about it."""
        return self.result.manifest

    @property
    def teachers(self) -> Mapping[str, Mapping[str, Any]]:
        """What is known of each task's teacher: fingerprint, scores, shape, variance shares."""
        found: Mapping[str, Mapping[str, Any]] = self.manifest["teachers"]
        return found

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with studies, in the manifest's order."""
        return tuple(self.manifest["studies"])

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods of all tasks; the baseline first, then in the manifest's order."""
        found = dict.fromkeys(result.method for result in self.result.results)
        return tuple(sorted(found, key=lambda method: method != self.manifest.get("baseline")))

    def results(self, task: str) -> tuple[MethodResult, ...]:
        """The task's results, in the order of `methods`."""
        found = (self.result.result(task, method) for method in self.methods)
        return tuple(result for result in found if result is not None)

    def task_label(self, task: str) -> str:
        """The task's title with its name."""
        title = str(self.manifest["tasks"][task].get("title", task))
        return title if title.lower() == task.lower() else f"{title} ({task})"

    def evaluation_split(self, task: str) -> str | None:
        """The split that the report runs are scored on; None before there is one."""
        runs = (run for result in self.results(task) for run in result.report)
        splits = (split for run in runs for split, _ in run.record.inputs.get("evaluation", ()))
        return next(splits, None)

    def records(self) -> tuple[Record, ...]:
        """The records of all runs, search and report, of repeats too."""
        results = (*self.result.results, *chain.from_iterable(self.repeats.values()))
        return tuple(run.record for result in results for run in (*result.search, *result.report))


def read_evidence(ledger: Ledger, ablation: str) -> Evidence:
    """Read one ablation. Raises `StorageError` when there is none of that name."""
    result = summarise(ledger, ablation)
    targets = {(found.task, found.method): _targets(ledger, found) for found in result.results}
    return Evidence(
        result=result,
        targets={key: value for key, value in targets.items() if value is not None},
        across=across(result),
        by_example=by_example(ledger, result),
        discovery_p=false_discovery(result),
        repeats=read_parts(ledger, result.manifest),
    )


def _targets(ledger: Ledger, result: MethodResult) -> Targets | None:
    complete = (run.record for run in result.report if run.record.status == "complete")
    inspected = [ledger.inspections(record.fingerprint) for record in complete]
    # "attention" is what ledgers of earlier versions call them.
    facts = [
        seen for found in inspected if (seen := found.get("targets") or found.get("attention"))
    ]
    if not facts:
        return None

    def mean(name: str) -> Floats:
        values: Floats = np.asarray([fact[name] for fact in facts], dtype=np.float64)
        return np.asarray(values.mean(axis=0))

    attends = "map" in facts[0]
    return Targets(
        weights=mean("map") if attends else None,
        entropy=mean("entropy") if attends else None,
        target_length=mean("target_length"),
        target_variance_share=mean("target_variance_share"),
        split=str(facts[0]["split"]),
        examples=int(facts[0]["examples"]),
        seeds=len(facts),
    )
