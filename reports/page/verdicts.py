"""The verdicts in short: one system of marks, what a verdict is about, and a line for each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.stats import wording
from harness.storage.manifest import Manifest
from reports.evidence import POINTS, Evidence
from reports.kit.palette import SIGNS

MOST_NAMES = 6
"""The most undecided methods of a task that the headline names; it counts more of them."""
OPEN_VERDICTS = 3
"""The most verdicts whose whole sentences stand open below the table."""


@dataclass(frozen=True)
class Finding:
    """A line of the headline: the outcome, and the sentence that names the methods."""

    outcome: str
    text: str


@dataclass(frozen=True)
class TaskVerdicts:
    """A task's label and its comparisons."""

    label: str
    comparisons: tuple[Comparison, ...]

    @property
    def tally(self) -> str:
        """The number of comparisons with each outcome."""
        return outcome_tally(comparison.verdict.outcome for comparison in self.comparisons)


def task_verdicts(evidence: Evidence) -> tuple[TaskVerdicts, ...]:
    """The comparisons of every task that has any."""
    groups = (
        TaskVerdicts(evidence.task_label(task), evidence.comparisons(task))
        for task in evidence.tasks
    )
    return tuple(group for group in groups if group.comparisons)


def findings(comparisons: Sequence[Comparison]) -> list[Finding]:
    """The lines for one task's comparisons: every winner and loser by name."""
    if len(comparisons) == 1:
        return [Finding(comparisons[0].verdict.outcome, _sentence(comparisons[0]))]
    lines = []
    for outcome in SIGNS:
        names: dict[str, list[Comparison]] = {}
        for comparison in comparisons:
            if comparison.verdict.outcome == outcome:
                names.setdefault(comparison.baseline, []).append(comparison)
        lines += [Finding(outcome, _group(outcome, group)) for group in names.values()]
    return lines


def _sentence(comparison: Comparison) -> str:
    """One comparison's verdict as a sentence with its number."""
    method, baseline, task = comparison.method, comparison.baseline, comparison.task
    points = wording.unsigned_points(abs(comparison.difference.mean), POINTS)
    margin = wording.unsigned_points(comparison.margin, POINTS)
    match comparison.verdict.outcome:
        case "not decided":
            return f"Whether {method} is better or worse than {baseline} on {task} is not decided."
        case "equivalent":
            return f"{method} and {baseline} are equivalent on {task}, within {margin}."
        case outcome:
            return f"{method} is {outcome} than {baseline} on {task}, by {points}."


def _group(outcome: str, group: Sequence[Comparison]) -> str:
    """The comparisons of a task with one outcome and one baseline, by the size of the difference."""
    ordered = sorted(group, key=lambda comparison: -comparison.difference.mean)
    names = [comparison.method for comparison in ordered]
    task, baseline = ordered[0].task, ordered[0].baseline
    listed = ", ".join(names)
    match outcome:
        case "not decided":
            if len(names) > MOST_NAMES:
                listed = f"{len(names)} methods"
            return f"Not decided on {task}, against {baseline}: {listed}."
        case "equivalent":
            margin = wording.unsigned_points(ordered[0].margin, POINTS)
            return f"Equivalent to {baseline} on {task}, within {margin}: {listed}."
        case _:
            return f"{outcome.capitalize()} than {baseline} on {task}: {listed}."


def subject(manifest: Manifest) -> str:
    """What the verdicts are about, in one sentence."""
    if manifest.budget is None:
        return (
            "About settings, not methods: the setting that one search found for each method, over new "
            "seeds with this teacher. Another search finds another setting."
        )
    trials = f"{manifest.budget} trial{'' if manifest.budget == 1 else 's'}"
    reach = manifest.replication or "searches with this teacher"
    return f"About methods that are tuned with {trials} each, over new {reach}."


def outcome_tally(outcomes: Iterable[str]) -> str:
    """`2 better, 1 not decided`: the outcomes that occur, in the order of `SIGNS`."""
    counts = Counter(outcomes)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in SIGNS if counts[outcome])
