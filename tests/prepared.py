"""A prepared task without a teacher or data files, for tests of what a driver does with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np

from harness.config import StudyConfig, validate
from harness.data.splits import Split, TaskData
from harness.data.tasks import Task
from harness.storage.manifest import SplitFacts, TeacherFacts
from harness.workers.prepared_task import PreparedTask, TaskOutcome

FACTS = TeacherFacts(
    fingerprint="t" * 64,
    task="rte",
    name="demo",
    origin="fine-tuned here",
    metrics={"selection": {"accuracy": 0.975}, "validation": {"accuracy": 0.95}},
    constant=0.5,
    weak=False,
    layers=12,
    width=64,
    seconds=1.0,
    variance_shares=(),
)

SPLITS = {
    "train": SplitFacts(90, 3, None, 2, 1000, 10),
    "validation": SplitFacts(10, 0, 1, 0, 100, 0),
}


def split(examples: int, texts: int = 2) -> Split:
    """A split with equal texts and both labels."""
    rows = np.arange(examples)
    return Split((("a",) * texts,) * examples, rows % 2, rows)


def demo_config(**changes: Any) -> StudyConfig:
    """The configuration of a study of `alp` on rte."""
    values = {"preset": "demo", "methods": ["alp"], "tasks": ["rte"]}
    return validate({**values, **changes})


def prepared_task(
    config: StudyConfig,
    task: Task,
    /,
    texts: int = 2,
    outside: bool = False,
    splits: Mapping[str, SplitFacts] | None = None,
    **facts: Any,
) -> PreparedTask:
    """A task of 90 training examples; `facts` are those of the teacher."""
    evaluation = {name: split(10, texts) for name in task.evaluation}
    outcome = TaskOutcome(
        teacher=replace(FACTS, **facts),
        from_outside=outside,
        start_fingerprint="s",
        shapes=Mock(),
        teacher_encoder=Mock(),
        student_encoder=Mock(),
        engine="stacked",
        precision="fp32",
        device="cpu",
        steps=1,
        splits=SPLITS if splits is None else splits,
    )
    return PreparedTask(
        config, TaskData(task, split(90, texts), split(20, texts), evaluation), outcome
    )
