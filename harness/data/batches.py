"""The schedule of padded lengths, the same for every run of a task and every seed.

Examples are sorted by length and cut into batches. Neighbouring batches with the same padded length
form a bucket. A seed permutes the examples inside each bucket. The order of an epoch's batches depends
on the epoch alone. So the runs of a population have batches of equal shape at every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.runtime.randomness import derive

Indices = npt.NDArray[np.int64]
WIDTH_STEP = 8
"""Padded lengths are multiples of this number of tokens."""
MOST_WIDTHS = 8
"""The largest number of padded lengths of one split, so that compiled kernels see few shapes."""


@dataclass(frozen=True)
class Batch:
    """Numbers of examples in their split (B,), and the number of tokens they are padded to."""

    rows: Indices
    width: int


@dataclass(frozen=True)
class _Bucket:
    """Numbers of examples (examples,), their padded length, and the sizes of their batches."""

    rows: Indices
    width: int
    batches: tuple[int, ...]


class LengthSchedule:
    """Batches for every epoch of every run, over examples with `lengths` (examples,) in tokens."""

    def __init__(self, lengths: Indices, batch_size: int) -> None:
        self.buckets = _buckets(lengths, batch_size)
        self.steps_per_epoch = sum(len(bucket.batches) for bucket in self.buckets)

    def epoch(self, epoch: int, seed: int) -> list[Batch]:
        """The batches of one epoch (0-based). Their widths and sizes are the same for all seeds."""
        batches = [
            Batch(rows, bucket.width)
            for number, bucket in enumerate(self.buckets)
            for rows in _deal(bucket, derive("order", seed, epoch, number))
        ]
        order = np.random.default_rng(derive("schedule", epoch)).permutation(len(batches))
        return [batches[position] for position in order]

    def in_order(self, tokens: int = 0) -> Iterator[Batch]:
        """Batches of every example once, shortest first, for evaluation.

        As many neighbours of equal width are joined as have at most `tokens` tokens together.
        """
        for bucket in self.buckets:
            joined = max(1, tokens // (bucket.width * max(bucket.batches)))
            for rows in np.split(bucket.rows, np.cumsum(bucket.batches)[joined - 1 : -1 : joined]):
                yield Batch(rows, bucket.width)


def _deal(bucket: _Bucket, key: int) -> list[Indices]:
    """Shuffle a bucket's examples by a key and cut them into its batches."""
    rows = np.random.default_rng(key).permutation(bucket.rows)
    return np.split(rows, np.cumsum(bucket.batches)[:-1])


def _buckets(lengths: Indices, batch_size: int) -> tuple[_Bucket, ...]:
    order = np.argsort(lengths, kind="stable")
    # The smaller batch comes first, among the shortest examples, where it wastes least.
    remainder = len(order) % batch_size
    cuts = (
        np.arange(remainder, len(order), batch_size)
        if remainder
        else np.arange(batch_size, len(order), batch_size)
    )
    parts = np.split(order, cuts)
    widths = _few_widths([int(lengths[part[-1]]) for part in parts])
    buckets = []
    for width in sorted(set(widths)):
        batches = [
            part for part, part_width in zip(parts, widths, strict=True) if part_width == width
        ]
        sizes = tuple(len(batch) for batch in batches)
        buckets.append(_Bucket(np.concatenate(batches), width, sizes))
    return tuple(buckets)


def _few_widths(longest: list[int]) -> list[int]:
    """The padded length of each batch, from the batches' longest lengths in rising order.

    The function chooses at most `MOST_WIDTHS` lengths with the least padding in all, by dynamic
    programming. The W candidates are the longest lengths, rounded up to multiples of `WIDTH_STEP`.
    Suppose that candidate `end` is in use, and that `start` is the next smaller candidate in use. Then
    every batch between them has the padded length `end`. So the cheapest cover of the batches up to
    `end` with k lengths is `end` and the cheapest cover of the batches up to some `start` with k − 1
    lengths. The search takes k·W² steps. Lengths at even steps or at quantiles would take less code, and
    never pad less.
    """
    ceilings = np.array([-(-length // WIDTH_STEP) * WIDTH_STEP for length in longest])
    widths, counts = np.unique(ceilings, return_counts=True)
    batches_before = np.concatenate([[0], np.cumsum(counts)])
    # cost[end]: the least sum of padded lengths of all batches up to candidate `end` (from 1), if `end`
    # is in use, with as many lengths as rounds so far; solutions[end]: the lengths that reach this sum.
    cost = np.concatenate([[0.0], np.full(len(widths), np.inf)])
    solutions: list[list[int]] = [[] for _ in cost]
    for _ in range(MOST_WIDTHS):
        previous_cost, previous_solutions = cost.copy(), list(solutions)
        for end, width in enumerate(widths, start=1):
            totals = previous_cost[:end] + (batches_before[end] - batches_before[:end]) * width
            best = int(totals.argmin())
            if totals[best] < cost[end]:
                cost[end] = totals[best]
                solutions[end] = [*previous_solutions[best], int(width)]
    # The largest candidate is always in use, as the longest batch needs it.
    return [next(width for width in solutions[-1] if width >= length) for length in ceilings]
