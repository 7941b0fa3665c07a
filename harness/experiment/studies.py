"""Studies on one task: the space of each study, and the setting that a study selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.config import StudyConfig
from harness.method import Method, Value
from harness.registry.discovery import chosen_methods
from harness.registry.space import Space, space_of

NAMED_METHODS = 4
"""The most methods that a line of progress names. A line on more methods gives their number."""


@dataclass(frozen=True)
class Study:
    """A method on a task: the study's name in the ledger, and the space that is searched."""

    name: str
    method: type[Method]
    space: Space


@dataclass(frozen=True)
class Selection:
    """The setting that a study has selected by its selection scores, and the number of its trial."""

    study: Study
    trial: int
    setting: Mapping[str, Value]


def studies_of(config: StudyConfig, names: Mapping[str, str], regression: bool) -> list[Study]:
    """The studies with these `names` by method, on a task of regression or classification."""
    return [
        Study(names[method.name], method, space_of(method, config.search, regression))
        for method in chosen_methods(config)
        if method.name in names
    ]


def label_of(task: str, studies: Sequence[Study]) -> str:
    """The task and the studies' methods, as lines of progress show them."""
    names = [study.method.name for study in studies]
    methods = ", ".join(names) if len(names) <= NAMED_METHODS else f"{len(names)} methods"
    return f"{task}: {methods}"
