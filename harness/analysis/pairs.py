"""Two methods' report runs on a task, paired by seed. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.analysis.looks import look, looks_of
from harness.analysis.results import MethodResult, report_scores, search_ended, trials_ended
from harness.stats import Stopping
from harness.storage.manifest import Manifest

NO_PAIR = "no pair of finished report runs"


@dataclass(frozen=True)
class Pair:
    """A method's result, its baseline's, and the seeds they are compared on, at least one.

    `looked` says how it went where seeds were added until they decided.
    """

    ours: MethodResult
    theirs: MethodResult
    seeds: tuple[int, ...]
    looked: Stopping | None

    @property
    def decided(self) -> bool:
        """Whether seeds were added and decided it: what runs afterwards is not this pair's."""
        return self.looked is not None and self.looked.decision is not None

    def names(self) -> dict[str, Any]:
        """What a verdict's sentence names, with the number of seeds that only one side lost."""
        lost, others = (self._own(result.failed_seeds) for result in (self.ours, self.theirs))
        return {
            "method": self.ours.method,
            "baseline": self.theirs.method,
            "task": self.ours.task,
            "metric": self.ours.metric,
            "failures": len(lost - others),
            "baseline_failures": len(others - lost),
        }

    def unpaired(self) -> tuple[int, ...]:
        """Seeds that are complete on one side only."""
        return tuple(sorted(self._own(frozenset(self.ours.seeds) ^ frozenset(self.theirs.seeds))))

    def _own(self, seeds: frozenset[int]) -> frozenset[int]:
        """A baseline goes on for others after the decision."""
        if not self.decided:
            return seeds
        return frozenset(seed for seed in seeds if seed <= max(self.seeds))


def paired(
    ours: MethodResult | None, theirs: MethodResult | None, manifest: Manifest
) -> Pair | str:
    """The pair, or in words why there is none."""
    if ours is None or theirs is None:
        return NO_PAIR
    for result in (ours, theirs):
        if result.report and not search_ended(result, manifest):
            ended = trials_ended(result, manifest)
            return f"{ended} of {manifest.trials} search trials of {result.method} have ended"
    looks = looks_of(manifest, ours.metric)
    if looks is not None:
        looked = look(report_scores(ours), report_scores(theirs), looks)
        return Pair(ours, theirs, looked.seeds, looked.stopping) if looked.seeds else NO_PAIR
    common = tuple(sorted(set(ours.seeds) & set(theirs.seeds)))
    return Pair(ours, theirs, common, None) if common else NO_PAIR
