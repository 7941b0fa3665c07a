"""The executor: trains runs without records, each run once among all workers, and writes records."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from harness.config import StudyConfig
from harness.experiment.kept_students import KeptStudents
from harness.experiment.model_card import model_card
from harness.experiment.outcomes import failed_result
from harness.experiment.trainer import RunResult, Trainer
from harness.method import Method, View
from harness.runtime.failures import RunFailed, convert_failures, is_out_of_memory
from harness.runtime.progress import progress, say
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from harness.storage.record import Record, Result
from harness.training.halving import round_of
from harness.training.run import Run
from harness.training.sizing import population_size
from harness.training.task_setup import Materials

POLL_SECONDS = 1.0


class Executor:
    """Trains runs on one task, of any method, that have no record, and writes their records.

    The ledger's claims keep workers from training the same run.
    """

    def __init__(
        self, config: StudyConfig, materials: Materials, ledger: Ledger, claims: Claims
    ) -> None:
        self.config = config
        self.materials = materials
        self.ledger = ledger
        self.claims = claims
        self.trainer = Trainer(config, materials)
        self._attempts: set[str] = set()
        self._students: dict[str, KeptStudents] = {}
        self._sizes: dict[View, int] = {}

    def size(self, runs: Sequence[Run]) -> int:
        """The number of runs of one view that are trained together. No setting depends on it."""
        view = self.trainer.view(runs[0])
        if view not in self._sizes:
            sizing_run = next((run for run in runs if run.method.matches_layers()), runs[0])
            self._sizes[view] = population_size(
                self.trainer.recipe(view), self.trainer.member(sizing_run)
            )
        return self._sizes[view]

    def students(self, study: str) -> KeptStudents:
        """The kept students of a study."""
        if study not in self._students:
            config = self.config
            self._students[study] = KeptStudents(
                Path(config.out), study, config.keep, self.ledger, self.claims
            )
        return self._students[study]

    def _keep(
        self, run: Run, record: Record, weights: Mapping[str, Tensor], method: Method | None
    ) -> None:
        self.students(run.study).save(
            run.fingerprint,
            self.trainer.blueprint.config,
            weights,
            method,
            self.materials.teacher.folder,
            model_card(run, record, self.materials, self.config),
        )

    def execute(self, runs: Sequence[Run], label: str) -> dict[str, Record]:
        """The records of all runs, by fingerprint; trains the runs that have none.

        Waits for runs that another worker has claimed. `label` heads the lines of progress.
        """
        by_fingerprint = {run.fingerprint: run for run in runs}
        records = self._final_records(self._records(runs))
        missing_runs = [run for key, run in by_fingerprint.items() if key not in records]
        if not missing_runs:
            return records
        # Populations are made of all runs, not of the missing ones: so a study that goes on after a
        # kill, or that several workers share, has the populations of an undisturbed one.
        populations = self._populations([*by_fingerprint.values()])
        with progress(label, self.trainer.steps * len(missing_runs)) as advance:
            while missing_runs:
                self._train_first_population(
                    populations, {run.fingerprint for run in missing_runs}, advance
                )
                records = self._final_records(self._records(missing_runs))
                unfinished_runs = [run for run in missing_runs if run.fingerprint not in records]
                if len(unfinished_runs) == len(missing_runs):
                    time.sleep(POLL_SECONDS)
                missing_runs = unfinished_runs
        return self._records(runs)

    def _records(self, runs: Sequence[Run]) -> dict[str, Record]:
        """The records that exist, by fingerprint. The ledger notes that the runs' studies use them."""
        records = self.ledger.records({run.fingerprint for run in runs})
        for run in runs:
            if run.fingerprint in records:
                self.ledger.use_run(run.study, run.role, run.trial, run.seed, run.fingerprint)
        return records

    def _train_first_population(
        self,
        populations: Sequence[Sequence[Run]],
        missing_keys: set[str],
        advance: Callable[[int], None],
    ) -> None:
        """Train the first population whose missing runs can all be claimed."""
        for population in populations:
            runs = [run for run in population if run.fingerprint in missing_keys]
            with ExitStack() as stack:
                claims = (stack.enter_context(self.claims.claim(run.fingerprint)) for run in runs)
                if not runs or not all(claims):
                    continue
                # Another worker may have finished some of these runs before this worker's claims.
                records = self._final_records(
                    self.ledger.records([run.fingerprint for run in runs])
                )
                self._train_and_write(
                    [run for run in runs if run.fingerprint not in records], advance
                )
                return

    def _populations(self, runs: Sequence[Run]) -> list[list[Run]]:
        """Divide runs into populations of one view, of at most `size` runs or one inseparable group."""
        by_view: dict[View, list[Run]] = {}
        for run in runs:
            by_view.setdefault(self.trainer.view(run), []).append(run)
        for view in by_view:
            self.trainer.recipe(view)  # puts its data on the GPU before any size is measured
        populations: list[list[Run]] = []
        for view_runs in by_view.values():
            size = self.size(view_runs)
            population: list[Run] = []
            for group in self._inseparable_groups(view_runs):
                if not population or len(population) + len(group) > size:
                    population = []
                    populations.append(population)
                population += group
        return populations

    def _inseparable_groups(self, runs: Sequence[Run]) -> list[list[Run]]:
        """Groups that must be trained whole: with rungs a method's round, else each run by itself."""
        if not self.trainer.rungs:
            return [[run] for run in runs]
        groups: dict[str, list[Run]] = {}
        for run in runs:
            key = round_of(run) if run.role == "search" else run.fingerprint
            groups.setdefault(key, []).append(run)
        return list(groups.values())

    def _train_and_write(self, runs: Sequence[Run], advance: Callable[[int], None]) -> None:
        """Train runs together. Where that raises, train each half by itself, down to inseparable groups.

        After a lack of memory no later population of this view is larger than the half.
        """
        parts = [runs] if runs else []
        while parts:
            part = parts.pop(0)
            reason = self._try(part, advance)
            if reason is None:
                continue
            groups = self._inseparable_groups(part)
            if len(groups) == 1:
                self._write([RunResult(run, failed_result(run, reason)) for run in part])
                continue
            half = (len(groups) + 1) // 2
            halves = [
                [run for group in half_groups for run in group]
                for half_groups in (groups[:half], groups[half:])
            ]
            parts[:0] = halves
            if is_out_of_memory(reason):
                self._sizes[self.trainer.view(part[0])] = len(halves[0])
            say(f"warning: {len(part)} runs together: {reason}; going on with {len(halves[0])}")
            gc.collect()
            if self.materials.arithmetic.device.type == "cuda":
                torch.cuda.empty_cache()

    def _try(self, runs: Sequence[Run], advance: Callable[[int], None]) -> str | None:
        """Train and write runs; returns the reason where they cannot be trained together.

        The exception itself would keep the population alive, and with it the population's memory.
        """
        try:
            with convert_failures():
                keep = None if self.config.keep == "none" else self._keep
                results = self.trainer.train(runs, advance, keep)
        except RunFailed as error:
            return str(error)
        self._write(results)
        return None

    def _final_records(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """Records without those that this command tries again: earlier commands' lacks of memory."""
        return {
            key: record
            for key, record in records.items()
            if key in self._attempts or not is_out_of_memory(record.reason)
        }

    def repeat(self, runs: Sequence[Run], advance: Callable[[int], None]) -> dict[str, Result]:
        """Train runs together, whether or not they have records; returns results, and writes nothing."""
        try:
            with convert_failures():
                results = self.trainer.train(runs, advance)
        except RunFailed as error:
            return {run.fingerprint: failed_result(run, str(error)) for run in runs}
        return {entry.run.fingerprint: entry.result for entry in results}

    def _write(self, results: Sequence[RunResult]) -> None:
        """Write a population's results in one transaction: all of them, or none after a kill."""
        for run, record in ((entry.run, entry.result.record) for entry in results):
            if record.status == "failed":
                say(f"warning: {run.method.name}, seed {run.seed}: failed: {record.reason}")
            self._attempts.add(run.fingerprint)
        self.ledger.write_runs([entry.result for entry in results])
