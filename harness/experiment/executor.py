"""Runs to records: train what has no record yet, each run once however many workers ask for it."""

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
from harness.runtime.failures import RunFailed, is_out_of_memory, recorded
from harness.runtime.progress import progress, say
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger, Record, Result
from harness.training.halving import round_of
from harness.training.run import Run
from harness.training.sizing import population_size
from harness.training.task_setup import Materials

POLL_SECONDS = 1.0


class Executor:
    """Sees to it that runs on one task, of any method, are trained once, and writes their records."""

    def __init__(
        self, config: StudyConfig, materials: Materials, ledger: Ledger, claims: Claims
    ) -> None:
        self.config = config
        self.materials = materials
        self.ledger = ledger
        self.claims = claims
        self.trainer = Trainer(config, materials)
        self._tried: set[str] = set()
        self._kept: dict[str, KeptStudents] = {}
        self._sizes: dict[View, int] = {}

    def size(self, runs: Sequence[Run]) -> int:
        """How many runs of one view are trained together; what is asked does not depend on it."""
        view = self.trainer.view(runs[0])
        if view not in self._sizes:
            matching = [run for run in runs if run.method.matches_layers()]
            self._sizes[view] = population_size(
                self.trainer.recipe(view), self.trainer.member((matching or [*runs])[0])
            )
        return self._sizes[view]

    def kept(self, study: str) -> KeptStudents:
        """The kept students of a study."""
        if study not in self._kept:
            config = self.config
            self._kept[study] = KeptStudents(
                Path(config.out), study, config.keep, self.ledger, self.claims
            )
        return self._kept[study]

    def _keep(
        self, run: Run, record: Record, weights: Mapping[str, Tensor], method: Method | None
    ) -> None:
        self.kept(run.study).save(
            run.fingerprint,
            self.trainer.blueprint.config,
            weights,
            method,
            self.materials.teacher.folder,
            model_card(run, record, self.materials, self.config),
        )

    def execute(self, runs: Sequence[Run], label: str) -> dict[str, Record]:
        """The records of all runs, by fingerprint; trains those that have none.

        A run that another worker has claimed is waited for.
        """
        by_fingerprint = {run.fingerprint: run for run in runs}
        records = self._settled(self._records(runs))
        missing = [run for key, run in by_fingerprint.items() if key not in records]
        if not missing:
            return records
        # Of all runs, not of the missing: a study that goes on or is shared has the same populations.
        populations = self._populations([*by_fingerprint.values()])
        with progress(label, self.trainer.steps * len(missing)) as advance:
            while missing:
                self._train_claimed(populations, {run.fingerprint for run in missing}, advance)
                records = self._settled(self._records(missing))
                left = [run for run in missing if run.fingerprint not in records]
                if len(left) == len(missing):
                    time.sleep(POLL_SECONDS)
                missing = left
        return self._records(runs)

    def _records(self, runs: Sequence[Run]) -> dict[str, Record]:
        """The records that exist, by fingerprint, noted as used by the study; settings may repeat."""
        records = self.ledger.records({run.fingerprint for run in runs})
        for run in runs:
            if run.fingerprint in records:
                self.ledger.use_run(run.study, run.role, run.trial, run.seed, run.fingerprint)
        return records

    def _train_claimed(
        self,
        populations: Sequence[Sequence[Run]],
        missing: set[str],
        advance: Callable[[int], None],
    ) -> None:
        """Train the first population of which nobody else is training a part."""
        for population in populations:
            runs = [run for run in population if run.fingerprint in missing]
            with ExitStack() as held:
                claims = (held.enter_context(self.claims.claim(r.fingerprint)) for r in runs)
                if not runs or not all(claims):
                    continue
                done = self._settled(self.ledger.records([run.fingerprint for run in runs]))
                self._train_and_write([r for r in runs if r.fingerprint not in done], advance)
                return

    def _populations(self, runs: Sequence[Run]) -> list[list[Run]]:
        """The runs in populations of one view, and of the size that pays or of one inseparable group."""
        by_view: dict[View, list[Run]] = {}
        for run in runs:
            by_view.setdefault(self.trainer.view(run), []).append(run)
        for view in by_view:
            self.trainer.recipe(view)  # what lies on the GPU lies there before any size is chosen
        populations: list[list[Run]] = []
        for alike in by_view.values():
            size = self.size(alike)
            begun: list[Run] = []
            for group in self._inseparable(alike):
                if not begun or len(begun) + len(group) > size:
                    begun = []
                    populations.append(begun)
                begun += group
        return populations

    def _inseparable(self, runs: Sequence[Run]) -> list[list[Run]]:
        """Runs that must be trained together: with rungs those of a study's round, else each alone."""
        if not self.trainer.rungs:
            return [[run] for run in runs]
        groups: dict[str, list[Run]] = {}
        for run in runs:
            key = round_of(run) if run.role == "search" else run.fingerprint
            groups.setdefault(key, []).append(run)
        return list(groups.values())

    def _train_and_write(self, runs: Sequence[Run], advance: Callable[[int], None]) -> None:
        """Train runs together; where that raises, each half by itself, down to what is inseparable.

        After a lack of memory no population of this view is larger than the half.
        """
        parts = [runs] if runs else []
        while parts:
            part = parts.pop(0)
            reason = self._try(part, advance)
            if reason is None:
                continue
            groups = self._inseparable(part)
            if len(groups) == 1:
                self._write([RunResult(run, failed_result(run, reason)) for run in part])
                continue
            half = (len(groups) + 1) // 2
            halves = [
                [run for group in own for run in group] for own in (groups[:half], groups[half:])
            ]
            parts[:0] = halves
            if is_out_of_memory(reason):
                self._sizes[self.trainer.view(part[0])] = len(halves[0])
            say(f"warning: {len(part)} runs together: {reason}; going on with {len(halves[0])}")
            gc.collect()
            if self.materials.arithmetic.device.type == "cuda":
                torch.cuda.empty_cache()

    def _try(self, runs: Sequence[Run], advance: Callable[[int], None]) -> str | None:
        """Train and write runs; returns the reason when they cannot be trained together.

        The exception is not handed on: it holds the population, and so its memory.
        """
        try:
            with recorded():
                keep = None if self.config.keep == "none" else self._keep
                trained = self.trainer.train(runs, advance, keep)
        except RunFailed as error:
            return str(error)
        self._write(trained)
        return None

    def _settled(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """The records that stand: a command tries once more what had too little memory before it."""
        return {
            key: record
            for key, record in records.items()
            if key in self._tried or not is_out_of_memory(record.reason)
        }

    def repeat(self, runs: Sequence[Run], advance: Callable[[int], None]) -> dict[str, Result]:
        """Train runs together whether or not they have records, and write nothing."""
        try:
            with recorded():
                trained = self.trainer.train(runs, advance)
        except RunFailed as error:
            return {run.fingerprint: failed_result(run, str(error)) for run in runs}
        return {one.run.fingerprint: one.result for one in trained}

    def _write(self, results: Sequence[RunResult]) -> None:
        """Write the records in one transaction: a population is there whole or not at all."""
        for run, record in ((each.run, each.result.record) for each in results):
            if record.status == "failed":
                say(f"warning: {run.method.name}, seed {run.seed}: failed: {record.reason}")
            self._tried.add(run.fingerprint)
        self.ledger.write_runs([each.result for each in results])
