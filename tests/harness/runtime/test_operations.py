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


def test_a_call_is_known_from_the_second_time_and_counts_the_same() -> None:
    """The call of the second time makes tensors of the same form, in memory of their own."""
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.GELU()).to("meta")
    batch = torch.empty(3, 5, 6, device="meta")
    made: list[list[tuple[object, ...]]] = []

    def step() -> None:
        outputs = model(batch)
        torch.std_mean(outputs, -1)[0].sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        model.zero_grad()
        made.append(
            [(t.shape, t.stride(), t.dtype) for t in [outputs, *gradients] if t is not None]
        )

    first, second = counted(step), counted(step)
    step()  # torch alone
    assert made[0] == made[1] == made[2]
    assert first.counts == second.counts
    assert (first.peak, first.held) == (second.peak, second.held)


def test_equal_numbers_of_other_types_make_other_calls() -> None:
    values = torch.empty(4, dtype=torch.int32, device="meta")
    made: list[torch.dtype] = []
    counted(lambda: made.extend((values * factor).dtype for factor in (1, 1.0, True)))
    assert made == [torch.int32, torch.float32, torch.int32]


def test_calls_on_tensors_of_other_forms_are_other_calls() -> None:
    sizes = [(2, 3), (3, 2), (3,)]
    made: list[torch.Size] = []
    counted(lambda: made.extend((torch.empty(*s, device="meta") + 1).shape for s in sizes))
    assert made == [torch.Size(size) for size in sizes]
    rows = torch.empty(4, 6, device="meta")
    strides: list[tuple[int, ...]] = []
    counted(lambda: strides.extend((t + 1).stride() for t in (rows, rows.T.contiguous().T)))
    assert strides == [(6, 1), (1, 4)]


def test_numbers_are_computed_on_a_device_that_has_them() -> None:
    values = torch.tensor([1.0, 2.0])
    sums: list[list[float]] = []
    counted(lambda: sums.extend((values + values).tolist() for _ in range(2)))
    assert sums == [[2.0, 4.0], [2.0, 4.0]]


def test_results_that_share_memory_are_no_known_calls() -> None:
    """`_unsafe_view` shares its argument's memory, though its schema does not say so."""
    values = torch.empty(4, 6, device="meta")
    shared: list[int] = []
    counted(
        lambda: shared.extend(
            torch.ops.aten._unsafe_view(values, [24]).untyped_storage()._cdata for _ in range(2)
        )
    )
    assert shared == 2 * [values.untyped_storage()._cdata]
