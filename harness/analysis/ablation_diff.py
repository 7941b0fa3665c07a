"""Two ablations of one ledger side by side, which no manifest planned. Never imports torch.

What they have in common, the methods on the tasks, is compared by the seeds that both report: the second
minus the first. No verdict is given: nobody fixed this family before the runs were seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from harness.analysis.compare import BOOTSTRAP_SEED, AblationResult, uncompared
from harness.analysis.repeats import read_parts
from harness.analysis.results import MethodResult, search_ended
from harness.config import json_values
from harness.errors import UserError
from harness.stats import PairedDifference, holm, paired_difference
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from harness.storage.record import Record

NOT_SET = "not set"
Place = tuple[str, str]
"""A task and a method."""


@dataclass(frozen=True)
class Change:
    """One entry of the configuration that differs, by its dotted name."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class Both:
    """One method on one task in both ablations. Either `difference`, or `refused`, why there is none."""

    task: str
    method: str
    metric: str
    first: MethodResult
    second: MethodResult
    seeds: tuple[int, ...]
    """That both report, ascending; what else they report is left out of the difference."""
    difference: PairedDifference | None
    """Second minus first, over `seeds`. Its interval is for one comparison."""
    adjusted_p: float | None
    """Holm's, over all differences of the page."""
    refused: str

    @property
    def unpaired(self) -> tuple[int, ...]:
        """Report seeds of one side only."""
        return tuple(sorted(set(self.first.seeds) ^ set(self.second.seeds)))

    @property
    def failed(self) -> tuple[int, int]:
        """How many report runs failed on either side; what is left may flatter."""
        return len(self.first.failed_seeds), len(self.second.failed_seeds)


@dataclass(frozen=True)
class SideBySide:
    """Two ablations, what differs in their configuration, and what both trained."""

    first: AblationResult
    second: AblationResult
    changes: tuple[Change, ...]
    pairs: tuple[Both, ...]
    alone: tuple[str, ...]
    """In words, what only one of them has."""

    @property
    def alpha(self) -> float:
        """The stricter of the two levels."""
        return min(side.manifest.alpha for side in (self.first, self.second))


def side_by_side(ledger: Ledger, first: str, second: str) -> SideBySide:
    """Read two ablations and compare what they have in common.

    Raises:
        StorageError: there is none of that name.
        UserError: they are of different sources, which are never compared.
    """
    sides = uncompared(ledger, first), uncompared(ledger, second)
    kinds = [side.manifest.source.kind for side in sides]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"--compare: {first} is of the source {kinds[0]}, {second} of {kinds[1]}; "
            "scores of different sources are never compared"
        )
    found = SideBySide(*sides, _changes(*(side.manifest for side in sides)), (), _alone(*sides))
    records = _report_records(ledger, found.first), _report_records(ledger, found.second)
    pairs = [_both(found, place, [own[place] for own in records]) for place in _common(*sides)]
    return replace(found, pairs=_adjusted(pairs))


def _report_records(ledger: Ledger, side: AblationResult) -> dict[Place, dict[int, Record]]:
    """The complete report runs of each method on each task, of repeats those of all of them."""
    results = [*side.results, *chain.from_iterable(read_parts(ledger, side.manifest).values())]
    found: dict[Place, dict[int, Record]] = {(r.task, r.method): {} for r in results}
    for result in results:
        complete = (run for run in result.report if run.record.status == "complete")
        found[result.task, result.method] |= {run.seed: run.record for run in complete}
    return found


def _common(first: AblationResult, second: AblationResult) -> list[Place]:
    places = [(result.task, result.method) for result in second.results]
    return [(r.task, r.method) for r in first.results if (r.task, r.method) in places]


def _alone(first: AblationResult, second: AblationResult) -> tuple[str, ...]:
    common = set(_common(first, second))
    return tuple(
        f"{result.method} on {result.task} is in {side.manifest.name} only"
        for side in (first, second)
        for result in side.results
        if (result.task, result.method) not in common
    )


def _both(found: SideBySide, place: Place, records: Sequence[Mapping[int, Record]]) -> Both:
    first, second = found.first.result(*place), found.second.result(*place)
    assert first is not None
    assert second is not None
    seeds = tuple(sorted(set(first.seeds) & set(second.seeds)))
    refused = _reason(found, first, second, seeds) or _same_runs_or_other_examples(*records)
    both = Both(*place, first.metric, first, second, seeds, None, None, refused)
    if refused:
        return both
    difference = paired_difference(
        second.scores_of(seeds),
        first.scores_of(seeds),
        confidence=1 - found.alpha,
        generator=np.random.default_rng(BOOTSTRAP_SEED),
    )
    return replace(both, difference=difference)


def _reason(
    found: SideBySide, first: MethodResult, second: MethodResult, seeds: tuple[int, ...]
) -> str:
    """Why there is no paired difference; empty where there is one."""
    sides = (found.first, first), (found.second, second)
    repeats = [side.manifest.joint for side, _ in sides]
    for side, result in sides:
        name = side.manifest.name
        if not search_ended(result, side.manifest):
            return f"the search of {name} has not ended"
        if not result.seeds:
            return f"{name} has no finished report run"
        if side.sequential:
            return f"{name} added seeds until its own comparisons were decided"
    if repeats[0] != repeats[1]:
        return "one repeats the whole, the other does not: its seeds are other things"
    if first.metric != second.metric:
        return f"scored by {first.metric} and by {second.metric}"
    if not seeds:
        return "no report seed in common: unpaired runs are not compared"
    return ""


def _same_runs_or_other_examples(first: Mapping[int, Record], second: Mapping[int, Record]) -> str:
    """Why report runs by seed say nothing of a difference; empty where they do."""
    splits = [{record.inputs.split for record in own.values()} for own in (first, second)]
    if splits[0] != splits[1]:
        return "evaluated on different examples"
    common = first.keys() & second.keys()
    if common and all(first[seed].fingerprint == second[seed].fingerprint for seed in common):
        return "the very same runs"
    return ""


def _adjusted(pairs: list[Both]) -> tuple[Both, ...]:
    compared = [both for both in pairs if both.difference is not None]
    p_values = [both.difference.p_value for both in compared if both.difference is not None]
    adjusted = iter(holm(p_values) if p_values else ())
    return tuple(
        both if both.difference is None else replace(both, adjusted_p=next(adjusted))
        for both in pairs
    )


def _changes(first: Manifest, second: Manifest) -> tuple[Change, ...]:
    before, after = (dict(_flat(_design(manifest))) for manifest in (first, second))
    return tuple(
        Change(name, before.get(name, NOT_SET), after.get(name, NOT_SET))
        for name in dict.fromkeys((*before, *after))
        if before.get(name, NOT_SET) != after.get(name, NOT_SET)
    )


def _design(manifest: Manifest) -> dict[str, Any]:
    """What may make scores differ: the configuration, teachers, seeds and versions."""
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


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Dotted names with values as texts; what is not set is left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}", shown
