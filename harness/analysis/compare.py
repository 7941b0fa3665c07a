"""From the ledger to verdicts: an ablation's results and comparisons. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from harness.analysis.answers import StoredAnswers
from harness.analysis.axes import along_axes
from harness.analysis.pair_bootstraps import pair_bootstraps
from harness.analysis.pairs import Pair, pair_results
from harness.analysis.pools import tuned_paired_difference
from harness.analysis.repeats import read_repeats
from harness.analysis.results import MethodResult, collapse_warning, read_results
from harness.metric_table import metric_of
from harness.stats import (
    Interval,
    OverExamples,
    PairedDifference,
    PairedEffects,
    PairedEquivalence,
    Stopping,
    Verdict,
    holm,
    holm_levels,
    paired_difference,
    paired_effects,
    paired_equivalence,
    repeated_equivalence,
    repeated_interval,
    sequential_verdict,
    verdict,
)
from harness.stats.paired import ROUNDING
from harness.stats.tuned_power import detectable_tuned_difference
from harness.storage.checksums import Damage
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class DecidingInterval:
    """The interval whose place decides: zero, or both margins, lie outside exactly as the verdict says.

    Runs that failed on the favoured side take a verdict away, and no interval shows that.
    """

    interval: Interval
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """One method against one baseline on one task.

    `unpaired_seeds` are complete on one side only and are left out. `equivalence_p` is adjusted in the
    family of the tests of equivalence. `interval` inverts the verdict's test. Where seeds or trials
    were added until the decision, `stopping` is the state of the sequential test, `interval` is the
    repeated interval, and `equivalence` and `adjusted_p` are None: a p value for a fixed number of
    seeds does not hold there.
    """

    task: str
    method: str
    baseline: str
    metric: str
    difference: PairedDifference
    interval: Interval
    adjusted_p: float | None
    stopping: Stopping | None
    effects: PairedEffects | None
    """None for tuned scores: they are one number for all trials, and no trial has an effect."""
    equivalence: PairedEquivalence | None
    equivalence_p: float
    deciding: DecidingInterval
    """Of the test of a difference, at the level at which Holm's method tests this comparison; with added
    runs the repeated interval. It excludes zero exactly if the method tests better or worse."""
    deciding_equivalence: DecidingInterval | None
    """Of the test of equivalence, at its level in Holm's method: the confidence is 1 minus twice the
    level, and the interval lies inside the margin exactly if the sides test equivalent. Where runs were
    added it is that of all looks together, and None without this decision."""
    over_examples: OverExamples | None
    """The interval over new examples, and over new seeds or, for tuned scores, new searches."""
    verdict: Verdict
    detectable_difference: float | None
    """The least true difference that this number of pairs finds with power 0.8, at the observed spread
    and this comparison's share of alpha. Infinite where no difference can be found; None without a
    spread, or where runs were added until the decision."""
    seeds: tuple[int, ...]
    unpaired_seeds: tuple[int, ...]

    @property
    def margin(self) -> float:
        """The margin of equivalence, in the unit of the scores."""
        test = self.equivalence if self.stopping is None else self.stopping
        assert test is not None
        return test.margin

    @property
    def decided_by(self) -> DecidingInterval:
        """The interval of the test that gave the verdict: for "equivalent" that of equivalence."""
        if self.verdict.outcome == "equivalent" and self.deciding_equivalence is not None:
            return self.deciding_equivalence
        return self.deciding

    @property
    def difference_text(self) -> str:
        """The difference in points with the interval that decides, for tables."""
        ends = [
            "unbounded" if math.isinf(end) else f"{100 * end:+.1f}"
            for end in self.decided_by.interval
        ]
        interval = "(unbounded)" if set(ends) == {"unbounded"} else f"[{ends[0]}, {ends[1]}]"
        return f"{100 * self.difference.mean:+.1f} {interval}"


@dataclass(frozen=True)
class AblationResult:
    """An ablation's manifest, its results by (task, method), and the family's comparisons.

    `gaps` are sentences on the comparisons that cannot be made yet, and why. `damages` are the runs
    that are left out, since their stored rows have changed.
    """

    manifest: Manifest
    results: tuple[MethodResult, ...]
    comparisons: tuple[Comparison, ...]
    gaps: tuple[str, ...]
    damages: tuple[Damage, ...] = ()
    along_axes: tuple[Comparison, ...] = ()
    """The comparisons along the axes, by the names of `harness.analysis.axes.axis_names`."""

    @property
    def banners(self) -> tuple[str, ...]:
        """The manifest's banners, and one for each run that is left out."""
        texts = (f"DAMAGED, and left out: {damage.sentence}." for damage in self.damages)
        return (*self.manifest.banners, *texts)

    @property
    def sequential(self) -> bool:
        """Whether seeds or trials were added until the comparisons were decided."""
        return self.manifest.sequential

    def result(self, task: str, method: str) -> MethodResult | None:
        """The result of a method on a task, or None."""
        for result in self.results:
            if (result.task, result.method) == (task, method):
                return result
        return None


