"""Report runs that all methods have in common, and scores as arrays. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.compare import AblationResult
from harness.analysis.results import search_ended
from harness.stats.arrays import Floats


@dataclass(frozen=True)
class CompleteRuns:
    """The report runs that all methods have in common, the only ones that are ranked or aggregated."""

    methods: tuple[str, ...]
    """All that are finished on some task, the baseline first: every search trial has ended, and a
    report run is complete."""
    seeds: Mapping[str, tuple[int, ...]]
    """By task, those that every method finished; ascending. Only complete tasks are in it."""
    left_out: tuple[str, ...]
    """Methods, tasks and seeds that are not, and why."""
    unit: str
    """What a seed stands for: "seed", or "repeat" where whole pipelines were repeated."""

    @property
    def shared_seeds(self) -> tuple[int, ...]:
        """Seeds that every method finished on every complete task."""
        of_tasks = [set(seeds) for seeds in self.seeds.values()]
        return tuple(sorted(set.intersection(*of_tasks))) if of_tasks else ()


def complete_runs(result: AblationResult) -> CompleteRuns:
    """The seeds that all methods finished, by task."""
    named = dict.fromkeys(found.method for found in result.results)
    finished = {m for m in named for t in result.manifest.studies if _finished_seeds(result, t, m)}
    baseline = result.manifest.baseline
    methods = sorted((m for m in named if m in finished), key=lambda method: method != baseline)
    left_out = [
        f"{method} (not finished on any task)" for method in named if method not in finished
    ]
    seeds: dict[str, tuple[int, ...]] = {}
    for task in result.manifest.studies:
        of_methods = {method: _finished_seeds(result, task, method) for method in methods}
        lacking = [method for method, its in of_methods.items() if not its]
        common = sorted(set.intersection(*of_methods.values())) if methods else []
        others = sorted(set().union(*of_methods.values()) - set(common))
        if lacking:
            left_out.append(f"{task} (not finished by {', '.join(lacking)})")
        elif not common:
            left_out.append(f"{task} (no seed that every method finished)")
        elif others and not result.sequential:
            listed = ", ".join(map(str, others))
            left_out.append(f"seeds {listed} of {task} (not finished by every method)")
        if common:
            seeds[task] = tuple(common)
    return CompleteRuns(tuple(methods), seeds, tuple(left_out), result.manifest.unit)


def scores_by_method(
    result: AblationResult, task: str, methods: Sequence[str], seeds: Sequence[int]
) -> Floats:
    """Raw scores (seeds, methods) on a task."""
    return np.concatenate([scores_by_task(result, m, (task,), seeds) for m in methods], axis=1)


def scores_by_task(
    result: AblationResult, method: str, tasks: Sequence[str], seeds: Sequence[int]
) -> Floats:
    """Raw scores (seeds, tasks) of a method."""
    columns = []
    for task in tasks:
        found = result.result(task, method)
        assert found is not None
        columns.append(found.scores_of(seeds))
    return np.stack(columns, axis=1)


def _finished_seeds(result: AblationResult, task: str, method: str) -> set[int]:
    found = result.result(task, method)
    if found is None or not search_ended(found, result.manifest):
        return set()
    return set(found.seeds)
