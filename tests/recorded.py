"""Graphs of steps on a CPU: the operations of a step are recorded, and done again in the same memory.

A CUDA graph does so too. Whatever Python computes is done once, when the step is recorded.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.training.step_graphs import StepGraphs


class Recording(TorchDispatchMode):
    """The operations in a context. They have been done once: the first replay does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        result = function(*arguments, **options)
        self.calls.append((function, arguments, options, result))
        return result

    def replay(self) -> None:
        self.replays += 1
        if self.replays == 1:
            return
        with torch.no_grad():
            for function, arguments, options, result in self.calls:
                inputs = {memory(tensor) for tensor in tensors((arguments, options))}
                new = tensors(function(*arguments, **options))
                for old, values in zip(tensors(result), new, strict=True):
                    if memory(old) not in inputs:  # else a view, or changed in place
                        old.detach().copy_(values)


class RecordedGraphs(StepGraphs):
    """Graphs of a population whose steps are recorded on a CPU."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))

    def has_room(self) -> bool:
        return True

    def capture(self, step: Callable[[], None]) -> Recording:
        recording = Recording()
        with recording:
            step()
        return recording


def tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
