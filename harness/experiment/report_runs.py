"""Report runs: training of the selected settings of a task's studies over new seeds."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from harness.analysis.interim import InterimPlan, planned_seeds
from harness.analysis.results import score_of
from harness.experiment.flows import Flow, RunRequest, TaskContext
from harness.experiment.studies import Selection
from harness.storage.record import Record
from harness.training.run import Run, report_seeds


class ReportRuns:
    """The report runs of selected settings on one task. All studies have the same seeds in one order."""

    def __init__(
        self, context: TaskContext, selections: Sequence[Selection], repeat: int = 0
    ) -> None:
        """`repeat` is the number of the repeat whose report seeds are used."""
        self.context = context
        self.prepared = context.prepared
        self.selections = selections
        self.metric = self.prepared.task.metrics[0]
        seeds = report_seeds(self.prepared.config.protocol.seeds, repeat)
        self.runs = {
            selection.study.method.name: [self._run(selection, seed) for seed in seeds]
            for selection in selections
        }

    def flow(self, plan: InterimPlan | None, label: str) -> Flow:
        """Ask for the runs: with a `plan` until the task's comparisons are decided, else all of them."""
        if plan is None:
            seeds = self.prepared.config.protocol.seeds
            runs = [run for method_runs in self.runs.values() for run in method_runs]
            records = yield self.context.request(runs, f"{label}, {seeds} report seeds")
        else:
            records = yield from self._until_decided(plan, label)
        self._tidy_students(records)

    def _until_decided(
        self, plan: InterimPlan, label: str
    ) -> Generator[RunRequest, Mapping[str, Record], dict[str, Record]]:
        """Ask for as many of each method's first seeds as comparisons need; returns their records."""
        baseline = self.prepared.config.baseline
        assert baseline is not None  # the configuration is refused without one
        family = [(method, baseline) for method in self.runs if method != baseline]
        records: dict[str, Record] = {}
        while True:
            scores = {
                method: _scores(runs, records, self.metric) for method, runs in self.runs.items()
            }
            counts = planned_seeds(scores, family, plan)
            runs = [
                run
                for method, method_runs in self.runs.items()
                for run in method_runs[: counts[method]]
            ]
            if all(run.fingerprint in records for run in runs):
                return records
            count = max(counts.values())
            records |= yield self.context.request(
                runs, f"{label}, {count} of at most {len(plan.seeds)} report seeds"
            )

    def _tidy_students(self, records: Mapping[str, Record]) -> None:
        """Remove the students of these runs that `keep` does not name."""
        for selection in self.selections:
            fingerprints = [run.fingerprint for run in self.runs[selection.study.method.name]]
            scores = {
                key: score_of(records[key], self.metric) for key in fingerprints if key in records
            }
            self.context.students(selection.study.name).clean_up(scores, selection.trial)

    def _run(self, selection: Selection, seed: int) -> Run:
        study = selection.study
        return self.prepared.run(
            study.method, study.name, selection.setting, selection.trial, seed, "report"
        )


def _scores(
    runs: Sequence[Run], records: Mapping[str, Record], metric: str
) -> dict[int, float | None]:
    """Scores by seed of the runs that have ended; None for a failed run."""
    return {
        run.seed: score_of(records[run.fingerprint], metric)
        for run in runs
        if run.fingerprint in records
    }
