"""The answers of report runs: their stored predictions, as classes or scores. Never imports torch."""

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
    """A method's answers on a task, by the seed of its complete report runs with stored predictions.

    `by_seed` (examples,) are classes, or a regression's scores, on the split that runs are scored on;
    `ids` (examples,) name the examples. `labels` (examples,) are the first run's.
    """

    metric: str
    labels: Floats
    ids: Mapping[int, Ids]
    by_seed: Mapping[int, Floats]

    @property
    def is_regression(self) -> bool:
        """Whether the answers are a regression's scores, which are neither right nor wrong."""
        return metric_of(self.metric).of_scores

    def has(self, seeds: Iterable[int]) -> bool:
        """Whether there are answers for all of these seeds."""
        return set(seeds) <= set(self.by_seed)

    def stack(self, seeds: Sequence[int]) -> Floats:
        """Answers (seeds, examples) in the order of `seeds`. `KeyError` for a seed without answers."""
        return np.stack([self.by_seed[seed] for seed in seeds])


class StoredAnswers:
    """The answers in a ledger. A method's answers are read once and then held in memory."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._cache: dict[tuple[str, ...], Answers | None] = {}
        self._ids: Ids = np.empty(0, dtype=np.int64)

    def answers_of(self, result: MethodResult) -> Answers | None:
        """A method's answers on a task; None if no complete report run has stored predictions."""
        records = {r.seed: r.record for r in result.report if r.record.status == "complete"}
        key = (result.metric, *(record.fingerprint for record in records.values()))
        if key not in self._cache:
            self._cache[key] = self._answers(result.metric, self._predictions(records))
        return self._cache[key]

    def _predictions(self, records: Mapping[int, Record]) -> dict[int, Predictions]:
        """By seed, on the first evaluation split, which is the same for all runs of a study."""
        if not records:
            return {}
        split = next(iter(records.values())).inputs.split.name
        predictions = self._ledger.predictions_of(
            (record.fingerprint for record in records.values()), split
        )
        return {
            seed: predictions[record.fingerprint]
            for seed, record in records.items()
            if record.fingerprint in predictions
        }

    def _answers(self, metric: str, predictions: Mapping[int, Predictions]) -> Answers | None:
        if not predictions:
            return None
        is_regression = metric_of(metric).of_scores
        return Answers(
            metric=metric,
            labels=next(iter(predictions.values())).labels,
            ids={seed: self._shared_ids(run.ids) for seed, run in predictions.items()},
            by_seed={
                seed: (run.logits[:, 0] if is_regression else run.logits.argmax(axis=1)).astype(
                    np.float64
                )
                for seed, run in predictions.items()
            },
        )

    def _shared_ids(self, ids: Ids) -> Ids:
        """Equal ids, as all runs on a task have, are held in memory once."""
        if not np.array_equal(ids, self._ids):
            self._ids = ids
        return self._ids
