"""The schedule of padded lengths: the same for every run of a task, whatever its seed.

Examples are sorted by length and cut into batches; neighbouring batches with the same padded length
form a bucket. A seed permutes examples inside the buckets, and a permutation that no seed changes
orders the batches of an epoch. So the runs of a population see equal shapes at every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.runtime.randomness import derive

Indices = npt.NDArray[np.int64]
WIDTH_STEP = 8
MOST_WIDTHS = 8
"""Padded lengths are multiples of 8, and few, so that compiled kernels see few shapes."""


@dataclass(frozen=True)
class Batch:
    """Row numbers (examples,) and the length they are padded to."""

    rows: Indices
    width: int


@dataclass(frozen=True)
class _Bucket:
    rows: Indices
    width: int
    batches: tuple[int, ...]


class LengthSchedule:
    """Batches for every epoch of every run over examples of the given lengths (examples,)."""

    def __init__(self, lengths: Indices, batch_size: int) -> None:
        self.buckets = _buckets(lengths, batch_size)
        self.steps_per_epoch = sum(len(bucket.batches) for bucket in self.buckets)

    def epoch(self, epoch: int, seed: int) -> list[Batch]:
        """The batches of one epoch: widths and sizes in an order common to all seeds."""
        batches = [
            Batch(rows, bucket.width)
            for number, bucket in enumerate(self.buckets)
            for rows in _deal(bucket, derive("order", seed, epoch, number))
        ]
        order = np.random.default_rng(derive("schedule", epoch)).permutation(len(batches))
        return [batches[position] for position in order]

    def in_order(self) -> Iterator[Batch]:
        """Every example once, shortest first, unshuffled: for evaluation."""
        for bucket in self.buckets:
            for rows in np.split(bucket.rows, np.cumsum(bucket.batches)[:-1]):
                yield Batch(rows, bucket.width)


def _deal(bucket: _Bucket, key: int) -> list[Indices]:
    shuffled = np.random.default_rng(key).permutation(bucket.rows)
    return np.split(shuffled, np.cumsum(bucket.batches)[:-1])


def _buckets(lengths: Indices, batch_size: int) -> tuple[_Bucket, ...]:
    order = np.argsort(lengths, kind="stable")
    # The one short batch comes first, among the shortest examples, where it wastes least.
    short = len(order) % batch_size
    cuts = (
        np.arange(short, len(order), batch_size)
        if short
        else np.arange(batch_size, len(order), batch_size)
    )
    parts = np.split(order, cuts)
    widths = _few_widths([int(lengths[part[-1]]) for part in parts])
    buckets = []
    for width in sorted(set(widths)):
        chosen = [part for part, own in zip(parts, widths, strict=True) if own == width]
        buckets.append(_Bucket(np.concatenate(chosen), width, tuple(len(part) for part in chosen)))
    return tuple(buckets)


def _few_widths(longest: list[int]) -> list[int]:
    """Round each batch's longest example up to one of at most `MOST_WIDTHS` padded lengths.

    Those are chosen that pad least in all; `longest` rises.
    """
    rounded = np.array([-(-length // WIDTH_STEP) * WIDTH_STEP for length in longest])
    widths, counts = np.unique(rounded, return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])
    # cost[last]: the least padded length of all batches up to width `last`, which is allowed.
    cost = np.concatenate([[0.0], np.full(len(widths), np.inf)])
    chosen: list[list[int]] = [[] for _ in cost]
    for _ in range(MOST_WIDTHS):
        fewer, theirs = cost.copy(), list(chosen)
        for last, width in enumerate(widths, start=1):
            totals = fewer[:last] + (before[last] - before[:last]) * width
            best = int(totals.argmin())
            if totals[best] < cost[last]:
                cost[last], chosen[last] = totals[best], [*theirs[best], int(width)]
    return [next(width for width in chosen[-1] if width >= own) for own in rounded]
