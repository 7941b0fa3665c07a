"""How far a study is: its runs, its planned comparisons, and what its verdicts could decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.analysis.compare import AblationResult
from harness.analysis.comparison import Comparison
from harness.analysis.results import MethodResult, trials_due
from harness.config import MAX_SEEDS
from harness.stats import wording
from harness.stats.paired import ROUNDING
from harness.stats.tuned_power import minimum_trials, trials_needed
from harness.storage.manifest import Manifest
from reports.evidence import POINTS, Evidence


@dataclass(frozen=True)
class Progress:
    """The runs of a study, with those of its repeats. `last` is the time of the last record."""

    planned: int
    ended: int
    failed: int
    pruned: int
    last: datetime | None

    @property
    def is_finished(self) -> bool:
        """Whether every planned run has ended."""
        return self.ended >= self.planned

    @property
    def date(self) -> str:
        """The time of the last record, to the minute, in UTC."""
        return "" if self.last is None else f"{self.last:%-d %B %Y, %H:%M} UTC"


def progress(manifest: Manifest, results: Iterable[MethodResult]) -> Progress:
    """The progress of results: those of an ablation, or of all repeats of a joint one."""
    results = list(results)
    planned = sum(planned_runs(result, manifest) for result in results)
    if manifest.is_joint:
        # A repeat that exists has its own studies, fewer or more than the joint ablation's.
        has_parts = any(name is not None for name in manifest.repeats)
        studies = sum(map(len, manifest.studies.values()))
        missing = max(manifest.config.protocol.repeats - len(manifest.repeats), 0)
        runs = manifest.config.search_runs + manifest.config.report_runs
        planned = (planned if has_parts else 0) + studies * missing * runs
    records = [run.record for result in results for run in result.runs]
    counts = Counter(record.status for record in records)
    times = [record.created for record in records if record.created is not None]
    last = datetime.fromtimestamp(max(times), UTC) if times else None
    return Progress(planned, len(records), counts["failed"], counts["pruned"], last)


def planned_runs(result: MethodResult, manifest: Manifest) -> int:
    """The runs that a method needs on a task; where seeds or trials are added, the runs so far."""
    if manifest.config.protocol.unit == "methods":
        return trials_due(result, manifest)
    config = manifest.config
    search, report = config.search_runs, config.report_runs
    if not manifest.is_joint:
        search, report = manifest.trials * len(manifest.search_seeds), len(manifest.report_seeds)
    if manifest.sequential:
        return search + len(result.report)
    if len(result.search) >= search and result.best_trial is None:
        return search  # every trial failed, so there is no setting to train
    return search + report


def evidence_progress(evidence: Evidence) -> Progress:
    """The progress of a report."""
    parts = [result for results in evidence.repeats.values() for result in results]
    return progress(evidence.manifest, parts or evidence.result.results)


@dataclass(frozen=True)
class Notice:
    """A reason why the verdicts are not those of a complete, able study; `detail` may be empty."""

    text: str
    detail: str = ""

    @property
    def sentences(self) -> str:
        """The text with its detail."""
        return f"{self.text} {self.detail}".rstrip()


def notices(evidence: Evidence, state: Progress) -> list[Notice]:
    """All reasons why the verdicts are not those of a complete, able study."""
    manifest, result = evidence.manifest, evidence.result
    sentences = []
    missing = len(manifest.family) - len(result.comparisons)
    without = f" {missing} of {len(manifest.family)} planned comparisons have no verdict."
    if not state.is_finished:
        sentences.append(
            f"UNFINISHED: {state.ended} of {state.planned} runs have ended."
            f"{without if missing else ''}"
        )
    lost = _lost_methods(result)
    if lost:
        sentences.append(
            f"FAILED: every run of {', '.join(lost)} failed."
            f"{without if missing and state.is_finished else ''}"
        )
    elif missing and state.is_finished:
        sentences.append(f"INCOMPLETE:{without}")
    if state.failed and not lost:
        sentences.append(f"FAILED: {state.failed} of {state.ended} runs failed.")
    if manifest.refused:
        sentences.append(f"REFUSED: {', '.join(manifest.refused)}. The reasons are below.")
    shortage = _shortage(evidence)
    return [*map(Notice, sentences), *([shortage] if shortage else [])]


def _lost_methods(result: AblationResult) -> list[str]:
    """Methods whose runs all failed, with their tasks."""
    return [
        f"{row.method} on {row.task}"
        for row in result.results
        if row.runs and all(run.record.status == "failed" for run in row.runs)
    ]


def _shortage(evidence: Evidence) -> Notice | None:
    """A notice of runs that are too few for any decision; None where they may be enough."""
    manifest = evidence.manifest
    comparisons = evidence.result.comparisons
    count = max(len(manifest.family), 1)
    needed = minimum_trials(manifest.pool_budget, count, manifest.alpha)
    few = [
        comparison
        for comparison in comparisons
        if comparison.stopping is None
        and comparison.difference.n < needed
        and comparison.difference.minimum_p >= manifest.share
    ]
    if not few:
        return None
    pairs = max(comparison.difference.n for comparison in few)
    family = "one comparison" if count == 1 else f"{count} comparisons"
    return Notice(
        f"UNDERPOWERED: {pairs} {units(manifest)}, at least {needed} can decide.",
        f"{pairs} cannot decide {family} at level {manifest.alpha:g}, however large a difference is.",
    )


def units(manifest: Manifest) -> str:
    """The unit of replication in the plural, as it is counted."""
    return "trials of each method" if manifest.unit == "trial" else f"paired {manifest.unit}s"


def reach(evidence: Evidence) -> str:
    """Whether the comparisons could find a difference of the margin in four of five cases."""
    manifest, comparisons = evidence.manifest, evidence.result.comparisons
    if not comparisons:
        return ""
    if evidence.sequential:
        state = [comparison.stopping for comparison in comparisons]
        most = max(stopping.max_pairs for stopping in state if stopping is not None)
        return f"Looks end at {most} {units(manifest)}."
    needed = [_needed(comparison, manifest) for comparison in comparisons]
    able = sum(
        count is not None and count <= comparison.difference.n
        for count, comparison in zip(needed, comparisons, strict=True)
    )
    margins = sorted({comparison.margin for comparison in comparisons})
    goal = " or ".join(wording.unsigned_points(margin, POINTS) for margin in margins)
    question = f"Could find a difference of {goal}"
    known = [count for count in needed if count is not None]
    if not known:
        return f"{question}: unknown, as the differences have no spread."
    if able == len(comparisons):
        return f"{question}: yes."
    if len(comparisons) == 1:
        return f"{question}: no, that takes {_amount(known[0], units(manifest))}."
    whole = len(known) == len(comparisons)
    return f"{question}: {able} of {len(comparisons)} comparisons. {_need(known, whole, manifest)}"


def _need(known: Sequence[int], whole: bool, manifest: Manifest) -> str:
    """A sentence on what comparisons take that have a spread, which are all of them if `whole`."""
    half = sorted(known)[(len(known) - 1) // 2]  # half of the comparisons, or more, take no more
    of_them = "of them" if whole else f"of the {len(known)} with a spread"
    most = _amount(max(known), units(manifest))
    if len(known) == 1:
        return f"It takes {most} for the only one with a spread."
    if half == max(known) or min(known) > MAX_SEEDS:
        return f"It takes {most} for all {of_them}."
    if half > MAX_SEEDS:
        return f"It takes {most} for half {of_them}."
    others = _amount(max(known), "for the others")
    return f"It takes {_amount(half, units(manifest))} for half {of_them}, and {others}."


def _amount(count: int, words: str) -> str:
    return f"more than {MAX_SEEDS} {words}" if count > MAX_SEEDS else f"{count} {words}"


def _needed(comparison: Comparison, manifest: Manifest) -> int | None:
    """The pairs that find a difference of the margin in four of five cases; None without a spread."""
    if not comparison.difference.sd > ROUNDING:
        return None
    return trials_needed(
        comparison.difference.sd, comparison.margin, manifest.pool_budget, manifest.share
    )
