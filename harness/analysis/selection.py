"""The selection of a trial by its scores on the selection split. Never imports torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from harness.config import Criterion
from harness.storage.record import LABEL_LOSS, Record, StudyRun

SelectionScore = tuple[float, ...]
"""Numbers that rank trials: the first decides, and the next breaks ties. Larger is better."""
DIGITS = 12
"""Means over search seeds that are equal to this number of decimals are ties."""


def selection_metrics(scores: Mapping[str, float]) -> dict[str, float]:
    """The metrics among the scores on the selection split."""
    return {name: score for name, score in scores.items() if name != LABEL_LOSS}


def selection_score(
    scores: Mapping[str, float], metric: str, criterion: Criterion
) -> SelectionScore:
    """The selection score of `scores` on the selection split: metrics by name, and the label loss."""
    loss = -scores[LABEL_LOSS]
    return (scores[metric], loss) if criterion == "metric" else (loss,)


def trial_score(
    records: Sequence[Record], metric: str, criterion: Criterion
) -> SelectionScore | None:
    """The mean selection score of a trial's runs, one a search seed; None unless all are complete."""
    if any(record.status != "complete" for record in records):
        return None
    return mean_score([selection_score(record.selection, metric, criterion) for record in records])


def mean_score(scores: Sequence[SelectionScore]) -> SelectionScore:
    """The mean of selection scores, number by number."""
    means = np.mean(np.array(scores, dtype=np.float64), axis=0)
    return tuple(round(float(mean), DIGITS) for mean in means)


def selection_ranks(scores: Sequence[SelectionScore | None]) -> list[int | None]:
    """The rank of each trial from 0, the worst; equal scores have one rank. None stays None."""
    ranks = {score: rank for rank, score in enumerate(sorted({s for s in scores if s is not None}))}
    return [None if score is None else ranks[score] for score in scores]


def best_trial(runs: Sequence[StudyRun], metric: str, criterion: Criterion) -> int | None:
    """The trial with the highest selection score; the lowest number wins a tie.

    None if every trial has a run that is not complete.
    """
    records: dict[int, list[Record]] = defaultdict(list)
    for run in runs:
        records[run.trial].append(run.record)
    numbers = sorted(records)
    scores = [trial_score(records[number], metric, criterion) for number in numbers]
    ranks = selection_ranks(scores)
    complete_trials = [
        (-rank, number) for rank, number in zip(ranks, numbers, strict=True) if rank is not None
    ]
    return min(complete_trials)[1] if complete_trials else None