def summarise(
    ledger: Ledger, ablation: str, stored_answers: StoredAnswers | None = None
) -> AblationResult:
    """Read one ablation's results and make the comparisons of its manifest's family.

    Pass the ledger's `stored_answers` to reuse the predictions without reading them again. Raises
    `StorageError` if there is no such ablation.
    """
    result = read_ablation(ledger, ablation)
    stored_answers = stored_answers or StoredAnswers(ledger)
    comparisons, gaps = _compare(result, stored_answers)
    along: tuple[Comparison, ...] = ()
    if result.manifest.grid is not None:
        view = AblationResult(*along_axes(result.manifest, result.results), (), ())
        along, axis_gaps = _compare(view, stored_answers)
        gaps += axis_gaps
    result = replace(result, comparisons=comparisons, gaps=gaps, along_axes=along)
    return with_damages(ledger, result)


def with_damages(ledger: Ledger, result: AblationResult) -> AblationResult:
    """The result with all damaged runs that reads have found so far."""
    damages = ledger.damages_in(_study_names(ledger, result.manifest))
    return replace(result, damages=tuple(damages))


def _study_names(ledger: Ledger, manifest: Manifest) -> list[str]:
    """The studies of an ablation, or of all its repeats."""
    parts = [ledger.manifest(name) for name in manifest.repeats if name is not None]
    return [name for part in parts or [manifest] for name in part.study_names]


def read_ablation(ledger: Ledger, ablation: str) -> AblationResult:
    """Read one ablation's results, without comparisons.

    Raises `StorageError` if there is no such ablation.
    """
    manifest = ledger.manifest(ablation)
    results = (
        read_repeats(ledger, manifest)
        if manifest.is_joint
        else tuple(
            result
            for task, studies in manifest.studies.items()
            for result in read_results(ledger, manifest.view_of(task), task, studies)
        )
    )
    return AblationResult(manifest, results, (), ())


def collapses(result: AblationResult) -> list[str]:
    """A sentence on each method with report runs that have the score of a constant prediction.

    Empty for repeats: the result of each repeat has these sentences.
    """
    if result.manifest.is_joint:
        return []
    tasks = result.manifest.tasks
    sentences = (collapse_warning(r, tasks[r.task].constant) for r in result.results)
    return [sentence for sentence in sentences if sentence is not None]


