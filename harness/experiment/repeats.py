"""Repeats of a whole ablation (`--repeat-search R`), and the joint manifest over all repeats.

Each repeat is an ablation of its own in the ledger, with another teacher seed, other search and report
seeds, and a report. One more manifest, the joint manifest, names all repeats. A joint ablation has one
score per repeat, so that its verdicts hold for new teachers and searches too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np

from harness.config import StudyConfig
from harness.data.splits import TaskData
from harness.errors import NothingLeftError, UserError
from harness.experiment.ablation import Ablation
from harness.experiment.flows import Flow
from harness.experiment.scheduler import Scheduler
from harness.runtime.progress import say
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest, TeacherFacts


def repeat_config(config: StudyConfig, repeat: int) -> StudyConfig:
    """The configuration of one repeat, counted from 0. Repeat 0 is the ablation without repeats.

    A teacher from outside is the same in all repeats.
    """
    teacher = replace(config.teacher, seed=config.teacher.seed + repeat)
    return replace(config, teacher=teacher, protocol=replace(config.protocol, repeats=1))


class JointAblation:
    """The manifest over all repeats, written again as each repeat begins.

    Tasks, methods and the family of comparisons are those of the first repeat.
    """

    def __init__(
        self, config: StudyConfig, ledger: Ledger, command: str, refusals: Mapping[str, str]
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.command = command
        self.refusals = dict(refusals)
        self.names: list[str | None] = []
        self.name = ""

    def flow(
        self,
        ablation: Callable[[StudyConfig, int], Ablation],
        tasks: Mapping[str, TaskData],
        scheduler: Scheduler,
    ) -> Flow:
        """Begin all repeats, and write their manifests in order.

        Neither teachers nor runs of a repeat wait for those of another.

        `ablation` makes the ablation of a repeat from its configuration and number.
        """
        parts: list[tuple[Ablation, dict[str, str]]] = []
        for repeat in range(self.config.protocol.repeats):
            parts.append((ablation(repeat_config(self.config, repeat), repeat), {}))
        for part, refusals in parts:
            part.begin(tasks, refusals, scheduler)
        for repeat, (part, refusals) in enumerate(parts):
            try:
                yield from part.manifest_flow()
            except NothingLeftError as error:
                if repeat == 0:
                    raise
                self.leave_out(repeat, error)
            else:
                self.add(repeat, part.name, refusals)

    def add(self, repeat: int, name: str, refusals: Mapping[str, str]) -> None:
        """Add a repeat whose manifest, `name`, is written; `refusals` are reasons by task or method."""
        self.names.append(name)
        self.refusals |= {
            f"repeat {repeat}, {subject}": reason for subject, reason in refusals.items()
        }
        if repeat == 0:
            self.name = f"{name.removesuffix('-r0')}-x{self.config.protocol.repeats}"
        self._write()
        say(f"repeat {repeat + 1} of {self.config.protocol.repeats}: {name}")

    def leave_out(self, repeat: int, error: UserError) -> None:
        """Note that a repeat cannot be trained at all. The other repeats go on."""
        self.names.append(None)
        self.refusals[f"repeat {repeat}"] = str(error)
        self._write()
        say(f"repeat {repeat + 1} of {self.config.protocol.repeats} is left out: {error}")

    def _write(self) -> None:
        names = list(self.names)
        present = self.ledger.ablations()
        if self.name in present:  # an earlier or another command was further
            further = self.ledger.manifest(self.name).repeats[len(names) :]
            # A repair may have set a repeat's manifest aside.
            names += takewhile(lambda name: name is None or name in present, further)
        parts = [self.ledger.manifest(name) for name in names if name is not None]
        manifest = joint_manifest(self.config, parts, self.name, names)
        manifest = replace(manifest, command=self.command, refused=self.refusals)
        self.ledger.write_ablation(manifest)


def joint_manifest(
    config: StudyConfig, parts: Sequence[Manifest], name: str, repeats: Sequence[str | None]
) -> Manifest:
    """The manifest over repeats, from the manifests `parts` of all repeats that could be trained.

    Tasks, methods, the family and the other facts come from the first repeat.
    """
    first = parts[0]
    from_outside = config.teacher.checkpoint is not None
    protocol = replace(first.config.protocol, repeats=config.protocol.repeats)
    return replace(
        first,
        name=name,
        config=replace(first.config, protocol=protocol),
        banners=tuple(dict.fromkeys(banner for part in parts for banner in part.banners)),
        teachers={
            task: _mean_teacher([part.teachers[task] for part in parts if task in part.teachers])
            for task in first.teachers
        },
        studies={task: dict.fromkeys(studies, "") for task, studies in first.studies.items()},
        search_seeds=(),
        report_seeds=tuple(range(config.protocol.repeats)),
        repeat=None,
        repeats=tuple(repeats),
        replication="searches and seeds, with this teacher"
        if from_outside
        else "teachers, searches and seeds",
    )


def _mean_teacher(teachers: Sequence[TeacherFacts]) -> TeacherFacts:
    """Facts of the repeats' teachers together, with their mean scores."""
    return replace(
        teachers[0],
        name=f"mean of {len(teachers)} teachers",
        fingerprint=", ".join(teacher.fingerprint for teacher in teachers),
        metrics={
            split: {
                name: float(np.mean([teacher.metrics[split][name] for teacher in teachers]))
                for name in scores
            }
            for split, scores in teachers[0].metrics.items()
        },
        weak=all(teacher.weak for teacher in teachers),
        second_recipe=" ".join(
            f"Repeat {number}: {teacher.second_recipe}"
            for number, teacher in enumerate(teachers, start=1)
            if teacher.second_recipe
        ),
        seconds=sum(teacher.seconds for teacher in teachers),
        variance_shares=(),
    )
