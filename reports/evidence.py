"""All that one report is made of, read from the ledger once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from harness.analysis.aggregation import Across, across, false_discovery
from harness.analysis.answers import StoredAnswers
from harness.analysis.compare import AblationResult, Comparison, summarise
from harness.analysis.disagreements import Disagreements, disagreements
from harness.analysis.examples import ByExample, by_example
from harness.analysis.inside import Inside, read_inside
from harness.analysis.repeats import read_parts
from harness.analysis.results import MethodResult
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest, TeacherFacts
from harness.storage.record import Record

POINTS = 100.0
"""Scores are printed in points: hundredths."""


@dataclass(frozen=True)
class Evidence:
    """An ablation's result, and what was looked at inside its students.

    `discovery_p` are Benjamini-Hochberg adjusted p values by (task, method, baseline).
    """

    result: AblationResult
    inside: Inside
    across: Across
    by_example: ByExample
    disagreements: tuple[Disagreements, ...]
    texts: Mapping[str, Mapping[int, tuple[str, ...]]]
    """By task with report runs, the texts of the examples that those are scored on, by id."""
    discovery_p: Mapping[tuple[str, str, str], float]
    repeats: Mapping[str, tuple[MethodResult, ...]]
    """The results of each repeat by its ablation's name, where the whole was repeated."""
    spaces: Mapping[tuple[str, str], Mapping[str, str]]
    """What was searched by (task, method): each hyper-parameter's distribution as Optuna prints it."""

    @property
    def manifest(self) -> Manifest:
        """What the command that made the ablation wrote about it."""
        return self.result.manifest

    @property
    def sequential(self) -> bool:
        """Whether seeds were added until the comparisons were decided."""
        return self.result.sequential

    @property
    def teachers(self) -> Mapping[str, TeacherFacts]:
        """Each task's teacher."""
        return self.manifest.teachers

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with studies, in the manifest's order."""
        return tuple(self.manifest.studies)

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods of all tasks; the baseline first, then in the manifest's order."""
        found = dict.fromkeys(result.method for result in self.result.results)
        return tuple(sorted(found, key=lambda method: method != self.manifest.baseline))

    def results(self, task: str) -> tuple[MethodResult, ...]:
        """The task's results, in the order of `methods`."""
        found = (self.result.result(task, method) for method in self.methods)
        return tuple(result for result in found if result is not None)

    def task_label(self, task: str) -> str:
        """The task's title with its name."""
        title = self.manifest.tasks[task].title
        return title if title.lower() == task.lower() else f"{title} ({task})"

    def metric(self, task: str) -> str:
        """The task's primary metric."""
        return self.manifest.primary_metric(task)

    def comparisons(self, task: str) -> tuple[Comparison, ...]:
        """The task's comparisons, in the family's order."""
        return tuple(one for one in self.result.comparisons if one.task == task)

    def teacher_score(self, task: str) -> float:
        """The teacher's primary metric in points, on the split that the report runs are scored on.

        Before there is a report run, on the last split that the teacher was scored on.
        """
        by_split = self.teachers[task].metrics
        split = self.evaluation_split(task)
        scores = by_split.get(split or "", list(by_split.values())[-1])
        return POINTS * scores[self.metric(task)]

    def constant_score(self, task: str) -> float:
        """The score of the same prediction for every example, in points."""
        return POINTS * self.manifest.tasks[task].constant

    def evaluation_split(self, task: str) -> str | None:
        """The split that the report runs are scored on; None before there is one."""
        runs = (run for result in self.results(task) for run in result.report)
        return next((run.record.inputs.split.name for run in runs), None)

    def records(self) -> tuple[Record, ...]:
        """The records of all runs, search and report, of repeats too."""
        results = (*self.result.results, *chain.from_iterable(self.repeats.values()))
        return tuple(run.record for result in results for run in (*result.search, *result.report))


def read_evidence(ledger: Ledger, ablation: str) -> Evidence:
    """Read one ablation. Raises `StorageError` when there is none of that name."""
    stored = StoredAnswers(ledger)
    result = summarise(ledger, ablation, stored)
    return Evidence(
        result=result,
        inside=read_inside(ledger, result),
        across=across(result),
        by_example=by_example(stored, result),
        disagreements=disagreements(stored, result),
        texts=_texts(ledger, result),
        discovery_p=false_discovery(result),
        repeats=read_parts(ledger, result.manifest),
        spaces={(found.task, found.method): _space(ledger, found) for found in result.results},
    )


def _texts(ledger: Ledger, result: AblationResult) -> dict[str, Mapping[int, tuple[str, ...]]]:
    found: dict[str, Mapping[int, tuple[str, ...]]] = {}
    for own in result.results:
        if own.report and own.task not in found:
            found[own.task] = ledger.texts(own.report[0].record.inputs.split.sha256)
    return found


def _space(ledger: Ledger, result: MethodResult) -> Mapping[str, str]:
    """Empty for repeats, whose joint result belongs to no one study."""
    study = ledger.study_manifest(result.study)
    return {} if study is None else study.space
