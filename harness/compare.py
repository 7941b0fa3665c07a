"""From the ledger to verdicts: what an ablation's records say, as numbers. Never imports torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.ledger import Ledger
from harness.repeats import read_repeats
from harness.results import MethodResult, collapsed, read_results, report_scores, trials_ended
from harness.seeds import look, looks_of
from harness.stats import (
    CrossedBootstrap,
    Interval,
    PairedDifference,
    PairedEffects,
    PairedEquivalence,
    Stopping,
    Verdict,
    crossed_bootstraps,
    holm,
    paired_difference,
    paired_effects,
    paired_equivalence,
    repeated_interval,
    sequential_verdict,
    verdict,
)
from harness.stats.paired import ROUNDING
from harness.stats.power import detectable_difference

BOOTSTRAP_SEED = 0
OUTSIDE = 10
"""Resamples that lie outside the crossed interval on either side, at least."""
LEAST_RESAMPLES = 2000
NO_PAIR = "no pair of finished report runs"
REGRESSION_METRICS = ("pearson", "spearman")


@dataclass(frozen=True)
class Comparison:
    """One method against one baseline on one task. `unpaired` seeds lack a partner and are left out.

    `equivalence` is None in ablations of earlier versions, which fixed no margin; `equivalence_p` is
    adjusted in the family of the tests of equivalence. `interval` is the one the verdict's test
    inverts. Where seeds were added until they decided, `looked` says how it went, `interval` is the
    repeated one, and there is no `adjusted_p`: a p value for a fixed number of seeds is not one.
    """

    task: str
    method: str
    baseline: str
    metric: str
    difference: PairedDifference
    interval: Interval
    adjusted_p: float | None
    looked: Stopping | None
    effects: PairedEffects
    equivalence: PairedEquivalence | None
    equivalence_p: float
    crossed: CrossedBootstrap | None
    verdict: Verdict
    detectable: float | None
    """The least true difference that so many pairs find in four of five cases, at the observed spread
    and this comparison's share of alpha; infinite where they find none, None without a spread or where
    seeds were added until they decided."""
    seeds: tuple[int, ...]
    unpaired: tuple[int, ...]

    @property
    def margin(self) -> float | None:
        """The margin of equivalence, in the unit of the scores; None where none was fixed."""
        if self.looked is not None:
            return self.looked.margin
        return None if self.equivalence is None else self.equivalence.margin


@dataclass(frozen=True)
class AblationResult:
    """Everything a report needs: the manifest, results by (task, method), the family's comparisons.

    `missing` says in words what cannot be compared yet, and why.
    """

    manifest: dict[str, Any]
    results: tuple[MethodResult, ...]
    comparisons: tuple[Comparison, ...]
    missing: tuple[str, ...]

    def result(self, task: str, method: str) -> MethodResult | None:
        """The result of a method on a task, or None."""
        for result in self.results:
            if (result.task, result.method) == (task, method):
                return result
        return None


def summarise(ledger: Ledger, ablation: str) -> AblationResult:
    """Read one ablation's records and compare what its manifest says is to be compared."""
    manifest = ledger.manifest(ablation)
    results = (
        read_repeats(ledger, manifest)
        if "repeats" in manifest
        else tuple(
            result
            for task, studies in manifest["studies"].items()
            for result in read_results(ledger, manifest, task, studies)
        )
    )
    partial = AblationResult(manifest, results, (), ())
    comparisons, missing = _compare(ledger, partial)
    return AblationResult(manifest, results, comparisons, missing)


def collapses(result: AblationResult) -> list[str]:
    """A sentence on each method of which report runs score exactly what a constant prediction does.

    Of repeats, each one's own result says it.
    """
    if "repeats" in result.manifest:
        return []
    tasks = result.manifest["tasks"]
    sentences = (collapsed(found, tasks[found.task].get("constant")) for found in result.results)
    return [sentence for sentence in sentences if sentence is not None]


@dataclass(frozen=True)
class _Pair:
    """Two results and the seeds they are compared on; `looked` where seeds were added."""

    ours: MethodResult
    theirs: MethodResult
    seeds: tuple[int, ...]
    looked: Stopping | None

    def names(self) -> dict[str, Any]:
        """What a verdict's sentence names, with the seeds that only one side lost."""
        lost, others = (self._lost(result) for result in (self.ours, self.theirs))
        return {
            "method": self.ours.method,
            "baseline": self.theirs.method,
            "task": self.ours.task,
            "metric": self.ours.metric,
            "failed": len(lost - others),
            "baseline_failed": len(others - lost),
        }

    def _lost(self, result: MethodResult) -> frozenset[int]:
        """A baseline goes on for others after the decision: what fails then is not this pair's."""
        if self.looked is None or self.looked.decision is None:
            return result.failed_seeds
        return frozenset(seed for seed in result.failed_seeds if seed <= max(self.seeds))


