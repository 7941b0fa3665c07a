"""The records of what is inside the students after training, read from the ledger.

Layers count from 1 wherever they are named; in the shapes m is the number of student layers, n of
teacher layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.analysis.compare import AblationResult
from harness.analysis.results import MethodResult
from harness.stats.arrays import Floats
from harness.storage.inspected import TIMES
from harness.storage.ledger import Ledger

FEW_METHODS = 4
"""Up to this number of methods, the states of every method are drawn."""
SELECTED_METHODS = 2
"""The number of methods whose states are drawn if there are more."""

Key = tuple[str, str]
"""Task and method."""


@dataclass(frozen=True)
class Coverage:
    """The data behind a record: the number of `examples` of a `split`, and of report runs (`seeds`)."""

    split: str
    examples: int
    seeds: int


@dataclass(frozen=True)
class Mixture:
    """Weights of teacher layers in the targets of student layers, run by run.

    `epochs` (E,), 0 before training. `weights` (seeds, E, m, n) are means over examples, each row sums
    to one; `entropy` (seeds, E, m), a share of its maximum.
    """

    coverage: Coverage
    epochs: tuple[int, ...]
    weights: Floats
    entropy: Floats


@dataclass(frozen=True)
class Targets:
    """The targets of a method's student layers after training, each a mean over runs.

    `target_length` and `target_variance_share` (m,). `mixture` is None where nothing is mixed. It has
    only the last epoch where no epoch is recorded for every run.
    """

    coverage: Coverage
    target_length: Floats
    target_variance_share: Floats
    mixture: Mixture | None


@dataclass(frozen=True)
class Change:
    """Means over runs before training (`start`) and after it (`end`), of one shape.

    A value is NaN where any run has none.
    """

    start: Floats
    end: Floats

    def values(self, time: str) -> Floats:
        """The means at one of the `TIMES`."""
        return dict(zip(TIMES, (self.start, self.end), strict=True))[time]


@dataclass(frozen=True)
class Likeness:
    """The similarity of a method's student layers and the teacher's layers, on pooled states.

    `cka` (m, n): debiased linear CKA. `cosine` (m, n): mean over examples. `angles` (m, n, n): in
    degrees, between the ways from a student layer's state to two teacher layers' states. The last two
    are None where widths differ.
    """

    coverage: Coverage
    pooling: str
    cka: Change
    cosine: Change | None
    angles: Change | None


@dataclass(frozen=True)
class Projection:
    """States of one run on the plane of the first two principal components.

    `labels` (B,) are integers where they are classes. `student` (m, B, 2), `teacher` (n, B, 2), and
    `targets` (m, B, 2) of the student layers. All states share one plane if `is_joint`; else `student`
    has a plane of its own. `explained`: the share of variance that each plane holds.
    """

    seed: int
    split: str
    pooling: str
    is_joint: bool
    labels: npt.NDArray[Any]
    student: Floats
    teacher: Floats
    targets: Floats | None
    explained: Mapping[str, float]


@dataclass(frozen=True)
class Inspections:
    """All records, by task and method; `finished_keys` have a finished report run."""

    finished_keys: frozenset[Key]
    targets: Mapping[Key, Targets]
    likeness: Mapping[Key, Likeness]
    projections: Mapping[Key, Projection]


def read_inspections(ledger: Ledger, result: AblationResult) -> Inspections:
    """Read the records of an ablation's report runs."""
    runs = {(r.task, r.method): _finished_runs(r) for r in result.results}
    targets: dict[Key, Targets] = {}
    likeness: dict[Key, Likeness] = {}
    projections: dict[Key, Projection] = {}
    for task in dict.fromkeys(task for task, _ in runs):
        task_runs = {key: method_runs for key, method_runs in runs.items() if key[0] == task}
        target_records = _read_each(ledger, task_runs, "targets")
        targets |= {
            key: _targets(ledger, runs[key], records) for key, records in target_records.items()
        }
        layer_records = _read_each(ledger, task_runs, "layers")
        likeness |= {key: _likeness(records) for key, records in layer_records.items()}
        results = [r for r in result.results if r.task == task]
        target_methods = {method for _, method in target_records}
        by_method = _projections(ledger, results, target_methods, result.manifest.baseline)
        projections |= {(task, method): projection for method, projection in by_method.items()}
    return Inspections(
        finished_keys=frozenset(key for key, method_runs in runs.items() if method_runs),
        targets=targets,
        likeness=likeness,
        projections=projections,
    )


@dataclass(frozen=True)
class _Run:
    fingerprint: str
    seed: int
    epochs: int


_Record = tuple[_Run, Any]
"""A run and its inspection of some name."""


def _finished_runs(result: MethodResult) -> list[_Run]:
    return [
        _Run(run.record.fingerprint, run.seed, run.record.inputs.training.epochs)
        for run in result.report
        if run.record.status == "complete"
    ]


