"""The inputs of a step: one copy, always to the same memory."""

from typing import Any

import numpy as np
import pytest
import torch

from harness.training.step_inputs import Staging

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def arrays(seed: int, rows: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [
        rng.integers(-(2**62), 2**62, (2, rows)),
        np.array(seed),
        np.empty((0, 2), np.int64),
        rng.normal(size=3).astype(np.float32),
        rng.normal(size=5),
    ]


@pytest.mark.gpu
def test_arrays_of_one_layout_have_one_place_and_the_last_values() -> None:
    staging = Staging(DEVICE)
    places = {}
    for seed, rows in enumerate([3, 4, 3, 3, 4]):
        given = arrays(seed, rows)
        tensors = staging.tensors(given)
        for tensor, array in zip(tensors, given, strict=True):
            assert (tensor.shape, tensor.device.type) == (array.shape, DEVICE.type)
            assert torch.equal(tensor.cpu(), torch.from_numpy(array))
            assert tensor.data_ptr() % 16 == 0
        found = [tensor.data_ptr() for tensor in tensors]
        assert places.setdefault(rows, found) == found
    assert places[3] != places[4]


@pytest.mark.gpu
def test_the_arrays_may_change_after_the_copy() -> None:
    (values,) = given = [np.arange(4)]
    (tensor,) = Staging(DEVICE).tensors(given)
    values += 1
    assert tensor.tolist() == [0, 1, 2, 3]
