"""From the ledger to verdicts: what an ablation's records say, as numbers. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from harness.analysis.answers import StoredAnswers
from harness.analysis.crossed import crossed
from harness.analysis.pairs import Pair, paired
from harness.analysis.repeats import read_repeats
from harness.analysis.results import MethodResult, collapsed, read_results
from harness.stats import (
    CrossedBootstrap,
    Interval,
    PairedDifference,
    PairedEffects,
    PairedEquivalence,
    Stopping,
    Verdict,
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
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Comparison:
    """One method against one baseline on one task. `unpaired` seeds lack a partner and are left out.

    `equivalence_p` is adjusted in the family of the tests of equivalence. `interval` is the one the
    verdict's test inverts. Where seeds were added until they decided, `looked` says how it went,
    `interval` is the repeated one, and there are no `equivalence` and no `adjusted_p`: a p value for a
    fixed number of seeds is not one.
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
    def margin(self) -> float:
        """The margin of equivalence, in the unit of the scores."""
        test = self.equivalence if self.looked is None else self.looked
        assert test is not None
        return test.margin


@dataclass(frozen=True)
class AblationResult:
    """Everything a report needs: the manifest, results by (task, method), the family's comparisons.

    `missing` says in words what cannot be compared yet, and why.
    """

    manifest: Manifest
    results: tuple[MethodResult, ...]
    comparisons: tuple[Comparison, ...]
    missing: tuple[str, ...]

    @property
    def sequential(self) -> bool:
        """Whether seeds were added until the comparisons were decided."""
        return self.manifest.sequential

    def result(self, task: str, method: str) -> MethodResult | None:
        """The result of a method on a task, or None."""
        for result in self.results:
            if (result.task, result.method) == (task, method):
                return result
        return None


def summarise(ledger: Ledger, ablation: str, stored: StoredAnswers | None = None) -> AblationResult:
    """Read one ablation's records and compare what its manifest says is to be compared.

    Pass `stored`, the ledger's, to use the predictions further without reading them again.
    """
    partial = uncompared(ledger, ablation)
    comparisons, missing = _compare(partial, stored or StoredAnswers(ledger))
    return replace(partial, comparisons=comparisons, missing=missing)


def uncompared(ledger: Ledger, ablation: str) -> AblationResult:
    """Read one ablation's records without its comparisons. Raises `StorageError` if there is none."""
    manifest = ledger.manifest(ablation)
    results = (
        read_repeats(ledger, manifest)
        if manifest.joint
        else tuple(
            result
            for task, studies in manifest.studies.items()
            for result in read_results(ledger, manifest, task, studies)
        )
    )
    return AblationResult(manifest, results, (), ())


def collapses(result: AblationResult) -> list[str]:
    """A sentence on each method of which report runs score exactly what a constant prediction does.

    Of repeats, each one's own result says it.
    """
    if result.manifest.joint:
        return []
    tasks = result.manifest.tasks
    sentences = (collapsed(found, tasks[found.task].constant) for found in result.results)
    return [sentence for sentence in sentences if sentence is not None]