def _compare(
    result: AblationResult, stored_answers: StoredAnswers
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    manifest = result.manifest
    pairs, gaps = [], []
    for task, method, baseline in manifest.family:
        name = f"{method} against {baseline} on {task}"
        pair = pair_results(result.result(task, method), result.result(task, baseline), manifest)
        if isinstance(pair, str):
            gaps.append(f"{name}: {pair}")
            continue
        if _is_undefined(pair, stored_answers):
            metric = pair.method_result.metric
            gaps.append(
                f"{name}: no comparison, since each run of both gives one answer to all examples: "
                f"{metric} is undefined there, and counts as 0"
            )
            continue
        pairs.append(pair)
    compare = _compare_sequential if result.sequential else _compare_fixed
    return compare(result, pairs, stored_answers), tuple(gaps)


def _is_undefined(pair: Pair, stored_answers: StoredAnswers) -> bool:
    """Whether the metric is undefined for the answers of every run on both sides.

    Such scores are 0 by convention: they are equal, and say nothing about the methods.
    """
    for result in (pair.method_result, pair.baseline_result):
        is_undefined = metric_of(result.metric).is_undefined
        answers = stored_answers.answers_of(result)
        if answers is None or any(
            not is_undefined(answers.labels, values) for values in answers.by_seed.values()
        ):
            return False
    return True


class _Level(NamedTuple):
    """The level of the family's errors, and one comparison's share of it."""

    alpha: float
    share: float


def _level(manifest: Manifest) -> _Level:
    return _Level(manifest.alpha, manifest.share)


def _compare_fixed(
    result: AblationResult, pairs: Sequence[Pair], stored_answers: StoredAnswers
) -> tuple[Comparison, ...]:
    """The comparisons of a fixed number of seeds, by Holm's adjusted p values."""
    level, manifest = _level(result.manifest), result.manifest
    family = manifest.family
    differences = [_difference(pair, level.alpha) for pair in pairs]
    tests = [
        _equivalence(pair, manifest.margin(pair.method_result.metric), level.alpha)
        for pair in pairs
    ]
    # The family is the manifest's: a comparison without data counts as p = 1.
    padding = [1.0] * (len(family) - len(differences))
    raw_p_values = [d.p_value for d in differences] + padding
    raw_test_p_values = [test.p_value for test in tests] + padding
    p_values, test_p_values = holm(raw_p_values), holm(raw_test_p_values)
    levels = holm_levels(raw_p_values, level.alpha)
    test_levels = holm_levels(raw_test_p_values, level.alpha)
    bootstraps = pair_bootstraps(
        stored_answers,
        pairs,
        confidence=1 - level.share,
        seed=BOOTSTRAP_SEED,
    )
    comparisons = []
    for place, (pair, difference, test, bootstrap) in enumerate(
        zip(pairs, differences, tests, bootstraps, strict=True)
    ):
        p, test_p = p_values[place], test_p_values[place]
        pair_verdict = verdict(
            difference,
            p,
            bootstrap,
            level.alpha,
            **pair.names(),
            comparisons=len(family),
            equivalence=test,
            equivalence_p=test_p,
            repeat_scope=manifest.replication,
            budget=manifest.budget,
        )
        comparisons.append(
            _comparison(
                pair,
                difference,
                level,
                pair_verdict,
                difference.interval,
                bootstrap,
                adjusted_p=p,
                deciding=_deciding(pair, difference, levels[place]),
                equivalence=test,
                equivalence_p=test_p,
                deciding_equivalence=_deciding_equivalence(pair, test, test_levels[place]),
            )
        )
    return tuple(comparisons)


def _compare_sequential(
    result: AblationResult, pairs: Sequence[Pair], stored_answers: StoredAnswers
) -> tuple[Comparison, ...]:
    """The comparisons whose runs were added until the decision, each at its share of alpha."""
    level = _level(result.manifest)
    bootstraps = pair_bootstraps(
        stored_answers, pairs, confidence=1 - level.share, seed=BOOTSTRAP_SEED
    )
    comparisons = []
    for pair, bootstrap in zip(pairs, bootstraps, strict=True):
        state = pair.stopping
        assert state is not None
        difference = _difference(pair, level.alpha)
        interval, equivalence = pair.interval, pair.equivalence
        if interval is None:
            path = (difference.differences, state.max_pairs, level.share)
            is_final = state.next_look is None and state.decision is None
            interval = repeated_interval(*path, is_final=is_final)
            if state.decision == "equivalent":
                equivalence = repeated_equivalence(*path, state.margin)
        pair_verdict = sequential_verdict(
            difference.mean,
            interval,
            state,
            bootstrap,
            **pair.names(),
            budget=result.manifest.budget,
        )
        comparisons.append(
            _comparison(
                pair,
                difference,
                level,
                pair_verdict,
                interval,
                bootstrap,
                deciding=DecidingInterval(interval, 1 - state.alpha),
                deciding_equivalence=None
                if equivalence is None
                else DecidingInterval(equivalence, 1 - 2 * state.alpha),
            )
        )
    return tuple(comparisons)


def _difference(pair: Pair, alpha: float) -> PairedDifference:
    if pair.exchange is not None:
        return tuned_paired_difference(pair.exchange, 1 - alpha)
    return paired_difference(
        pair.method_result.scores_of(pair.seeds),
        pair.baseline_result.scores_of(pair.seeds),
        confidence=1 - alpha,
        generator=np.random.default_rng(BOOTSTRAP_SEED),
    )


def _equivalence(pair: Pair, margin: float, alpha: float) -> PairedEquivalence:
    if pair.exchange is not None:
        return pair.exchange.equivalence(margin, alpha)
    differences = pair.method_result.scores_of(pair.seeds) - pair.baseline_result.scores_of(
        pair.seeds
    )
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return paired_equivalence(differences, margin, alpha, generator)


def _deciding(pair: Pair, difference: PairedDifference, level: float) -> DecidingInterval:
    """The interval of the difference at its level in Holm's method."""
    if not math.isclose(level, 1 - difference.confidence):
        difference = _difference(pair, level)
    return DecidingInterval(difference.interval, difference.confidence)


def _deciding_equivalence(pair: Pair, test: PairedEquivalence, level: float) -> DecidingInterval:
    """The interval of the test of equivalence at its level in Holm's method."""
    if not math.isclose(level, test.alpha):
        test = _equivalence(pair, test.margin, level)
    return DecidingInterval(test.interval, 1 - 2 * level)


def _comparison(
    pair: Pair,
    difference: PairedDifference,
    level: _Level,
    pair_verdict: Verdict,
    interval: Interval,
    bootstrap: OverExamples | None,
    *,
    deciding: DecidingInterval,
    adjusted_p: float | None = None,
    equivalence: PairedEquivalence | None = None,
    equivalence_p: float = 1.0,
    deciding_equivalence: DecidingInterval | None = None,
) -> Comparison:
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return Comparison(
        task=pair.method_result.task,
        method=pair.method_result.method,
        baseline=pair.baseline_result.method,
        metric=pair.method_result.metric,
        difference=difference,
        interval=interval,
        adjusted_p=adjusted_p,
        stopping=pair.stopping,
        effects=None
        if pair.pools is not None
        else paired_effects(difference.differences, 1 - level.alpha, generator),
        equivalence=equivalence,
        equivalence_p=equivalence_p,
        deciding=deciding,
        deciding_equivalence=deciding_equivalence,
        over_examples=bootstrap,
        verdict=pair_verdict,
        detectable_difference=_detectable_difference(pair, difference, level.share),
        seeds=pair.seeds,
        unpaired_seeds=pair.unpaired_seeds(),
    )


def _detectable_difference(pair: Pair, difference: PairedDifference, share: float) -> float | None:
    if pair.stopping is not None or not difference.sd > ROUNDING:
        return None
    budget = 1 if pair.pools is None else pair.pools[0].budget
    return detectable_tuned_difference(difference.sd, difference.n, budget, share)
