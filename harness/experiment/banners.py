"""Banners: warnings on reports and model cards that nobody may overlook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.config import Criterion, StudyConfig, Unit
from harness.data.facts import fact_warnings
from harness.storage.manifest import Contrast, SeedRequest
from harness.workers.prepared_task import PreparedTask

DEMO = "DEMO DATA: procedural tasks that only share GLUE's schemas. Nothing here is a GLUE result."
PAPER = "PROTOCOL paper: settings were selected on the split that is reported, so scores are optimistic."


def all_banners(config: StudyConfig, tasks: Iterable[PreparedTask]) -> list[str]:
    """The banners that hold for every task, then those of each task in `tasks`."""
    banners = study_banners(config)
    for prepared in tasks:
        banners += task_banners(prepared)
    return banners


def study_banners(config: StudyConfig) -> list[str]:
    """Banners that hold for every task."""
    demo, paper = config.source.kind == "demo", config.protocol.name == "paper"
    return [text for text, holds in ((DEMO, demo), (PAPER, paper)) if holds]


def task_banners(prepared: PreparedTask) -> list[str]:
    """Banners of one task and its teacher."""
    config, task = prepared.config, prepared.task.name
    banners = []
    if prepared.outcome.from_outside and config.protocol.name == "clean":
        banners.append(
            f"{task}: the teacher comes from outside and may have seen the selection data."
        )
    if prepared.outcome.teacher.weak:
        banners.append(f"{task}: the teacher is no better than a constant prediction.")
    if config.teacher.pretrained == "minilm" and task in ("mnli", "qqp"):
        banners.append(f"{task}: the MiniLM encoder was trained on data of this kind.")
    facts, max_length = prepared.outcome.splits, config.training.max_length
    return [*banners, *fact_warnings(task, facts, config.checks, max_length)]


def choice_banners(config: StudyConfig, earlier: Sequence[tuple[int, Criterion]]) -> list[str]:
    """A banner where earlier commands compared the same methods by another budget or selection."""
    banners = []
    budgets = [budget for budget, _ in earlier]
    criteria = [criterion for _, criterion in earlier]
    for name, key, choice, earlier_choices in (
        ("BUDGET", "protocol.budget", config.protocol.budget, budgets),
        ("SELECTION", "search.criterion", config.search.criterion, criteria),
    ):
        others = [str(other) for other in dict.fromkeys(earlier_choices) if other != choice]
        if others:
            banners.append(
                f"{name}: earlier commands compared these methods with {key}={' and '.join(others)}. "
                f"Error rates hold only if {choice} was planned before any of the results was seen."
            )
    return banners


def seed_banners(
    requests: Sequence[SeedRequest], family: Sequence[Contrast], unit: Unit
) -> list[str]:
    """A banner where commands asked for other numbers of report runs, with results in between.

    `unit` is the unit of the verdicts: with methods the report runs are trials.
    """
    if len(requests) < 2 or not family:
        return []
    texts = [
        f"up to {seeds}, until decided" if rule == "sequential" else str(seeds)
        for rule, seeds in requests
    ]
    runs = "TRIALS" if unit == "methods" else "REPORT SEEDS"
    return [
        f"{runs}: asked for {', then '.join(texts)}, with results in between. Error rates hold "
        "only if that was planned before any of them was seen."
    ]
