"""The schedule of lengths: every example once, the same shapes for every seed."""

from itertools import pairwise

import numpy as np
import pytest

from harness.data.batches import MOST_WIDTHS, Batch, Indices, LengthSchedule

BATCH = 8


def drawn(examples: int, seed: int = 0) -> Indices:
    """Skewed lengths from 3 to 120, as of sentences."""
    rng = np.random.default_rng([examples, seed])
    return np.clip(rng.gamma(2.0, 12.0, examples).round(), 3, 120).astype(np.int64)


CASES = {
    "many": drawn(203),
    "a multiple of the batch size": drawn(64),
    "one more than a multiple": drawn(65),
    "fewer than a batch": drawn(5),
    "exactly a batch": drawn(BATCH),
    "one": drawn(1),
    "all equal": np.full(50, 17, dtype=np.int64),
    "two lengths": np.repeat([8, 64], 30).astype(np.int64),
    "each its own": np.arange(1, 513, dtype=np.int64),
}
lengths_of = pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)


def rows(batches: list[Batch]) -> list[int]:
    return [int(row) for batch in batches for row in batch.rows]


def shapes(batches: list[Batch]) -> list[tuple[int, int]]:
    return [(len(batch.rows), batch.width) for batch in batches]


@lengths_of
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_has_every_example_once(lengths: Indices, seed: int, epoch: int) -> None:
    batches = LengthSchedule(lengths, BATCH).epoch(epoch, seed)
    assert sorted(rows(batches)) == list(range(len(lengths)))


@lengths_of
def test_widths_are_few_multiples_of_eight_and_hold_their_examples(lengths: Indices) -> None:
    batches = LengthSchedule(lengths, BATCH).epoch(0, 1)
    widths = {batch.width for batch in batches}
    assert len(widths) <= MOST_WIDTHS == 8
    assert all(width % 8 == 0 for width in widths)
    assert all(lengths[batch.rows].max() <= batch.width for batch in batches)
    assert max(widths) - lengths.max() < 8


@lengths_of
def test_all_batches_are_full_but_one(lengths: Indices) -> None:
    schedule = LengthSchedule(lengths, BATCH)
    sizes = sorted(len(batch.rows) for batch in schedule.epoch(0, 1))
    short = [len(lengths) % BATCH] if len(lengths) % BATCH else []
    assert sizes == short + [BATCH] * (len(lengths) // BATCH)
    assert schedule.steps_per_epoch == len(sizes)


@lengths_of
@pytest.mark.parametrize("epoch", range(3))
def test_shapes_come_in_the_same_order_for_all_seeds(lengths: Indices, epoch: int) -> None:
    schedule = LengthSchedule(lengths, BATCH)
    expected = shapes(schedule.epoch(epoch, 0))
    for seed in (1, 2, 12345):
        assert shapes(schedule.epoch(epoch, seed)) == expected
        assert shapes(LengthSchedule(lengths, BATCH).epoch(epoch, seed)) == expected


@pytest.mark.parametrize("seed", range(3))
def test_order_differs_between_seeds_and_epochs_and_repeats_for_the_same(seed: int) -> None:
    schedule = LengthSchedule(CASES["many"], BATCH)
    first = rows(schedule.epoch(0, seed))
    assert first == rows(schedule.epoch(0, seed))
    assert first != rows(schedule.epoch(1, seed))
    assert first != rows(schedule.epoch(0, seed + 1))


def test_neighbours_change_from_epoch_to_epoch() -> None:
    """Examples are dealt anew inside a bucket, not only batches put into another order."""
    schedule = LengthSchedule(CASES["all equal"], BATCH)
    epochs = [
        {frozenset(b.rows.tolist()) for b in schedule.epoch(epoch, 0) if len(b.rows) == BATCH}
        for epoch in (0, 1)
    ]
    assert not epochs[0] & epochs[1]


def test_order_of_widths_differs_between_epochs_and_is_not_sorted() -> None:
    schedule = LengthSchedule(CASES["many"], BATCH)
    widths = [[batch.width for batch in schedule.epoch(epoch, 0)] for epoch in (0, 1)]
    assert widths[0] != widths[1]
    assert widths[0] != sorted(widths[0])


@lengths_of
def test_in_order_has_every_example_once_shortest_first(lengths: Indices) -> None:
    schedule = LengthSchedule(lengths, BATCH)
    batches = list(schedule.in_order())
    assert sorted(rows(batches)) == list(range(len(lengths)))
    assert [int(lengths[row]) for row in rows(batches)] == sorted(lengths.tolist())
    assert all(lengths[batch.rows].max() <= batch.width for batch in batches)
    assert rows(batches) == rows(list(schedule.in_order()))


@lengths_of
@pytest.mark.parametrize("tokens", [1, 200, 500, 10**6])
def test_joined_batches_hold_the_same_examples_with_the_same_padding(
    lengths: Indices, tokens: int
) -> None:
    schedule = LengthSchedule(lengths, BATCH)
    single, joined = list(schedule.in_order()), list(schedule.in_order(tokens))
    assert rows(joined) == rows(single)
    widths = [
        [batch.width for batch in batches for _ in batch.rows] for batches in (single, joined)
    ]
    assert widths[0] == widths[1]
    for batch in joined:
        assert len(batch.rows) * batch.width <= max(tokens, BATCH * batch.width)
    for first, second in pairwise(joined):  # no two could be joined
        both = (len(first.rows) // BATCH + len(second.rows) // BATCH) * BATCH * first.width
        assert first.width != second.width or both > tokens or len(first.rows) % BATCH
    if tokens == 10**6:
        assert len(joined) == len(schedule.buckets)


def test_the_short_batch_is_among_the_shortest_examples() -> None:
    lengths = np.arange(8, 8 + 21, dtype=np.int64)
    batches = LengthSchedule(lengths, BATCH).in_order()
    assert [len(batch.rows) for batch in batches] == [5, 8, 8]


@pytest.mark.parametrize("size", [1, 7, 32, 1000])
def test_any_batch_size_covers_all(size: int) -> None:
    lengths = drawn(100)
    batches = LengthSchedule(lengths, size).epoch(0, 0)
    assert sorted(rows(batches)) == list(range(100))
    assert max(len(batch.rows) for batch in batches) == min(size, 100)
