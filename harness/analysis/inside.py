"""What was looked at inside the students after training, read from the ledger.

Layers count from 1 wherever they are named; in arrays m are student layers and n teacher layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.analysis.compare import AblationResult
from harness.analysis.results import MethodResult
from harness.stats.arrays import Floats
from harness.storage.ledger import Ledger

ALL_DRAWN = 4
"""States are drawn of every method where there are so many or fewer."""
SOME_DRAWN = 2
"""And of so many where there are more."""

Key = tuple[str, str]
"""Task and method."""


@dataclass(frozen=True)
class Seen:
    """What was looked at: so many `examples` of a `split`, in so many report runs (`seeds`)."""

    split: str
    examples: int
    seeds: int


@dataclass(frozen=True)
class Mixture:
    """Weights of teacher layers in what student layers are matched to, run by run.

    `epochs` (E,), 0 before training. `weights` (seeds, E, m, n) are means over examples, each row sums
    to one; `entropy` (seeds, E, m), a share of its maximum.
    """

    seen: Seen
    epochs: tuple[int, ...]
    weights: Floats
    entropy: Floats


@dataclass(frozen=True)
class Targets:
    """What a method's student layers were matched to after training, each a mean over runs.

    `target_length` and `target_variance_share` (m,). `mixture` is None where nothing is mixed, and has
    the last epoch only where looking inside failed during the training.
    """

    seen: Seen
    target_length: Floats
    target_variance_share: Floats
    mixture: Mixture | None


WHEN = ("before", "after")
"""The two times of a `Change`."""


@dataclass(frozen=True)
class Change:
    """Means over runs before training and after it, of one shape; NaN where any run has none."""

    before: Floats
    after: Floats


@dataclass(frozen=True)
class Likeness:
    """How like the teacher's layers a method's student layers are, on pooled states.

    `cka` (m, n): debiased linear CKA. `cosine` (m, n): mean over examples. `angles` (m, n, n): in
    degrees, between the ways from a student layer's state to two teacher layers' states. The last two
    are None where widths differ.
    """

    seen: Seen
    pooling: str
    cka: Change
    cosine: Change | None
    angles: Change | None


@dataclass(frozen=True)
class Projection:
    """States of one run on the plane of the first two principal components.

    `labels` (B,) are of an integer type where they are classes. `student` (m, B, 2), `teacher`
    (n, B, 2), and `fused` (m, B, 2): what the student layers are matched to. One plane is for all where
    `joint`; else `student` has its own. `explained`: the share of variance that each plane holds.
    """

    seed: int
    split: str
    pooling: str
    joint: bool
    labels: npt.NDArray[Any]
    student: Floats
    teacher: Floats
    fused: Floats | None
    explained: Mapping[str, float]


@dataclass(frozen=True)
class Inside:
    """All that was recorded, by task and method; `looked` holds those with a finished report run."""

    looked: frozenset[Key]
    targets: Mapping[Key, Targets]
    likeness: Mapping[Key, Likeness]
    projections: Mapping[Key, Projection]


def read_inside(ledger: Ledger, result: AblationResult) -> Inside:
    """Read what there is of an ablation's report runs."""
    runs = {(found.task, found.method): _finished(found) for found in result.results}
    targets = {key: _targets(ledger, own) for key, own in runs.items()}
    likeness = {key: _likeness(ledger, own) for key, own in runs.items()}
    known = {key: value for key, value in targets.items() if value is not None}
    projections: dict[Key, Projection] = {}
    for task in dict.fromkeys(task for task, _ in runs):
        results = [found for found in result.results if found.task == task]
        matched = {method for own, method in known if own == task}
        found = _projections(ledger, results, matched, result.manifest.baseline)
        projections |= {(task, method): projection for method, projection in found.items()}
    return Inside(
        looked=frozenset(key for key, own in runs.items() if own),
        targets=known,
        likeness={key: value for key, value in likeness.items() if value is not None},
        projections=projections,
    )


@dataclass(frozen=True)
class _Run:
    fingerprint: str
    seed: int
    epochs: int


def _finished(result: MethodResult) -> list[_Run]:
    return [
        _Run(run.record.fingerprint, run.seed, run.record.inputs.training.epochs)
        for run in result.report
        if run.record.status == "complete"
    ]


