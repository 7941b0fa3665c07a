"""From the ledger to verdicts: what an ablation's records say, as numbers. Never imports torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.ledger import Ledger, StudyRun
from harness.stats import (
    CrossedBootstrap,
    PairedDifference,
    PairedEffects,
    PairedEquivalence,
    Verdict,
    crossed_bootstrap,
    holm,
    paired_difference,
    paired_effects,
    paired_equivalence,
    verdict,
)

BOOTSTRAP_SEED = 0
OUTSIDE = 10
"""Resamples that lie outside the crossed interval on either side, at least."""
LEAST_RESAMPLES = 2000
REGRESSION_METRICS = ("pearson", "spearman")


@dataclass(frozen=True)
class MethodResult:
    """One method on one task: its best setting and the report runs of that setting.

    `scores` (seeds,) are the primary metric on the first evaluation split, by `seeds`; `metrics` are
    means over seeds of every metric recorded. Empty while the report runs are missing.
    """

    task: str
    method: str
    study: str
    metric: str
    search: tuple[StudyRun, ...]
    report: tuple[StudyRun, ...]
    best_trial: int | None
    setting: dict[str, Any]
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    metrics: dict[str, float]
    failures: tuple[str, ...]

    @property
    def failed_seeds(self) -> frozenset[int]:
        """Report seeds whose run failed."""
        return frozenset(run.seed for run in self.report if run.record.status == "failed")

    @property
    def mean(self) -> float:
        """Mean score over report seeds; NaN without any."""
        return float(np.mean(self.scores)) if self.scores else float("nan")

    @property
    def sd(self) -> float:
        """Standard deviation over report seeds (n − 1); NaN below two."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else float("nan")


@dataclass(frozen=True)
class Comparison:
    """One method against one baseline on one task. `unpaired` seeds lack a partner and are left out.

    `equivalence` is None in ablations of earlier versions, which fixed no margin; `equivalence_p` is
    adjusted in the family of the tests of equivalence.
    """

    task: str
    method: str
    baseline: str
    metric: str
    difference: PairedDifference
    adjusted_p: float
    effects: PairedEffects
    equivalence: PairedEquivalence | None
    equivalence_p: float
    crossed: CrossedBootstrap | None
    verdict: Verdict
    seeds: tuple[int, ...]
    unpaired: tuple[int, ...]


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


def best_trial(runs: Sequence[StudyRun], metric: str) -> int | None:
    """The trial with the highest mean selection score; the lowest number wins a tie."""
    scores: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        if run.record.status == "complete":
            scores[run.trial].append(run.record.metrics[metric])
        else:
            scores[run.trial].append(float("-inf"))
    means = {trial: float(np.mean(values)) for trial, values in scores.items()}
    finite = {trial: mean for trial, mean in means.items() if np.isfinite(mean)}
    return min(finite, key=lambda trial: (-finite[trial], trial)) if finite else None


def summarise(ledger: Ledger, ablation: str) -> AblationResult:
    """Read one ablation's records and compare what its manifest says is to be compared."""
    manifest = ledger.manifest(ablation)
    results = tuple(
        _result(ledger, manifest, task, method, study)
        for task, studies in manifest["studies"].items()
        for method, study in studies.items()
    )
    partial = AblationResult(manifest, results, (), ())
    comparisons, missing = _compare(ledger, partial)
    return AblationResult(manifest, results, comparisons, missing)


def _result(
    ledger: Ledger, manifest: dict[str, Any], task: str, method: str, study: str
) -> MethodResult:
    metric = manifest["tasks"][task]["metrics"][0]
    runs = ledger.study_runs(study)
    search = tuple(run for run in runs if run.role == "search" and run.trial < manifest["trials"])
    best = best_trial(search, metric)
    wanted = set(manifest["report_seeds"])
    report = tuple(
        run for run in runs if run.role == "report" and run.trial == best and run.seed in wanted
    )
    complete = [run for run in report if run.record.status == "complete"]
    names = complete[0].record.metrics if complete else {}
    setting: dict[str, Any] = next(
        (run.record.inputs["setting"] for run in search if run.trial == best), {}
    )
    return MethodResult(
        task=task,
        method=method,
        study=study,
        metric=metric,
        search=search,
        report=report,
        best_trial=best,
        setting=setting,
        seeds=tuple(run.seed for run in complete),
        scores=tuple(run.record.metrics[metric] for run in complete),
        metrics={n: float(np.mean([run.record.metrics[n] for run in complete])) for n in names},
        failures=tuple(
            f"{run.role} run, trial {run.trial}, seed {run.seed}: {run.record.reason}"
            for run in (*search, *report)
            if run.record.status == "failed"
        ),
    )


