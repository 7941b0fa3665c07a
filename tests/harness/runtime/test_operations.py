"""Counts of operations: the same without numbers as with them, and the memory that tensors hold."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.runtime.operations import OperationCounter


def counted(function: Callable[[], object]) -> OperationCounter:
    counter = OperationCounter()
    with counter:
        function()
    return counter


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_training_step_is_counted_without_numbers(device: str) -> None:
    """Two products forward, three backward: the input has no gradient."""
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Linear(16, 4, bias=False)).to(device)
    batch = torch.empty(5, 8, device=device)
    counter = counted(lambda: model(batch).sum().backward())
    products = counter.counts["mm"]
    first, second = 2 * 5 * 8 * 16, 2 * 5 * 16 * 4
    assert (products.calls, products.operations) == (5, 2 * first + 3 * second)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_peak_is_what_is_held_at_the_same_time(device: str) -> None:
    values = torch.empty(10, device=device)
    kept: list[Tensor] = []

    def step() -> None:
        kept.append(values + 1)
        for _ in range(3):
            values.repeat(5)  # freed at once

    counter = counted(step)
    assert counter.peak == 4 * (10 + 50)
    assert counter.held == 4 * 10
    kept.clear()
    assert counter.held == 0