def _read(ledger: Ledger, runs: Iterable[_Run], name: str) -> list[tuple[_Run, Any]]:
    """Each run that has a record of that name, with the record."""
    found = ledger.inspections_of((run.fingerprint for run in runs), name)
    return [(run, found[run.fingerprint]) for run in runs if run.fingerprint in found]


def _seen(facts: Sequence[Mapping[str, Any]]) -> Seen:
    return Seen(str(facts[0]["split"]), int(facts[0]["examples"]), len(facts))


def _floats(values: Any) -> Floats:
    """Nested lists as an array; NaN for None."""
    return np.asarray(values, dtype=np.float64)


def _targets(ledger: Ledger, runs: Sequence[_Run]) -> Targets | None:
    found = _read(ledger, runs, "targets")
    if not found:
        return None
    facts = [fact for _, fact in found]
    mixture = None
    if "map" in facts[0]:
        weights, entropy = (_floats([fact[name] for fact in facts]) for name in ("map", "entropy"))
        mixture = _mixture(ledger, runs) or Mixture(
            _seen(facts), (found[0][0].epochs,), weights[:, None], entropy[:, None]
        )
    return Targets(
        _seen(facts),
        _floats([fact["target_length"] for fact in facts]).mean(axis=0),
        _floats([fact["target_variance_share"] for fact in facts]).mean(axis=0),
        mixture,
    )


def _mixture(ledger: Ledger, runs: Sequence[_Run]) -> Mixture | None:
    """The epochs that every run was looked at after."""
    facts = [fact for _, fact in _read(ledger, runs, "epochs")]
    if not facts:
        return None
    epochs = sorted(set(facts[0]["epochs"]).intersection(*(fact["epochs"] for fact in facts[1:])))
    places = [[fact["epochs"].index(epoch) for epoch in epochs] for fact in facts]
    weights, entropy = (
        _floats([[fact[name][i] for i in own] for fact, own in zip(facts, places, strict=True)])
        for name in ("map", "entropy")
    )
    return Mixture(_seen(facts), tuple(epochs), weights, entropy) if epochs else None


def _likeness(ledger: Ledger, runs: Sequence[_Run]) -> Likeness | None:
    facts = [fact for _, fact in _read(ledger, runs, "layers")]
    if not facts:
        return None

    def change(name: str) -> Change | None:
        if facts[0][name] is None:
            return None
        before, after = (
            _floats([fact[name][when] for fact in facts]).mean(axis=0)
            for when in ("before", "after")
        )
        return Change(before, after)

    cka = change("cka")
    assert cka is not None
    pooling = str(facts[0]["pooling"])
    return Likeness(_seen(facts), pooling, cka, change("cosine"), change("angles"))


def _projections(
    ledger: Ledger, results: Sequence[MethodResult], matched: set[str], baseline: str | None
) -> dict[str, Projection]:
    """Of a task's methods, each one's first run that has one.

    Of many methods the baseline, then those that match mixed or projected states, best mean first.
    """
    most = ALL_DRAWN if len(results) <= ALL_DRAWN else SOME_DRAWN
    found: dict[str, Projection] = {}
    for result in sorted(
        (result for result in results if result.scores),
        key=lambda one: (one.method != baseline, one.method not in matched, -one.mean),
    ):
        recorded = (_read(ledger, [run], "projection") for run in _finished(result))
        for run, fact in islice(chain.from_iterable(recorded), 1):  # no more is read than is drawn
            found[result.method] = _projection(run.seed, fact)
        if len(found) == most:
            break
    return found


def _projection(seed: int, fact: Mapping[str, Any]) -> Projection:
    return Projection(
        seed=seed,
        split=str(fact["split"]),
        pooling=str(fact["pooling"]),
        joint=bool(fact["joint"]),
        labels=np.asarray(fact["labels"]),
        student=_floats(fact["student"]),
        teacher=_floats(fact["teacher"]),
        fused=None if fact["fused"] is None else _floats(fact["fused"]),
        explained={
            whose: float(_floats(shares).sum()) for whose, shares in fact["explained"].items()
        },
    )