def _compare(
    ledger: Ledger, partial: AblationResult
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    family = partial.manifest["family"]
    alpha = float(partial.manifest["alpha"])
    pairs, missing = [], []
    for task, method, baseline in family:
        ours, theirs = partial.result(task, method), partial.result(task, baseline)
        common = sorted(set(ours.seeds) & set(theirs.seeds)) if ours and theirs else []
        if ours is None or theirs is None or not common:
            missing.append(
                f"{method} against {baseline} on {task}: no pair of finished report runs"
            )
            continue
        pairs.append((ours, theirs, common))
    differences = [
        paired_difference(
            _scores(ours, common),
            _scores(theirs, common),
            confidence=1 - alpha,
            generator=np.random.default_rng(BOOTSTRAP_SEED),
        )
        for ours, theirs, common in pairs
    ]
    margins = partial.manifest.get("margins", {})
    tests = [
        _equivalence(difference, margins.get(ours.metric), alpha)
        for difference, (ours, _, _) in zip(differences, pairs, strict=True)
    ]
    # A comparison without data counts as p = 1: the family is the manifest's, not what finished.
    padding = [1.0] * (len(family) - len(differences))
    adjusted = holm([d.p_value for d in differences] + padding) if family else ()
    close = holm([1.0 if t is None else t.p_value for t in tests] + padding) if family else ()
    comparisons = tuple(
        _comparison(ledger, *found, alpha, len(family))
        for found in zip(pairs, differences, adjusted, tests, close, strict=False)
    )
    return comparisons, tuple(missing)


def _equivalence(
    difference: PairedDifference, margin: float | None, alpha: float
) -> PairedEquivalence | None:
    if margin is None:
        return None
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return paired_equivalence(difference.differences, margin, alpha, generator)


def _scores(result: MethodResult, seeds: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    by_seed = dict(zip(result.seeds, result.scores, strict=True))
    return np.array([by_seed[seed] for seed in seeds])


def _comparison(
    ledger: Ledger,
    pair: tuple[MethodResult, MethodResult, list[int]],
    difference: PairedDifference,
    adjusted_p: float,
    equivalence: PairedEquivalence | None,
    equivalence_p: float,
    alpha: float,
    comparisons: int,
) -> Comparison:
    ours, theirs, common = pair
    crossed = _crossed(ledger, pair, confidence=1 - alpha / comparisons)
    return Comparison(
        task=ours.task,
        method=ours.method,
        baseline=theirs.method,
        metric=ours.metric,
        difference=difference,
        adjusted_p=adjusted_p,
        effects=paired_effects(
            difference.differences, 1 - alpha, np.random.default_rng(BOOTSTRAP_SEED)
        ),
        equivalence=equivalence,
        equivalence_p=equivalence_p,
        crossed=crossed,
        verdict=verdict(
            difference,
            adjusted_p,
            crossed,
            alpha,
            method=ours.method,
            baseline=theirs.method,
            task=ours.task,
            metric=ours.metric,
            comparisons=comparisons,
            failed=len(ours.failed_seeds - theirs.failed_seeds),
            baseline_failed=len(theirs.failed_seeds - ours.failed_seeds),
            equivalence=equivalence,
            equivalence_p=equivalence_p,
        ),
        seeds=tuple(common),
        unpaired=tuple(sorted(set(ours.seeds) ^ set(theirs.seeds))),
    )


def _crossed(
    ledger: Ledger, pair: tuple[MethodResult, MethodResult, list[int]], confidence: float
) -> CrossedBootstrap | None:
    """Crossed bootstrap over the pair's stored predictions; None when some are missing."""
    stacks, labels = [], None
    for result in pair[:2]:
        runs = {run.seed: run.record for run in result.report}
        split = runs[pair[2][0]].inputs["evaluation"][0][0]
        stored = [ledger.predictions(runs[seed].fingerprint, split) for seed in pair[2]]
        found = [predicted for predicted in stored if predicted is not None]
        if len(found) < len(stored):
            return None
        labels = found[0].labels
        scored = result.metric in REGRESSION_METRICS
        stacks.append(
            np.stack([p.logits[:, 0] if scored else p.logits.argmax(axis=1) for p in found])
        )
    assert labels is not None
    return crossed_bootstrap(
        pair[0].metric,
        stacks[0].astype(np.float64),
        stacks[1].astype(np.float64),
        labels,
        np.random.default_rng(BOOTSTRAP_SEED),
        resamples=max(LEAST_RESAMPLES, math.ceil(2 * OUTSIDE / (1 - confidence))),
        confidence=confidence,
    )
