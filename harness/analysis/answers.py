"""What report runs answered: their stored predictions, as classes or scores. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.analysis.results import MethodResult
from harness.metric_table import metric_of
from harness.stats.arrays import Floats
from harness.storage.ledger import Ledger
from harness.storage.record import Predictions, Record

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """A method's answers on a task, by the seed of its complete report runs that have some stored.

    `by_seed` (examples,) are classes, or a regression's scores, on the split that scores are of; `ids`
    (examples,) name the examples. `labels` (examples,) are the first run's.
    """

    metric: str
    labels: Floats
    ids: Mapping[int, Ids]
    by_seed: Mapping[int, Floats]

    @property
    def scored(self) -> bool:
        """Whether they are a regression's scores, which are neither right nor wrong."""
        return metric_of(self.metric).of_scores

    def has(self, seeds: Iterable[int]) -> bool:
        """Whether all of these seeds have some stored."""
        return set(seeds) <= set(self.by_seed)

    def of(self, seeds: Sequence[int]) -> Floats:
        """(seeds, examples) in the order of `seeds`. Raises `KeyError` for one that has none stored."""
        return np.stack([self.by_seed[seed] for seed in seeds])


class StoredAnswers:
    """The answers that a ledger holds. A method's are read once, and kept."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._read: dict[tuple[str, ...], Answers | None] = {}
        self._ids: Ids = np.empty(0, dtype=np.int64)

    def of(self, result: MethodResult) -> Answers | None:
        """A method's answers on a task; None where no complete report run has any stored."""
        records = {r.seed: r.record for r in result.report if r.record.status == "complete"}
        key = (result.metric, *(record.fingerprint for record in records.values()))
        if key not in self._read:
            self._read[key] = self._answers(result.metric, self._stored(records))
        return self._read[key]

    def _stored(self, records: Mapping[int, Record]) -> dict[int, Predictions]:
        """By seed, on the first split of their evaluation; all runs of a study have the same one."""
        if not records:
            return {}
        split = next(iter(records.values())).inputs.split.name
        found = self._ledger.predictions_of((r.fingerprint for r in records.values()), split)
        return {
            seed: found[record.fingerprint]
            for seed, record in records.items()
            if record.fingerprint in found
        }

    def _answers(self, metric: str, stored: Mapping[int, Predictions]) -> Answers | None:
        if not stored:
            return None
        scored = metric_of(metric).of_scores
        return Answers(
            metric=metric,
            labels=next(iter(stored.values())).labels,
            ids={seed: self._shared(predicted.ids) for seed, predicted in stored.items()},
            by_seed={
                seed: (p.logits[:, 0] if scored else p.logits.argmax(axis=1)).astype(np.float64)
                for seed, p in stored.items()
            },
        )

    def _shared(self, ids: Ids) -> Ids:
        """Equal ids, as all runs on a task have, are held in memory once."""
        if not np.array_equal(ids, self._ids):
            self._ids = ids
        return self._ids
