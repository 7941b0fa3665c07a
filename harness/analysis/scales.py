"""One scale for tasks with different metrics: the share of the gap between constant and teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.analysis.compare import AblationResult
from harness.stats.arrays import Floats

LEAST_GAP = 0.05
"""The least distance between teacher and constant prediction that a score is divided by. Below it
the noise of one task's shares would drown all others."""


@dataclass(frozen=True)
class Scale:
    """A task's scores as shares of the gap: (score - constant) / (teacher - constant).

    0 is a constant prediction, 1 the teacher on the same examples; a student may lie outside. Both
    ends have no error on this scale, so its results hold for these teachers and examples.
    """

    constant: float
    teacher: float

    def shares(self, scores: npt.ArrayLike) -> Floats:
        """Scores of any shape as shares of the gap."""
        values = np.asarray(scores, dtype=np.float64)
        return (values - self.constant) / (self.teacher - self.constant)


@dataclass(frozen=True)
class Scales:
    """The scale of every task that has a scale, and the reason of every other task."""

    by_task: Mapping[str, Scale]
    reasons: Mapping[str, str]


def task_scales(result: AblationResult) -> Scales:
    """The scales of an ablation's tasks, from the teachers and constants in its manifest."""
    by_task: dict[str, Scale] = {}
    reasons: dict[str, str] = {}
    for task in result.manifest.studies:
        constant = result.manifest.tasks[task].constant
        teacher = _teacher_score(result, task)
        if teacher is None:
            reasons[task] = "no recorded score of the teacher"
        elif not teacher - constant >= LEAST_GAP:
            reasons[task] = (
                f"teacher {100 * teacher:.1f} and constant prediction {100 * constant:.1f} points "
                f"are less than {100 * LEAST_GAP:.0f} apart"
            )
        else:
            by_task[task] = Scale(constant, teacher)
    return Scales(by_task, reasons)


def _teacher_score(result: AblationResult, task: str) -> float | None:
    """The teacher's primary metric on the split that report runs are scored on; None if unknown."""
    splits = (r.split for r in result.results if r.task == task)
    split = next((split for split in splits if split is not None), None)
    scores = result.manifest.teachers[task].metrics.get(split or "", {})
    return scores.get(result.manifest.primary_metric(task))
