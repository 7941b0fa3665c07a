"""Counts of torch's operations: their calls, the bytes that they move, and the operations of products.

Nothing is timed, and no number has to be computed: tensors on the device "meta" have shapes alone.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

EMPTY = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")
"""Operations that reserve memory and compute nothing."""


@dataclass
class Count:
    """Calls of one kind of operation, the bytes that they moved, and operations of their products."""

    calls: int = 0
    moved: float = 0.0
    operations: float = 0.0


@dataclass
class OperationCounter(TorchDispatchMode):
    """Counts the operations of torch that compute something, by name: views cost nothing.

    `peak` is the most bytes of tensors that operations made and that were held at the same time.
    """

    counts: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    held: int = 0
    peak: int = 0

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def add(self, name: str, moved: float, operations: float) -> None:
        """Count an operation that moved some bytes."""
        count = self.counts[name]
        count.calls += 1
        count.moved += moved
        count.operations += operations

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        """Run an operation of torch, and count it."""
        result = function(*arguments, **(options or {}))
        if _is_view(function):
            return result
        inputs = tensors_in([*arguments, *(options or {}).values()])
        old = {tensor.untyped_storage()._cdata for tensor in inputs}
        made = [t for t in tensors_in([result]) if t.untyped_storage()._cdata not in old]
        for tensor in made:
            self._hold(tensor)
        changed = [
            tensor
            for index in _written(function)
            for tensor in tensors_in(arguments[index : index + 1])
        ]
        if not (made or changed) or function.overloadpacket.__name__ in EMPTY:
            return result
        operations = 0.0
        if function.overloadpacket in flop_registry:
            counted = flop_registry[function.overloadpacket]
            operations = float(counted(*arguments, **(options or {}), out_val=result))
        moved = sum(moved_bytes(tensor) for tensor in [*inputs, *made, *changed])
        self.add(function.overloadpacket.__name__, moved, operations)
        return result

    def _hold(self, tensor: Tensor) -> None:
        """Note that a tensor's memory is held until its storage is freed."""
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.held -= size


@cache
def _is_view(function: Any) -> bool:
    """Whether an operation returns a view of its argument."""
    returns = function._schema.returns
    return any(value.alias_info is not None and not value.alias_info.is_write for value in returns)


@cache
def _written(function: Any) -> tuple[int, ...]:
    """The places of the arguments that an operation changes."""
    return tuple(
        index
        for index, argument in enumerate(function._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def tensors_in(values: Any) -> list[Tensor]:
    """The tensors among values and in lists of them."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(value)
    return found


def moved_bytes(tensor: Tensor) -> float:
    """Bytes of a tensor's numbers, each once: an expanded dimension has no numbers of its own."""
    numbers = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        numbers *= size if stride else 1
    return float(numbers * tensor.element_size())
