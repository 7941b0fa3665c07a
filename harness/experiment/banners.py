"""What must not be overlooked about results: shown by reports and in the cards of kept students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config import StudyConfig
from harness.training.task_setup import Materials

DEMO = "DEMO DATA: procedural tasks that only share GLUE's schemas. Nothing here is a GLUE result."
PAPER = "PROTOCOL paper: settings were selected on the split that is reported, so scores are optimistic."


def banners_of(config: StudyConfig, ready: Mapping[str, Materials]) -> list[str]:
    """What holds for every task, then for each of those that are ready."""
    own = [text for materials in ready.values() for text in banners_of_task(config, materials)]
    return banners_of_all(config) + own


def banners_of_all(config: StudyConfig) -> list[str]:
    """What holds for every task."""
    demo, paper = config.source.kind == "demo", config.protocol.name == "paper"
    return [text for text, holds in ((DEMO, demo), (PAPER, paper)) if holds]


def banners_of_task(config: StudyConfig, materials: Materials) -> list[str]:
    """What holds for one task and its teacher."""
    task = materials.data.task.name
    banners = []
    if materials.teacher.outside and config.protocol.name == "clean":
        banners.append(
            f"{task}: the teacher comes from outside and may have seen the selection data."
        )
    if materials.facts["weak"]:
        banners.append(f"{task}: the teacher is no better than a constant prediction.")
    if config.teacher.pretrained == "minilm" and task in ("mnli", "qqp"):
        banners.append(f"{task}: the MiniLM encoder was trained on data of this kind.")
    return banners


def banner_of_seeds(asked: Sequence[Sequence[Any]], family: Sequence[Sequence[Any]]) -> list[str]:
    """That the number of report seeds, asked for as (rule, number), changed with results in between."""
    if len(asked) < 2 or not family:
        return []
    shown = [
        f"up to {seeds}, until decided" if rule == "sequential" else str(seeds)
        for rule, seeds in asked
    ]
    return [
        f"REPORT SEEDS: asked for {', then '.join(shown)}, with results in between. Error rates hold "
        "only if that was planned before any of them was seen."
    ]
