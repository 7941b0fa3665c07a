"""Report seeds that are added until they decide (`--seeds auto`): who needs how many. Without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from harness.stats import Stopping, first_look, stopping
from harness.storage.manifest import Manifest

Scores = Mapping[int, float | None]
"""A method's report scores by seed, of the runs that have ended; None where one failed."""


@dataclass(frozen=True)
class Looks:
    """How the comparisons on a task are looked at: fixed in the manifest before the runs.

    `seeds` are all that may be used, in their order; `alpha` is one comparison's share of the level.
    """

    seeds: tuple[int, ...]
    alpha: float
    margin: float

    @property
    def first(self) -> int:
        """The number of seeds that every method gets."""
        return first_look(len(self.seeds), self.alpha)


def looks_of(manifest: Manifest, metric: str) -> Looks | None:
    """The looks of an ablation's comparisons by a metric; None where its seeds are fixed."""
    if not manifest.sequential:
        return None
    return Looks(manifest.report_seeds, manifest.share, manifest.margin(metric))


@dataclass(frozen=True)
class Looked:
    """Where a comparison stands.

    `seeds` are those of its pairs, in order, up to the last look (before the first, all); it rests on
    the first `wanted` of all seeds, or needs them for its next look.
    """

    stopping: Stopping
    seeds: tuple[int, ...]
    wanted: int


def look(ours: Scores, theirs: Scores, looks: Looks) -> Looked:
    """Look at a comparison, from the scores of the method and of its baseline.

    Only seeds before the first that one side has not ended count: what was trained for another
    comparison, or by an earlier command, moves no look.
    """
    ended = list(takewhile(lambda seed: seed in ours and seed in theirs, looks.seeds))
    pairs = {
        seed: own - other
        for seed in ended
        if (own := ours[seed]) is not None and (other := theirs[seed]) is not None
    }
    last = len(ended) == len(looks.seeds) > len(pairs)
    rule = (len(looks.seeds), looks.alpha, looks.margin)
    found = stopping(list(pairs.values()), *rule, is_final=last)
    seeds = tuple(pairs)[: found.pairs]
    if found.decision is not None:
        return Looked(found, seeds, looks.seeds.index(seeds[-1]) + 1)
    if found.next_look is None:
        return Looked(found, seeds, len(ended))
    wanted = len(ended) + found.next_look - len(pairs)
    return Looked(found, seeds, min(wanted, len(looks.seeds)))


def seeds_wanted(
    scores: Mapping[str, Scores], family: Iterable[Sequence[str]], looks: Looks
) -> dict[str, int]:
    """How many of the first seeds each method of a task needs now, from the scores there are.

    `family` are the task's comparisons as (method, baseline). A method stops at its own decision, a
    baseline at the last one that is made against it. None needs fewer than the first look's.
    """
    wanted = dict.fromkeys(scores, looks.first)
    for method, baseline in family:
        if method in scores and baseline in scores:
            needed = look(scores[method], scores[baseline], looks).wanted
            for name in (method, baseline):
                wanted[name] = max(wanted[name], needed)
    return wanted
