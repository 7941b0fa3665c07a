"""The counts of draws, against a loop over the rows."""

from collections import Counter

import numpy as np
import pytest

from harness.stats import draws


@pytest.mark.parametrize("counted_at_once", [1, 15, 2**17])
def test_each_row_is_counted(counted_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "COUNTED_AT_ONCE", counted_at_once)
    positions = np.random.default_rng(0).integers(5, size=(11, 7), dtype=np.int32)
    counts = draws.count_draws(positions, 5)
    assert counts.tolist() == [
        [Counter(row)[item] for item in range(5)] for row in positions.tolist()
    ]


def test_no_rows_have_no_counts() -> None:
    assert draws.count_draws(np.empty((0, 7), dtype=np.int32), 5).shape == (0, 5)
