"""Two methods' report runs on a task, paired by seed. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.analysis.interim import interim_plan, interim_result, pool_plan
from harness.analysis.pools import TunedPools, exchange_of
from harness.analysis.results import MethodResult, report_scores, search_ended, trials_ended
from harness.stats import Interval, Stopping
from harness.stats.exchange import ExchangeTest
from harness.storage.manifest import Manifest

NO_PAIR = "no pair of finished report runs"


@dataclass(frozen=True)
class Pair:
    """The results of a method and its baseline, and the seeds of the comparison, at least one.

    `stopping` is the state of the sequential test where seeds or trials were added until the decision.
    """

    method_result: MethodResult
    baseline_result: MethodResult
    seeds: tuple[int, ...]
    stopping: Stopping | None
    interval: Interval | None = None
    """The repeated interval of the difference of tuned scores, where trials were added."""
    equivalence: Interval | None = None
    """The interval of the decision "equivalent" on tuned scores, where trials were added."""

    @property
    def is_decided(self) -> bool:
        """Whether added runs brought a decision: later runs are not part of this pair."""
        return self.stopping is not None and self.stopping.decision is not None

    @property
    def pools(self) -> tuple[TunedPools, TunedPools] | None:
        """The pools of the method and of the baseline, where the verdict is on tuned scores.

        Where trials were added, the pools have the trials of the last look.
        """
        method, baseline = self.method_result.tuned, self.baseline_result.tuned
        if method is None or baseline is None:
            return None
        if self.stopping is None:
            return method, baseline
        return method.first(self.stopping.pairs), baseline.first(self.stopping.pairs)

    @cached_property
    def exchange(self) -> ExchangeTest | None:
        """The exchange test of the pools. Its patterns are drawn once for all that is read from it."""
        return None if self.pools is None else exchange_of(*self.pools)

    def names(self) -> dict[str, Any]:
        """The arguments that a verdict's sentence needs, with each side's number of failed seeds."""
        names: dict[str, Any] = {
            "method": self.method_result.method,
            "baseline": self.baseline_result.method,
            "task": self.method_result.task,
            "metric": self.method_result.metric,
        }
        if self.pools is None:  # in a pool a failed trial counts, as a constant prediction
            failures = self._until_decision(self.method_result.failed_seeds)
            baseline_failures = self._until_decision(self.baseline_result.failed_seeds)
            names["failures"] = len(failures - baseline_failures)
            names["baseline_failures"] = len(baseline_failures - failures)
        return names

    def unpaired_seeds(self) -> tuple[int, ...]:
        """Seeds that are complete on one side only."""
        if self.pools is not None:  # a failed trial is a part of its pool
            return ()
        seeds = frozenset(self.method_result.seeds) ^ frozenset(self.baseline_result.seeds)
        return tuple(sorted(self._until_decision(seeds)))

    def _until_decision(self, seeds: frozenset[int]) -> frozenset[int]:
        """The seeds up to the decision: after it a baseline goes on for other methods."""
        if not self.is_decided:
            return seeds
        return frozenset(seed for seed in seeds if seed <= max(self.seeds))


def pair_results(
    method_result: MethodResult | None, baseline_result: MethodResult | None, manifest: Manifest
) -> Pair | str:
    """The pair, or in words why there is none."""
    if method_result is None or baseline_result is None:
        return NO_PAIR
    if manifest.unit == "trial":
        return _pair_pools(method_result, baseline_result, manifest)
    for result in (method_result, baseline_result):
        if result.report and not search_ended(result, manifest):
            count = trials_ended(result, manifest)
            return f"{count} of {manifest.trials} search trials of {result.method} have ended"
    plan = interim_plan(manifest, method_result.metric)
    if plan is None:
        return _pair_seeds(method_result, baseline_result, manifest)
    analysis = interim_result(report_scores(method_result), report_scores(baseline_result), plan)
    if not analysis.seeds:
        return NO_PAIR
    return Pair(method_result, baseline_result, analysis.seeds, analysis.stopping)


def _pair_seeds(
    method_result: MethodResult, baseline_result: MethodResult, manifest: Manifest
) -> Pair | str:
    """The pair of all report seeds or repeats; a look at fewer would raise the error rate."""
    ended, seeds = set(manifest.report_seeds), set(manifest.report_seeds)
    for result in (method_result, baseline_result):
        ended &= {*result.seeds, *result.failed_seeds}
        seeds &= {*result.seeds}
    if not ended:
        return NO_PAIR
    if len(ended) < len(manifest.report_seeds):
        unit = "repeats" if manifest.is_joint else "report seeds"
        return f"{len(ended)} of {len(manifest.report_seeds)} {unit} have ended"
    return Pair(method_result, baseline_result, tuple(sorted(seeds)), None) if seeds else NO_PAIR


def _pair_pools(
    method_result: MethodResult, baseline_result: MethodResult, manifest: Manifest
) -> Pair | str:
    """The pair of two pools; where trials are added, from the first look on."""
    plan = pool_plan(manifest, method_result.task)
    for result in (method_result, baseline_result):
        if not result.report:
            return f"no trial of {result.method} has ended"
        due = manifest.trials if plan is None else plan.minimum
        ended = sum(run.trial < due for run in result.report)
        if ended < due:
            first = "" if plan is None else "the first "
            return f"{ended} of {first}{due} trials of {result.method} have ended"
        if result.tuned is None:
            return f"all trials of {result.method} failed"
    seeds = set(method_result.seeds) & set(baseline_result.seeds)
    if plan is None:
        return Pair(method_result, baseline_result, tuple(sorted(seeds)), None)
    state = method_result.interims[baseline_result.method]
    seeds &= set(manifest.report_seeds[: state.stopping.pairs])
    return Pair(
        method_result,
        baseline_result,
        tuple(sorted(seeds)),
        state.stopping,
        state.interval,
        state.equivalence,
    )
