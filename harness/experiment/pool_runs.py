"""Pool runs: N independent random trials of each study on a task, trained together in one batch."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.selection import SelectionScore, selection_ranks, trial_score
from harness.config import StudyConfig
from harness.experiment.executor import Executor
from harness.experiment.search import Search, Trial, open_optuna
from harness.experiment.studies import Study, label_of
from harness.storage.record import Record
from harness.training.run import Run, report_seeds


class PoolRuns:
    """The trials of studies on one task. Trial t of every study has the same seed.

    Nothing that a trial depends on depends on another trial: neither its setting nor its seed. So the
    trials are independent draws, and all of them can be trained at once.
    """

    def __init__(
        self, config: StudyConfig, executor: Executor, studies: Sequence[Study], repeat: int = 0
    ) -> None:
        """`repeat` is the number of the repeat whose seeds are used."""
        self.config = config
        self.executor = executor
        self.studies = studies
        self.repeat = repeat
        self.seeds = report_seeds(config.search.trials, repeat)

    def train(self) -> None:
        """Train all trials of all studies. Runs with a record in the ledger are not trained again."""
        claims, task = self.executor.claims, self.executor.materials.data.task
        storage = open_optuna(self.executor.ledger.url, claims)
        searches = [
            Search(
                storage,
                study.name,
                study.space.distributions,
                "random",
                claims,
                seed_name=f"pool of {study.method.name} on {task.name}, repeat {self.repeat}",
            )
            for study in self.studies
        ]
        trials = [search.first_trials(self.config.search.trials) for search in searches]
        runs = [
            [self._run(study, trial) for trial in study_trials]
            for study, study_trials in zip(self.studies, trials, strict=True)
        ]
        label = f"{label_of(task.name, self.studies)}, {self.config.search.trials} trials"
        records = self.executor.execute([run for group in runs for run in group], label)
        for study, search, study_runs in zip(self.studies, searches, runs, strict=True):
            scores = [self._score(records[run.fingerprint]) for run in study_runs]
            for run, score in zip(study_runs, scores, strict=True):
                search.tell(run.trial, None if score is None else score[0])
            fingerprints = [run.fingerprint for run in study_runs]
            ranks = dict(zip(fingerprints, selection_ranks(scores), strict=True))
            self.executor.students(study.name).clean_up(ranks)
        storage.engine.dispose()

    def _run(self, study: Study, trial: Trial) -> Run:
        setting = study.space.setting(trial.params)
        seed = self.seeds[trial.number]
        return self.executor.trainer.run(
            study.method, study.name, setting, trial.number, seed, "report"
        )

    def _score(self, record: Record) -> SelectionScore | None:
        task = self.executor.materials.data.task
        return trial_score([record], task.metrics[0], self.config.search.criterion)
