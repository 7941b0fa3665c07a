"""The differences between two ablations of one ledger. Never imports torch.

The methods and tasks of both ablations are compared over the seeds that both report: the second minus
the first. No manifest fixed this family before the runs, so there is no verdict.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from harness.analysis.compare import AblationResult, read_ablation
from harness.analysis.comparison import BOOTSTRAP_SEED
from harness.analysis.pools import exchange_of, tuned_paired_difference
from harness.analysis.repeats import read_parts
from harness.analysis.results import MethodResult, search_ended
from harness.config import json_values
from harness.errors import UserError
from harness.stats import PairedDifference, holm, paired_difference
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from harness.storage.record import Record

NOT_SET = "not set"
Key = tuple[str, str]
"""A task and a method."""


@dataclass(frozen=True)
class Change:
    """One entry of the configuration that differs, by its dotted name."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class MethodDiff:
    """One method on one task in both ablations, with a `difference`, or the reason of a `refusal`."""

    task: str
    method: str
    metric: str
    first: MethodResult
    second: MethodResult
    seeds: tuple[int, ...]
    """The report seeds of both ablations, ascending; the difference leaves out all other seeds.
    Of pools the difference takes the trials that both ablations have, with failed trials."""
    difference: PairedDifference | None
    """Second minus first, over `seeds`. The interval is for one comparison."""
    adjusted_p: float | None
    """Holm's adjusted p value over all differences of the two ablations."""
    refusal: str

    @property
    def unpaired_seeds(self) -> tuple[int, ...]:
        """Report seeds of one ablation only."""
        return tuple(sorted(set(self.first.seeds) ^ set(self.second.seeds)))

    @property
    def failure_counts(self) -> tuple[int, int]:
        """Number of failed report runs in each ablation; the runs that are left may flatter."""
        return len(self.first.failed_seeds), len(self.second.failed_seeds)


@dataclass(frozen=True)
class AblationDiff:
    """Two ablations, the changes in their configuration, and the methods that both trained."""

    first: AblationResult
    second: AblationResult
    changes: tuple[Change, ...]
    pairs: tuple[MethodDiff, ...]
    leftovers: tuple[str, ...]
    """In words, the methods and tasks of one ablation only."""

    @property
    def alpha(self) -> float:
        """The stricter of the two levels."""
        return min(side.manifest.alpha for side in (self.first, self.second))


def read_ablation_diff(ledger: Ledger, first: str, second: str) -> AblationDiff:
    """Read two ablations by name and compare the methods and tasks of both.

    Raises:
        StorageError: there is no ablation of that name.
        UserError: the ablations are of different sources, which are never compared.
    """
    sides = read_ablation(ledger, first), read_ablation(ledger, second)
    kinds = [side.manifest.source.kind for side in sides]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"--compare: {first} is of the source {kinds[0]}, {second} of {kinds[1]}; "
            "scores of different sources are never compared"
        )
    changes = _changes(*(side.manifest for side in sides))
    diff = AblationDiff(*sides, changes, pairs=(), leftovers=_leftovers(*sides))
    records = [_report_records(ledger, side) for side in sides]
    pairs = [
        _method_diff(diff, key, [side_records[key] for side_records in records])
        for key in _common_keys(*sides)
    ]
    return replace(diff, pairs=_adjust(pairs))


def _report_records(ledger: Ledger, side: AblationResult) -> dict[Key, dict[int, Record]]:
    """By method on a task, the complete report runs by seed, with those of all repeats."""
    results = [*side.results, *chain.from_iterable(read_parts(ledger, side.manifest).values())]
    records: dict[Key, dict[int, Record]] = {(r.task, r.method): {} for r in results}
    for result in results:
        records[result.task, result.method] |= {
            run.seed: run.record for run in result.report if run.record.status == "complete"
        }
    return records


def _common_keys(first: AblationResult, second: AblationResult) -> list[Key]:
    keys = [(result.task, result.method) for result in second.results]
    return [(r.task, r.method) for r in first.results if (r.task, r.method) in keys]


def _leftovers(first: AblationResult, second: AblationResult) -> tuple[str, ...]:
    common_keys = set(_common_keys(first, second))
    return tuple(
        f"{result.method} on {result.task} is in {side.manifest.name} only"
        for side in (first, second)
        for result in side.results
        if (result.task, result.method) not in common_keys
    )


