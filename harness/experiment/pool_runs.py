"""Pool runs: independent random trials of each study on a task, trained together.

A fixed number of trials is one batch. Where trials are added (`--trials auto`), the trials of each look
are a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from harness.analysis.interim import planned_trials, pool_interims, pool_plan
from harness.analysis.pools import trial_scores
from harness.analysis.selection import SelectionScore, selection_ranks, trial_score
from harness.experiment.flows import Flow, TaskContext, WaitRequest
from harness.experiment.search import Search, Trial
from harness.experiment.studies import Study, label_of
from harness.stats.pool_stopping import look_trials
from harness.storage.manifest import Manifest
from harness.storage.record import Record
from harness.training.run import Run, report_seeds


class PoolRuns:
    """The trials of studies on one task. Trial t of every study has the same seed.

    Nothing that a trial depends on depends on another trial: neither its setting nor its seed. So the
    trials are independent draws, and all of them can be trained at once.
    """

    def __init__(self, context: TaskContext, studies: Sequence[Study], repeat: int = 0) -> None:
        """`repeat` is the number of the repeat whose seeds are used."""
        self.context = context
        self.prepared = context.prepared
        self.config = context.prepared.config
        self.studies = studies
        self.repeat = repeat
        self.seeds = report_seeds(self.config.search.trials, repeat)

    def flow(self, manifest: Future[Manifest]) -> Flow:
        """Ask for all trials; where trials are added, for as many as the manifest's comparisons need.

        The trials up to the first look do not wait for the manifest.
        """
        context, task = self.context, self.prepared.task
        searches = [
            Search(
                context.optuna,
                study.name,
                study.space.distributions,
                "random",
                context.claims,
                seed_name=f"pool of {study.method.name} on {task.name}, repeat {self.repeat}",
            )
            for study in self.studies
        ]
        most = self.config.search.trials
        sequential = self.config.protocol.stopping == "sequential"
        records: dict[str, Record] = {}
        counts = [look_trials(most)[0] if sequential else most] * len(self.studies)
        runs: list[list[Run]] = []
        while [len(study_runs) for study_runs in runs] != counts:
            runs = [
                [self._run(study, trial) for trial in search.first_trials(count)]
                for study, search, count in zip(self.studies, searches, counts, strict=True)
            ]
            number = f"{max(counts)} of at most {most}" if sequential else most
            label = f"{label_of(context.name, self.studies)}, {number} trials"
            records |= yield context.request([run for group in runs for run in group], label)
            if sequential:
                design = (yield WaitRequest(manifest)).result()
                counts = self._planned_trials(runs, records, design)
        for study, search, study_runs in zip(self.studies, searches, runs, strict=True):
            scores = [self._score(records[run.fingerprint]) for run in study_runs]
            for run, score in zip(study_runs, scores, strict=True):
                search.tell(run.trial, None if score is None else score[0])
            fingerprints = [run.fingerprint for run in study_runs]
            ranks = dict(zip(fingerprints, selection_ranks(scores), strict=True))
            context.students(study.name).clean_up(ranks)

    def _planned_trials(
        self,
        runs: Sequence[Sequence[Run]],
        records: Mapping[str, Record],
        manifest: Manifest,
    ) -> list[int]:
        """The number of trials that each study needs after the looks at these runs."""
        task = self.context.name
        plan = pool_plan(manifest, task)
        assert plan is not None  # the manifest is of the same configuration
        trials = {
            study.method.name: {
                run.trial: trial_scores(records[run.fingerprint], manifest, task)
                for run in study_runs
            }
            for study, study_runs in zip(self.studies, runs, strict=True)
        }
        family = [(method, baseline) for _, method, baseline in manifest.family_on(task)]
        counts = planned_trials(trials, pool_interims(trials, family, plan), plan)
        return [counts[study.method.name] for study in self.studies]

    def _run(self, study: Study, trial: Trial) -> Run:
        setting = study.space.setting(trial.params)
        seed = self.seeds[trial.number]
        return self.prepared.run(study.method, study.name, setting, trial.number, seed, "report")

    def _score(self, record: Record) -> SelectionScore | None:
        task = self.prepared.task
        return trial_score([record], task.metrics[0], self.config.search.criterion)
