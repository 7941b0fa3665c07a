"""The comparisons of each task, and their outcomes as words and signs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from harness.analysis.compare import Comparison
from reports.evidence import Evidence

SIGNS = {
    "better": "\N{BLACK UP-POINTING TRIANGLE}",
    "worse": "\N{BLACK DOWN-POINTING TRIANGLE}",
    "equivalent": "\N{ALMOST EQUAL TO}",
    "not decided": "\N{WHITE CIRCLE}",
}
"""What stands for an outcome where there is no room for the word."""

FEW = 8
"""Up to so many verdicts are all open; more are folded, by task."""


@dataclass(frozen=True)
class TaskVerdicts:
    """A task's comparisons under its label."""

    label: str
    comparisons: tuple[Comparison, ...]

    @property
    def tally(self) -> str:
        """How many comparisons have which outcome."""
        return outcome_tally(comparison.verdict.outcome for comparison in self.comparisons)


def task_verdicts(evidence: Evidence) -> tuple[TaskVerdicts, ...]:
    """The comparisons of every task that has one."""
    groups = (
        TaskVerdicts(evidence.task_label(task), evidence.comparisons(task))
        for task in evidence.tasks
    )
    return tuple(group for group in groups if group.comparisons)


def outcome_tally(outcomes: Iterable[str]) -> str:
    """`2 better, 1 not decided`: the outcomes that occur, in the order of `SIGNS`."""
    counts = Counter(outcomes)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in SIGNS if counts[outcome])