def _method_diff(
    diff: AblationDiff, key: Key, records: Sequence[Mapping[int, Record]]
) -> MethodDiff:
    first, second = diff.first.result(*key), diff.second.result(*key)
    assert first is not None
    assert second is not None
    seeds = tuple(sorted(set(first.seeds) & set(second.seeds)))
    refusal = _refusal(diff, first, second, seeds) or _records_refusal(*records)
    method_diff = MethodDiff(*key, first.metric, first, second, seeds, None, None, refusal)
    if refusal:
        return method_diff
    if first.tuned is not None and second.tuned is not None:
        trials = min(first.tuned.trials, second.tuned.trials)
        exchange = exchange_of(second.tuned.first(trials), first.tuned.first(trials))
        difference = tuned_paired_difference(exchange, 1 - diff.alpha)
    else:
        difference = paired_difference(
            second.scores_of(seeds),
            first.scores_of(seeds),
            confidence=1 - diff.alpha,
            generator=np.random.default_rng(BOOTSTRAP_SEED),
        )
    return replace(method_diff, difference=difference)


def _refusal(
    diff: AblationDiff, first: MethodResult, second: MethodResult, seeds: tuple[int, ...]
) -> str:
    """The reason against a paired difference; empty without a reason."""
    for side, result in ((diff.first, first), (diff.second, second)):
        name = side.manifest.name
        if not search_ended(result, side.manifest):
            if side.manifest.unit == "trial":
                return f"the trials of {name} have not ended"
            return f"the search of {name} has not ended"
        if not result.seeds:
            all_failed = side.manifest.unit == "trial" and bool(result.report)
            return (
                f"all trials of {name} failed"
                if all_failed
                else f"{name} has no finished report run"
            )
        if side.sequential:
            return f"{name} added runs until its own comparisons were decided"
    if diff.first.manifest.is_joint != diff.second.manifest.is_joint:
        return "only one of them repeats whole pipelines: a repeat is not paired with a seed"
    budgets = [side.manifest.budget for side in (diff.first, diff.second)]
    if budgets[0] != budgets[1]:
        names = (
            "two settings" if budget is None else f"a budget of {budget}" for budget in budgets
        )
        return f"about different subjects: {' and '.join(names)}"
    if first.metric != second.metric:
        return f"scored by {first.metric} and by {second.metric}"
    if not seeds:
        return "no report seed in common: unpaired runs are not compared"
    return ""


def _records_refusal(first: Mapping[int, Record], second: Mapping[int, Record]) -> str:
    """The reason in the report runs (by seed) against a difference; empty without a reason."""
    splits = [{record.inputs.split for record in side.values()} for side in (first, second)]
    if splits[0] != splits[1]:
        return "evaluated on different examples"
    seeds = first.keys() & second.keys()
    if seeds and all(first[seed].fingerprint == second[seed].fingerprint for seed in seeds):
        return "the very same runs"
    return ""


def _adjust(pairs: list[MethodDiff]) -> tuple[MethodDiff, ...]:
    p_values = [pair.difference.p_value for pair in pairs if pair.difference is not None]
    adjusted_p_values = iter(holm(p_values) if p_values else ())
    return tuple(
        pair if pair.difference is None else replace(pair, adjusted_p=next(adjusted_p_values))
        for pair in pairs
    )


def _changes(first: Manifest, second: Manifest) -> tuple[Change, ...]:
    entries, other_entries = (dict(_entries(_design(manifest))) for manifest in (first, second))
    return tuple(
        Change(name, entries.get(name, NOT_SET), other_entries.get(name, NOT_SET))
        for name in dict.fromkeys((*entries, *other_entries))
        if entries.get(name, NOT_SET) != other_entries.get(name, NOT_SET)
    )


def _design(manifest: Manifest) -> dict[str, Any]:
    """All that may change scores: the configuration, teachers, seeds and versions."""
    provenance = manifest.provenance
    return {
        **json_values(manifest.config),
        "report seeds": manifest.report_seeds,
        "search seeds": manifest.search_seeds,
        "teacher fingerprint": {
            task: teacher.fingerprint for task, teacher in manifest.teachers.items()
        },
        "provenance": {
            "python": provenance.python,
            "libraries": provenance.libraries,
            "processor": provenance.processor,
            "revision": provenance.revision,
        },
    }


def _entries(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Dotted names with values as texts; values that are not set are left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{name}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}", text
