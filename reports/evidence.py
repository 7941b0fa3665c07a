"""The data of one report, read from the ledger once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from itertools import chain

from harness.analysis.aggregation import Synthesis, false_discovery, synthesise
from harness.analysis.answers import StoredAnswers
from harness.analysis.compare import AblationResult, summarising, with_damages
from harness.analysis.comparison import Comparison
from harness.analysis.disagreements import Disagreements, disagreements
from harness.analysis.examples import ExampleTests, example_tests
from harness.analysis.inspections import Inspections, read_inspections
from harness.analysis.repeats import read_parts
from harness.analysis.results import MethodResult
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest, TeacherFacts
from harness.storage.record import Record

POINTS = 100.0
"""Points of a score of 1: reports print scores in points, hundredths of the score's unit."""


@dataclass(frozen=True)
class Evidence:
    """An ablation's result and the analyses of it.

    `discovery_p` holds Benjamini-Hochberg adjusted p values by (task, method, baseline).
    """

    result: AblationResult
    internals: Inspections
    aggregation: Synthesis
    example_tests: ExampleTests
    disagreements: tuple[Disagreements, ...]
    texts: Mapping[str, Mapping[int, tuple[str, ...]]]
    """By task with report runs: the texts of the examples that the runs are scored on, by id."""
    discovery_p: Mapping[tuple[str, str, str], float]
    repeats: Mapping[str, tuple[MethodResult, ...]]
    """The results of each repeat by the name of its ablation; empty without repeats of the whole."""

    @property
    def manifest(self) -> Manifest:
        """The manifest of the ablation, written by the command that made the ablation."""
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
        names = dict.fromkeys(result.method for result in self.result.results)
        return tuple(sorted(names, key=lambda method: method != self.manifest.baseline))

    def results(self, task: str) -> tuple[MethodResult, ...]:
        """The task's results, in the order of `methods`."""
        results = (self.result.result(task, method) for method in self.methods)
        return tuple(result for result in results if result is not None)

    def task_label(self, task: str) -> str:
        """The task's title with its name and, with axes, its cell."""
        title, cell = self.manifest.tasks[task].title, ""
        if self.manifest.grid is not None:
            task, cell = astuple(self.manifest.grid.places[task])
        label = title if title.lower() == task.lower() else f"{title} ({task})"
        return f"{label}, {cell}" if cell else label

    def metric(self, task: str) -> str:
        """The task's primary metric."""
        return self.manifest.primary_metric(task)

    def comparisons(self, task: str) -> tuple[Comparison, ...]:
        """The task's comparisons, in the family's order."""
        return tuple(pair for pair in self.result.comparisons if pair.task == task)

    def teacher_score(self, task: str) -> float:
        """The teacher's primary metric in points, on the split that the report runs are scored on.

        Without report runs, the split is the last one that the teacher was scored on.
        """
        by_split = self.teachers[task].metrics
        split = self.evaluation_split(task)
        scores = by_split.get(split or "", list(by_split.values())[-1])
        return POINTS * scores[self.metric(task)]

    def constant_score(self, task: str) -> float:
        """The score in points of one constant prediction for all examples."""
        return POINTS * self.manifest.tasks[task].constant

    def evaluation_split(self, task: str) -> str | None:
        """The split that the report runs are scored on; None without scores."""
        splits = (result.split for result in self.results(task))
        return next((split for split in splits if split is not None), None)

    def records(self) -> tuple[Record, ...]:
        """The records of all runs: search runs and report runs, with the runs of repeats."""
        results = (*self.result.results, *chain.from_iterable(self.repeats.values()))
        return tuple(run.record for result in results for run in result.runs)


def read_evidence(ledger: Ledger, ablation: str) -> Evidence:
    """Read one ablation. Raises `StorageError` when the ledger has no ablation of that name."""
    with reading_evidence(ledger, ablation) as evidence:
        return replace(evidence, result=evidence.result.settled())


@contextmanager
def reading_evidence(ledger: Ledger, ablation: str) -> Iterator[Evidence]:
    """`read_evidence` whose comparisons wait, in the block, until their intervals are computed.

    Threads compute the intervals over new examples beside the work of the block.
    """
    answers = StoredAnswers(ledger)
    with summarising(ledger, ablation, answers) as summary:
        # These analyses need pairs of methods, and no interval over new examples.
        draft = summary.draft
        internals = read_inspections(ledger, draft)
        yield Evidence(
            result=with_damages(ledger, summary.result),
            internals=internals,
            aggregation=synthesise(draft),
            example_tests=example_tests(answers, draft),
            disagreements=disagreements(answers, draft),
            texts=_texts(ledger, draft),
            discovery_p=false_discovery(draft),
            repeats=read_parts(ledger, draft.manifest),
        )


def _texts(ledger: Ledger, ablation: AblationResult) -> dict[str, Mapping[int, tuple[str, ...]]]:
    texts: dict[str, Mapping[int, tuple[str, ...]]] = {}
    by_split: dict[str, Mapping[int, tuple[str, ...]]] = {}
    for result in ablation.results:
        if result.report and result.task not in texts:
            split = result.report[0].record.inputs.split.sha256
            if split not in by_split:  # all cells of a task have the same
                by_split[split] = ledger.texts(split)
            texts[result.task] = by_split[split]
    return texts
