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
    """The report runs that all methods have in common; no other runs are ranked or aggregated."""

    methods: tuple[str, ...]
    """Methods that are finished on some task, the baseline first. Finished: every search trial has
    ended, and a report run is complete."""
    seeds: Mapping[str, tuple[int, ...]]
    """By task, the seeds that every method finished; ascending. Only complete tasks are in it."""
    left_out: tuple[str, ...]
    """Methods, tasks and seeds that are left out, and why."""
    unit: str
    """The unit that a seed stands for: "seed", or "repeat" where whole pipelines were repeated."""

    @property
    def shared_seeds(self) -> tuple[int, ...]:
        """Seeds that every method finished on every complete task."""
        task_seeds = [set(seeds) for seeds in self.seeds.values()]
        return tuple(sorted(set.intersection(*task_seeds))) if task_seeds else ()


def complete_runs(result: AblationResult) -> CompleteRuns:
    """The seeds that all methods finished, by task."""
    names = dict.fromkeys(method_result.method for method_result in result.results)
    finished_methods = {
        method
        for method in names
        for task in result.manifest.studies
        if _finished_seeds(result, task, method)
    }
    baseline = result.manifest.baseline
    methods = sorted(
        (method for method in names if method in finished_methods),
        key=lambda method: method != baseline,
    )
    left_out = [
        f"{method} (not finished on any task)" for method in names if method not in finished_methods
    ]
    seeds: dict[str, tuple[int, ...]] = {}
    for task in result.manifest.studies:
        method_seeds = {method: _finished_seeds(result, task, method) for method in methods}
        unfinished_methods = [method for method in methods if not method_seeds[method]]
        common = sorted(set.intersection(*method_seeds.values())) if methods else []
        others = sorted(set().union(*method_seeds.values()) - set(common))
        if unfinished_methods:
            left_out.append(f"{task} (not finished by {', '.join(unfinished_methods)})")
        elif not common:
            left_out.append(f"{task} (no seed that every method finished)")
        elif others and not result.sequential:
            numbers = ", ".join(map(str, others))
            left_out.append(f"seeds {numbers} of {task} (not finished by every method)")
        if common:
            seeds[task] = tuple(common)
    return CompleteRuns(tuple(methods), seeds, tuple(left_out), result.manifest.unit)


def scores_by_method(
    result: AblationResult, task: str, methods: Sequence[str], seeds: Sequence[int]
) -> Floats:
    """Raw scores (seeds, methods) on a task."""
    return np.concatenate(
        [scores_by_task(result, method, (task,), seeds) for method in methods], axis=1
    )


def scores_by_task(
    result: AblationResult, method: str, tasks: Sequence[str], seeds: Sequence[int]
) -> Floats:
    """Raw scores (seeds, tasks) of a method."""
    columns = []
    for task in tasks:
        method_result = result.result(task, method)
        assert method_result is not None
        columns.append(method_result.scores_of(seeds))
    return np.stack(columns, axis=1)


def _finished_seeds(result: AblationResult, task: str, method: str) -> set[int]:
    method_result = result.result(task, method)
    if method_result is None or not search_ended(method_result, result.manifest):
        return set()
    return set(method_result.seeds)
