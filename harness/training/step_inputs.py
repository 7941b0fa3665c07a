"""What differs from step to step, as tensors on a device: a step is a function of these alone.

Numbers of Python that change would be constants of a CUDA graph, so they go to the device too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

_ALIGNMENT = 16
"""Bytes: kernels are compiled for tensors that begin at a multiple."""


@dataclass(frozen=True)
class StepInputs:
    """The inputs of one step of a population, on the population's device."""

    rows: Tensor
    """(members, B) int64: numbers of examples of the training split."""
    epoch: Tensor
    """() int64: the epoch's number, 0-based."""
    progress: Tensor
    """() fp32: the share of the training's steps that are done before this step, in [0, 1)."""
    factors: Tensor
    """(3,) fp32: the factors of the losses' weights, in the order of `loss_stages.KINDS`."""
    keys: Tensor
    """(sites, members) int64: the step's table of a `DropoutKey`."""
    numbers: Tensor
    """(numbers,): what the optimiser's `begin` gave."""


class Staging:
    """Copies arrays to a device, where those of one layout always lie in the same memory.

    All arrays go in one copy, from memory that a GPU reads by itself.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: dict[object, tuple[Tensor, list[Tensor]]] = {}

    def tensors(self, arrays: Sequence[npt.NDArray[Any]]) -> list[Tensor]:
        """The arrays as tensors, which hold their values until the next call with the same layout."""
        layout = tuple((array.dtype, array.shape) for array in arrays)
        starts = [0, *accumulate(-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in arrays)]
        # The allocator gives pinned memory to others only when its copy is done.
        host = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        for target, array in zip(_views(host, starts, arrays), arrays, strict=True):
            target.copy_(torch.from_numpy(array))
        if layout not in self._held:
            buffer = torch.empty_like(host, device=self.device)
            self._held[layout] = buffer, _views(buffer, starts, arrays)
        buffer, tensors = self._held[layout]
        buffer.copy_(host, non_blocking=True)
        return tensors


def _views(
    buffer: Tensor, starts: Sequence[int], arrays: Sequence[npt.NDArray[Any]]
) -> list[Tensor]:
    """Parts of a buffer of bytes, as tensors with the arrays' dtypes and shapes."""
    return [
        buffer[start : start + array.nbytes].view(torch.from_numpy(array).dtype).view(array.shape)
        for start, array in zip(starts, arrays, strict=False)
    ]