def _read(ledger: Ledger, runs: Iterable[_Run], name: str) -> list[_Record]:
    """Each run that has a record of that name, with the record.

    Damaged records are left out, and the ledger's `damages` have their runs.
    """
    runs = list(runs)
    records = ledger.inspections_of((run.fingerprint for run in runs), name)
    return [(run, records[run.fingerprint]) for run in runs if run.fingerprint in records]


def _read_each(
    ledger: Ledger, runs: Mapping[Key, Sequence[_Run]], name: str
) -> dict[Key, Sequence[_Record]]:
    """`_read` of the runs of several methods at once; methods without a record are left out."""
    records = {
        run.fingerprint: (run, fact)
        for run, fact in _read(ledger, chain.from_iterable(runs.values()), name)
    }
    found = {
        key: [records[run.fingerprint] for run in method_runs if run.fingerprint in records]
        for key, method_runs in runs.items()
    }
    return {key: method_records for key, method_records in found.items() if method_records}


def _coverage(facts: Sequence[Mapping[str, Any]]) -> Coverage:
    return Coverage(str(facts[0]["split"]), int(facts[0]["examples"]), len(facts))


def _floats(values: Any) -> Floats:
    """Nested lists as an array; NaN for None."""
    return np.asarray(values, dtype=np.float64)


def _targets(ledger: Ledger, runs: Sequence[_Run], records: Sequence[_Record]) -> Targets:
    facts = [fact for _, fact in records]
    mixture = None
    if "map" in facts[0]:
        weights, entropy = (_floats([fact[name] for fact in facts]) for name in ("map", "entropy"))
        mixture = _mixture(ledger, runs) or Mixture(
            _coverage(facts), (records[0][0].epochs,), weights[:, None], entropy[:, None]
        )
    return Targets(
        _coverage(facts),
        _floats([fact["target_length"] for fact in facts]).mean(axis=0),
        _floats([fact["target_variance_share"] for fact in facts]).mean(axis=0),
        mixture,
    )


def _mixture(ledger: Ledger, runs: Sequence[_Run]) -> Mixture | None:
    """The mixture after the epochs that every run has a record of."""
    facts = [fact for _, fact in _read(ledger, runs, "epochs")]
    if not facts:
        return None
    epochs = sorted(set(facts[0]["epochs"]).intersection(*(fact["epochs"] for fact in facts[1:])))
    positions = [[fact["epochs"].index(epoch) for epoch in epochs] for fact in facts]
    weights, entropy = (
        _floats(
            [
                [fact[name][position] for position in run_positions]
                for fact, run_positions in zip(facts, positions, strict=True)
            ]
        )
        for name in ("map", "entropy")
    )
    return Mixture(_coverage(facts), tuple(epochs), weights, entropy) if epochs else None


def _likeness(records: Sequence[_Record]) -> Likeness:
    facts = [fact for _, fact in records]

    def change(name: str) -> Change | None:
        if facts[0][name] is None:
            return None
        return Change(
            *(_floats([fact[name][time] for fact in facts]).mean(axis=0) for time in TIMES)
        )

    cka = change("cka")
    assert cka is not None
    pooling = str(facts[0]["pooling"])
    return Likeness(_coverage(facts), pooling, cka, change("cosine"), change("angles"))


def _projections(
    ledger: Ledger, results: Sequence[MethodResult], target_methods: set[str], baseline: str | None
) -> dict[str, Projection]:
    """By method of a task, the projection of its first run that has one.

    Of many methods the baseline comes first, then the methods with recorded targets, then the others,
    each group from the best mean.
    """
    limit = FEW_METHODS if len(results) <= FEW_METHODS else SELECTED_METHODS
    projections: dict[str, Projection] = {}
    for result in sorted(
        (result for result in results if result.scores),
        key=lambda result: (
            result.method != baseline,
            result.method not in target_methods,
            # The pool of an unfinished study has no mean yet.
            math.inf if math.isnan(result.mean) else -result.mean,
        ),
    ):
        records = (_read(ledger, [run], "projection") for run in _finished_runs(result))
        for run, fact in islice(chain.from_iterable(records), 1):  # no more is read than is drawn
            projections[result.method] = _projection(run.seed, fact)
        if len(projections) == limit:
            break
    return projections


def _projection(seed: int, fact: Mapping[str, Any]) -> Projection:
    return Projection(
        seed=seed,
        split=str(fact["split"]),
        pooling=str(fact["pooling"]),
        is_joint=bool(fact["joint"]),
        labels=np.asarray(fact["labels"]),
        student=_floats(fact["student"]),
        teacher=_floats(fact["teacher"]),
        targets=None if fact["fused"] is None else _floats(fact["fused"]),
        explained={
            side: float(_floats(shares).sum()) for side, shares in fact["explained"].items()
        },
    )
