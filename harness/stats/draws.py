"""Draws with replacement: how often each resample holds each item."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.stats.arrays import Floats

BLOCK = 2**20
"""Counts in memory at once: as many as a processor's cache holds. No draw depends on the number."""
COUNTED_AT_ONCE = 2**17
"""Draws that are counted at once. `np.bincount` copies the draws, and takes a third of the time where
copies and counts stay in the core's own cache."""


def resampled_counts(
    examples: int, resamples: int, generator: np.random.Generator
) -> Iterator[tuple[slice, Floats]]:
    """How often each resample holds each example (resamples, examples), in blocks of rows."""
    rows = max(1, BLOCK // examples)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        # 32 bits give the same numbers as 64 bits, faster.
        draws = generator.integers(examples, size=(size, examples), dtype=np.int32)
        yield slice(start, start + size), count_draws(draws, examples)


def count_draws(draws: npt.NDArray[np.integer[Any]], items: int) -> Floats:
    """The counts (rows, items) of each item in each row of drawn positions (rows, draws)."""
    counts = np.empty((len(draws), items))
    size = max(1, COUNTED_AT_ONCE // max(items, draws.shape[1]))
    # Sums of 32 bits take half the time of 64 bits.
    first_cells = np.arange(0, size * items, items, dtype=draws.dtype)[:, None]
    for start in range(0, len(draws), size):
        part = draws[start : start + size]
        cells = part + first_cells[: len(part)]
        part_counts = np.bincount(cells.ravel(), minlength=len(part) * items)
        counts[start : start + size] = part_counts.reshape(len(part), items)
    return counts
