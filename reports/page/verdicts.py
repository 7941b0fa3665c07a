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
"""The sign of each outcome, for places too small for the word."""

OPEN_VERDICTS = 8
"""The most verdicts that a page shows open; more verdicts are folded by task."""


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


def outcome_tally(outcomes: Iterable[str]) -> str:
    """`2 better, 1 not decided`: the outcomes that occur, in the order of `SIGNS`."""
    counts = Counter(outcomes)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in SIGNS if counts[outcome])
