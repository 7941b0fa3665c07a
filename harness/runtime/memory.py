"""Too little memory: which errors tell it, and work that is done again in smaller portions."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from harness.errors import first_line

SIGNS = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "Triton Error [CUDA]: out of memory",  # a kernel loads late, when memory is full
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # cuBLAS makes its workspace late, when memory is full
)
"""Parts of messages that tell a lack of memory, where the exception's class does not."""
ONEDNN_SIGNS = {
    "could not create a primitive",  # for its code; what has no implementation has no descriptor
    "could not create a memory object",
    "could not create a memory storage",
}
"""Whole messages of oneDNN, torch's library of products on CPUs, that tell a lack of memory."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception tells that the machine or the device has too little memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    line = first_line(error)
    is_told = line in ONEDNN_SIGNS or any(sign in line for sign in SIGNS)
    return isinstance(error, RuntimeError) and is_told


def free_memory() -> None:
    """Free what no object refers to any more, on the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Portions:
    """Work on rows in portions. After a portion that does not fit in memory all have half its size."""

    def __init__(self) -> None:
        self.most: int | None = None
        """The most rows that fit, once some have not."""

    def work(
        self, rows: npt.NDArray[np.int64], function: Callable[[npt.NDArray[np.int64]], None]
    ) -> None:
        """Call the function on all rows, in order and in one portion if that fits.

        Raises:
            Exception: the function's own; also a lack of memory for a single row.
        """
        while len(rows):
            portion = rows[: self.most]
            if self._fits(portion, function):
                rows = rows[len(portion) :]
            else:  # outside of the exception, which holds the tensors of the failed attempt
                free_memory()
                self.most = len(portion) // 2

    def _fits(
        self, portion: npt.NDArray[np.int64], function: Callable[[npt.NDArray[np.int64]], None]
    ) -> bool:
        try:
            function(portion)
        except Exception as error:
            if len(portion) == 1 or not lacks_memory(error):
                raise
            return False
        return True
