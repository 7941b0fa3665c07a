"""Search runs: the studies on a task are searched together, round by round, and select settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from harness.analysis.selection import best_trial, trial_score
from harness.config import Criterion
from harness.experiment.flows import Flow, TaskContext
from harness.experiment.search import Search, Trial, TrialScore, ask_round, tell_scores
from harness.experiment.studies import Selection, Study, label_of
from harness.runtime.progress import say
from harness.storage.record import Record
from harness.training.run import Run, search_seeds


class SearchRuns:
    """The searches of studies on one task. In each round the runs of these studies share populations."""

    def __init__(self, context: TaskContext, studies: Sequence[Study], repeat: int = 0) -> None:
        """`repeat` is the number of the repeat whose search seeds are used."""
        self.context = context
        self.prepared = context.prepared
        self.config = self.prepared.config.search
        self.studies = {study.method.name: study for study in studies}
        self.seeds = search_seeds(self.config.seeds, repeat)
        self.task = self.prepared.task

    def flow(self) -> Flow:
        """Ask for the trials of each round, and tell their scores."""
        context = self.context
        searches = {
            method: Search(
                context.optuna,
                study.name,
                study.space.distributions,
                self.config.sampler,
                context.claims,
            )
            for method, study in self.studies.items()
        }
        for number in count():
            trials = ask_round(searches, number, self.config.trials)
            if trials is None:
                return
            runs = [
                run
                for method, method_trials in trials.items()
                for run in self._runs(self.studies[method], method_trials)
            ]
            records = yield context.request(runs, self._label(runs))
            tell_scores(searches, self._scores(runs, records))

    def selections(self) -> list[Selection]:
        """The best setting of each study among the first `trials` trials of the configuration.

        A study without a complete trial has no selection, and a line on stderr says so.
        """
        selections = []
        for method, study in self.studies.items():
            runs = [
                run
                for run in self.context.ledger.study_runs(study.name)
                if run.role == "search" and run.trial < self.config.trials
            ]
            trial = best_trial(runs, self.task.metrics[0], self.config.criterion)
            if trial is None:
                say(
                    f"{self.context.name}: {method}: every setting failed; the report has the reasons"
                )
                continue
            inputs = next(run.record.inputs for run in runs if run.trial == trial)
            selections.append(Selection(study, trial, inputs.setting))
        return selections

    def _label(self, runs: Sequence[Run]) -> str:
        numbers = sorted({run.trial + 1 for run in runs})
        span = "-".join(str(number) for number in sorted({numbers[0], numbers[-1]}))
        label = label_of(self.context.name, list(self.studies.values()))
        return f"{label}, search {span} of {self.config.trials}"

    def _scores(
        self, runs: Sequence[Run], records: Mapping[str, Record]
    ) -> dict[str, dict[int, TrialScore]]:
        """Each method's scores of one round, by the number of the trial."""
        by_trial: dict[str, dict[int, list[Record]]] = {method: {} for method in self.studies}
        for run in runs:
            method_records = by_trial[run.method.name]
            method_records.setdefault(run.trial, []).append(records[run.fingerprint])
        return {
            method: {
                trial: _trial_score(trial_records, self.task.metrics[0], self.config.criterion)
                for trial, trial_records in method_records.items()
            }
            for method, method_records in by_trial.items()
        }

    def _runs(self, study: Study, trials: Sequence[Trial]) -> list[Run]:
        """The runs of one round of a study: every trial with every seed."""
        settings = [study.space.setting(trial.params) for trial in trials]
        return [
            self.prepared.run(
                study.method, study.name, setting, trial.number, seed, "search", settings
            )
            for trial, setting in zip(trials, settings, strict=True)
            for seed in self.seeds
        ]


def _trial_score(records: Sequence[Record], metric: str, criterion: Criterion) -> TrialScore:
    """The number that Optuna maximises: the first of a trial's selection score.

    None when a run failed, else "pruned" when a run was pruned.
    """
    if any(record.status == "failed" for record in records):
        return None
    score = trial_score(records, metric, criterion)
    return "pruned" if score is None else score[0]