def _compare(
    partial: AblationResult, stored: StoredAnswers
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    pairs, missing = [], []
    for task, method, baseline in partial.manifest.family:
        ours, theirs = partial.result(task, method), partial.result(task, baseline)
        pair = paired(ours, theirs, partial.manifest)
        if isinstance(pair, str):
            missing.append(f"{method} against {baseline} on {task}: {pair}")
            continue
        pairs.append(pair)
        if partial.manifest.joint:
            ended = {*pair.seeds, *pair.ours.failed_seeds, *pair.theirs.failed_seeds}
            wanted = len(partial.manifest.report_seeds)
            if len(ended) < wanted:
                missing.append(
                    f"{method} against {baseline} on {task}: {len(ended)} of {wanted} repeats have ended"
                )
    made = _after_looks if partial.sequential else _at_once
    return made(partial, pairs, stored), tuple(missing)


class _Level(NamedTuple):
    """The level of the family's errors, and one comparison's share of it."""

    alpha: float
    share: float


def _level(partial: AblationResult) -> _Level:
    return _Level(partial.manifest.alpha, partial.manifest.share)


def _at_once(
    partial: AblationResult, pairs: Sequence[Pair], stored: StoredAnswers
) -> tuple[Comparison, ...]:
    """The comparisons of a fixed number of seeds, by Holm's adjusted p values."""
    level, manifest = _level(partial), partial.manifest
    family = manifest.family
    differences = [_difference(pair, level) for pair in pairs]
    tests = [
        _equivalence(difference, manifest.margin(pair.ours.metric), level)
        for difference, pair in zip(differences, pairs, strict=True)
    ]
    # A comparison without data counts as p = 1: the family is the manifest's, not what finished.
    padding = [1.0] * (len(family) - len(differences))
    adjusted = holm([d.p_value for d in differences] + padding) if family else ()
    close = holm([test.p_value for test in tests] + padding) if family else ()
    over_examples = crossed(stored, pairs, confidence=1 - level.share, seed=BOOTSTRAP_SEED)
    found = []
    for pair, difference, p, test, test_p, bootstrap in zip(
        pairs, differences, adjusted, tests, close, over_examples, strict=False
    ):
        judged = verdict(
            difference,
            p,
            bootstrap,
            level.alpha,
            **pair.names(),
            comparisons=len(family),
            equivalence=test,
            equivalence_p=test_p,
            repeat_scope=manifest.replication,
        )
        found.append(
            _comparison(
                pair,
                difference,
                level,
                judged,
                difference.interval,
                bootstrap,
                adjusted_p=p,
                equivalence=test,
                equivalence_p=test_p,
            )
        )
    return tuple(found)


def _after_looks(
    partial: AblationResult, pairs: Sequence[Pair], stored: StoredAnswers
) -> tuple[Comparison, ...]:
    """The comparisons whose seeds were added until they decided, each at its share of alpha."""
    level = _level(partial)
    over_examples = crossed(stored, pairs, confidence=1 - level.share, seed=BOOTSTRAP_SEED)
    found = []
    for pair, bootstrap in zip(pairs, over_examples, strict=True):
        looked = pair.looked
        assert looked is not None
        difference = _difference(pair, level)
        last = looked.next_look is None and looked.decision is None
        interval = repeated_interval(
            difference.differences, looked.max_pairs, level.share, is_final=last
        )
        judged = sequential_verdict(difference.mean, interval, looked, bootstrap, **pair.names())
        found.append(_comparison(pair, difference, level, judged, interval, bootstrap))
    return tuple(found)


def _difference(pair: Pair, level: _Level) -> PairedDifference:
    return paired_difference(
        pair.ours.scores_of(pair.seeds),
        pair.theirs.scores_of(pair.seeds),
        confidence=1 - level.alpha,
        generator=np.random.default_rng(BOOTSTRAP_SEED),
    )


def _equivalence(difference: PairedDifference, margin: float, level: _Level) -> PairedEquivalence:
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return paired_equivalence(difference.differences, margin, level.alpha, generator)


def _comparison(
    pair: Pair,
    difference: PairedDifference,
    level: _Level,
    judged: Verdict,
    interval: Interval,
    bootstrap: CrossedBootstrap | None,
    *,
    adjusted_p: float | None = None,
    equivalence: PairedEquivalence | None = None,
    equivalence_p: float = 1.0,
) -> Comparison:
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return Comparison(
        task=pair.ours.task,
        method=pair.ours.method,
        baseline=pair.theirs.method,
        metric=pair.ours.metric,
        difference=difference,
        interval=interval,
        adjusted_p=adjusted_p,
        looked=pair.looked,
        effects=paired_effects(difference.differences, 1 - level.alpha, generator),
        equivalence=equivalence,
        equivalence_p=equivalence_p,
        crossed=bootstrap,
        verdict=judged,
        detectable=_detectable(pair, difference, level.share),
        seeds=pair.seeds,
        unpaired=pair.unpaired(),
    )


def _detectable(pair: Pair, difference: PairedDifference, share: float) -> float | None:
    if pair.looked is not None or not difference.sd > ROUNDING:
        return None
    return detectable_difference(difference.sd, difference.n, share)
