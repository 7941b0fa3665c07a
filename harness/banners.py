"""What must not be overlooked about results: shown by reports and in the cards of kept students."""

from __future__ import annotations

from harness.config import StudyConfig
from harness.materials import Materials

DEMO = "DEMO DATA: procedural tasks that only share GLUE's schemas. Nothing here is a GLUE result."
PAPER = "PROTOCOL paper: settings were selected on the split that is reported, so scores are optimistic."


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
