"""Repeats (`--repeat-search R`), read from the ledger: one score for each repeat.

The unit of replication is teacher, search and runs together. `harness.experiment.repeats` writes the
repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from harness.analysis.results import MethodResult, read_results, search_ended
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest


def read_parts(ledger: Ledger, manifest: Manifest) -> dict[str, tuple[MethodResult, ...]]:
    """The results of each repeat by its ablation's name, in order; empty without repeats."""
    return {name: tuple(part.results.values()) for name, part in _parts(ledger, manifest).items()}


def numbered(
    manifest: Manifest, parts: Mapping[str, tuple[MethodResult, ...]]
) -> dict[int, tuple[MethodResult, ...]]:
    """`read_parts` by the repeat's number, from 0; a repeat that could not be done has no entry."""
    return {number: parts[name] for number, name in enumerate(manifest.repeats) if name is not None}


def read_repeats(ledger: Ledger, manifest: Manifest) -> tuple[MethodResult, ...]:
    """One result per task and method: `seeds` are the repeats, and `scores` are their means.

    A repeat has failed if it could not be done, or if a report run failed: the runs that are left might
    flatter. A repeat with missing search or report runs does not count yet. `search`, `report` and the
    setting are empty: each repeat has its own.
    """
    by_name = _parts(ledger, manifest)
    parts = [None if name is None else by_name[name] for name in manifest.repeats]
    return tuple(
        _join(task, method, manifest.primary_metric(task), parts)
        for task, methods in manifest.studies.items()
        for method in methods
    )


class _Part(NamedTuple):
    """A repeat: its manifest, and its results by task and method."""

    manifest: Manifest
    results: Mapping[tuple[str, str], MethodResult]


def _parts(ledger: Ledger, manifest: Manifest) -> dict[str, _Part]:
    """The repeats that could be done by their ablations' names, in order."""
    manifests = {name: ledger.manifest(name) for name in manifest.repeats if name is not None}
    return {
        name: _Part(
            part,
            {
                (result.task, result.method): result
                for task, studies in part.studies.items()
                for result in read_results(ledger, part, task, studies)
            },
        )
        for name, part in manifests.items()
    }


def _join(task: str, method: str, metric: str, parts: Sequence[_Part | None]) -> MethodResult:
    results: dict[int, MethodResult] = {}
    failed_repeats, failures = set(), []
    for repeat, part in enumerate(parts):
        result = None if part is None else part.results.get((task, method))
        if part is None or result is None:
            failed_repeats.add(repeat)
            continue
        failures += [f"repeat {repeat}, {text}" for text in result.failures]
        if not search_ended(result, part.manifest):
            continue
        if result.tuned is not None or (
            len(result.scores) == len(part.manifest.report_seeds)
            and part.manifest.config.protocol.unit == "settings"
        ):
            results[repeat] = result
        elif result.failed_seeds or result.best_trial is None:
            failed_repeats.add(repeat)
    names = next(iter(results.values())).metrics if results else {}
    return MethodResult(
        task=task,
        method=method,
        study="",
        metric=metric,
        search=(),
        report=(),
        best_trial=None,
        setting={},
        seeds=tuple(results),
        scores=tuple(result.mean for result in results.values()),
        metrics={
            name: float(np.mean([result.metrics[name] for result in results.values()]))
            for name in names
        },
        failures=tuple(failures),
        failed_seeds=frozenset(failed_repeats),
        split=next((result.split for result in results.values()), None),
    )