def _compare(
    ledger: Ledger, partial: AblationResult
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    family = partial.manifest["family"]
    pairs, missing = [], []
    for task, method, baseline in family:
        pair = _paired(partial, task, method, baseline)
        if isinstance(pair, str):
            missing.append(f"{method} against {baseline} on {task}: {pair}")
            continue
        pairs.append(pair)
        if "repeats" in partial.manifest:
            ended = {*pair.seeds, *pair.ours.failed_seeds, *pair.theirs.failed_seeds}
            wanted = len(partial.manifest["report_seeds"])
            if len(ended) < wanted:
                missing.append(
                    f"{method} against {baseline} on {task}: {len(ended)} of {wanted} repeats have ended"
                )
    made = _after_looks if partial.manifest.get("stopping", "fixed") != "fixed" else _at_once
    return made(ledger, partial.manifest, pairs), tuple(missing)


def _paired(partial: AblationResult, task: str, method: str, baseline: str) -> _Pair | str:
    """The pair, or in words why there is none."""
    manifest = partial.manifest
    ours, theirs = partial.result(task, method), partial.result(task, baseline)
    if ours is None or theirs is None:
        return NO_PAIR
    if "repeats" not in manifest:
        # A setting that was chosen among fewer would be compared with one chosen among all.
        for result in (ours, theirs):
            if result.report and (ended := trials_ended(result, manifest)) < manifest["trials"]:
                return (
                    f"{ended} of {manifest['trials']} search trials of {result.method} have ended"
                )
    looks = looks_of(manifest, ours.metric)
    if looks is not None:
        looked = look(report_scores(ours), report_scores(theirs), looks)
        return _Pair(ours, theirs, looked.seeds, looked.stopping) if looked.seeds else NO_PAIR
    common = tuple(sorted(set(ours.seeds) & set(theirs.seeds)))
    return _Pair(ours, theirs, common, None) if common else NO_PAIR


def _difference(pair: _Pair, alpha: float) -> PairedDifference:
    return paired_difference(
        _scores(pair.ours, pair.seeds),
        _scores(pair.theirs, pair.seeds),
        confidence=1 - alpha,
        generator=np.random.default_rng(BOOTSTRAP_SEED),
    )


def _at_once(
    ledger: Ledger, manifest: dict[str, Any], pairs: Sequence[_Pair]
) -> tuple[Comparison, ...]:
    """The comparisons of a fixed number of seeds, by Holm's adjusted p values."""
    alpha, family, margins = (
        float(manifest["alpha"]),
        manifest["family"],
        manifest.get("margins", {}),
    )
    differences = [_difference(pair, alpha) for pair in pairs]
    tests = [
        _equivalence(difference, margins.get(pair.ours.metric), alpha)
        for difference, pair in zip(differences, pairs, strict=True)
    ]
    # A comparison without data counts as p = 1: the family is the manifest's, not what finished.
    padding = [1.0] * (len(family) - len(differences))
    adjusted = holm([d.p_value for d in differences] + padding) if family else ()
    close = holm([1.0 if t is None else t.p_value for t in tests] + padding) if family else ()
    share = alpha / max(len(family), 1)
    over_examples = _crossed(ledger, pairs, confidence=1 - share)
    found = []
    for pair, difference, p, test, test_p, crossed in zip(
        pairs, differences, adjusted, tests, close, over_examples, strict=False
    ):
        judged = verdict(
            difference,
            p,
            crossed,
            alpha,
            **pair.names(),
            comparisons=len(family),
            equivalence=test,
            equivalence_p=test_p,
            repeated=manifest.get("repeated"),
        )
        found.append(
            _comparison(
                pair,
                difference,
                alpha,
                difference.interval,
                p,
                test,
                test_p,
                crossed,
                judged,
                share,
            )
        )
    return tuple(found)


def _after_looks(
    ledger: Ledger, manifest: dict[str, Any], pairs: Sequence[_Pair]
) -> tuple[Comparison, ...]:
    """The comparisons whose seeds were added until they decided, each at its share of alpha."""
    share = float(manifest["alpha"]) / max(len(manifest["family"]), 1)
    over_examples = _crossed(ledger, pairs, confidence=1 - share)
    found = []
    for pair, crossed in zip(pairs, over_examples, strict=True):
        assert pair.looked is not None
        difference = _difference(pair, float(manifest["alpha"]))
        looked = pair.looked
        last = looked.next_look is None and looked.decision is None
        interval = repeated_interval(difference.differences, looked.most, share, last=last)
        judged = sequential_verdict(difference.mean, interval, pair.looked, crossed, **pair.names())
        found.append(
            _comparison(
                pair,
                difference,
                float(manifest["alpha"]),
                interval,
                None,
                None,
                1.0,
                crossed,
                judged,
                share,
            )
        )
    return tuple(found)


def _equivalence(
    difference: PairedDifference, margin: float | None, alpha: float
) -> PairedEquivalence | None:
    if margin is None:
        return None
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return paired_equivalence(difference.differences, margin, alpha, generator)


def _scores(result: MethodResult, seeds: Sequence[int]) -> npt.NDArray[np.float64]:
    by_seed = dict(zip(result.seeds, result.scores, strict=True))
    return np.array([by_seed[seed] for seed in seeds])


def _comparison(
    pair: _Pair,
    difference: PairedDifference,
    alpha: float,
    interval: Interval,
    adjusted_p: float | None,
    equivalence: PairedEquivalence | None,
    equivalence_p: float,
    crossed: CrossedBootstrap | None,
    judged: Verdict,
    share: float,
) -> Comparison:
    decided = pair.looked is not None and pair.looked.decision is not None
    last = max(pair.seeds) if decided else math.inf
    alone = set(pair.ours.seeds) ^ set(pair.theirs.seeds)
    return Comparison(
        task=pair.ours.task,
        method=pair.ours.method,
        baseline=pair.theirs.method,
        metric=pair.ours.metric,
        difference=difference,
        interval=interval,
        adjusted_p=adjusted_p,
        looked=pair.looked,
        effects=paired_effects(
            difference.differences, 1 - alpha, np.random.default_rng(BOOTSTRAP_SEED)
        ),
        equivalence=equivalence,
        equivalence_p=equivalence_p,
        crossed=crossed,
        verdict=judged,
        detectable=_detectable(pair, difference, share),
        seeds=pair.seeds,
        unpaired=tuple(sorted(seed for seed in alone if seed <= last)),
    )


def _detectable(pair: _Pair, difference: PairedDifference, share: float) -> float | None:
    if pair.looked is not None or not difference.sd > ROUNDING:
        return None
    return detectable_difference(difference.sd, difference.n, share)


def _crossed(
    ledger: Ledger, pairs: Sequence[_Pair], confidence: float
) -> list[CrossedBootstrap | None]:
    """Crossed bootstraps over the pairs' stored predictions; None where some are missing.

    Pairs on the same task and seeds share their draws, and each method's resamples are scored once.
    """
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        groups[pair.ours.task, pair.seeds].append(place)
    found: list[CrossedBootstrap | None] = [None] * len(pairs)
    for (_, seeds), places in groups.items():
        results = {
            r.method: r for place in places for r in (pairs[place].ours, pairs[place].theirs)
        }
        stored = {name: _stored(ledger, result, seeds) for name, result in results.items()}
        known = {name: predicted for name, predicted in stored.items() if predicted is not None}
        order = {name: position for position, name in enumerate(known)}
        there = [p for p in places if {pairs[p].ours.method, pairs[p].theirs.method} <= set(known)]
        if not there:
            continue
        bootstraps = crossed_bootstraps(
            pairs[places[0]].ours.metric,
            [predicted.values for predicted in known.values()],
            [(order[pairs[p].ours.method], order[pairs[p].theirs.method]) for p in there],
            next(iter(known.values())).labels,
            np.random.default_rng(BOOTSTRAP_SEED),
            resamples=max(LEAST_RESAMPLES, math.ceil(2 * OUTSIDE / (1 - confidence))),
            confidence=confidence,
        )
        for place, bootstrap in zip(there, bootstraps, strict=True):
            found[place] = bootstrap
    return found


class _Stored(NamedTuple):
    """Predictions (seeds, examples), classes or a regression's scores, and labels (examples,)."""

    values: npt.NDArray[np.float64]
    labels: npt.NDArray[Any]


def _stored(ledger: Ledger, result: MethodResult, seeds: Sequence[int]) -> _Stored | None:
    runs = {run.seed: run.record for run in result.report}
    if not runs:
        return None
    split = runs[seeds[0]].inputs["evaluation"][0][0]
    stored = [ledger.predictions(runs[seed].fingerprint, split) for seed in seeds]
    found = [predicted for predicted in stored if predicted is not None]
    if len(found) < len(stored):
        return None
    scored = result.metric in REGRESSION_METRICS
    values = [p.logits[:, 0] if scored else p.logits.argmax(axis=1) for p in found]
    return _Stored(np.stack(values).astype(np.float64), found[0].labels)
