"""Too little memory: which errors tell it, and what is done in portions."""

import numpy as np
import pytest
import torch

from harness.runtime.memory import Portions, lacks_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"), False),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"
            ),
            True,
        ),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a matmul primitive"), False),
    ],
)
def test_errors_that_tell_a_lack_of_memory(error: Exception, expected: bool) -> None:
    assert lacks_memory(error) == expected


def worked(portions: Portions, rows: int, fits: int) -> list[list[int]]:
    done = []

    def work(portion: np.ndarray) -> None:
        if len(portion) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.append(portion.tolist())

    portions.work(np.arange(rows), work)
    return done


def test_what_fits_is_one_portion() -> None:
    portions = Portions()
    assert worked(portions, 7, 7) == [[*range(7)]]
    assert portions.most is None


def test_what_does_not_fit_is_halved_and_later_rows_have_that_size() -> None:
    portions = Portions()
    assert worked(portions, 7, 2) == [[0], [1], [2], [3], [4], [5], [6]]
    assert worked(portions, 2, 2) == [[0], [1]]
    portions = Portions()
    assert worked(portions, 10, 3) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_single_row_that_does_not_fit_and_other_errors_are_raised() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        worked(Portions(), 7, 0)

    def fail(portion: np.ndarray) -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        Portions().work(np.arange(4), fail)
