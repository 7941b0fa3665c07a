"""Counts of torch's operations: their calls, the bytes that they move, and the operations of products.

Nothing is timed, and no number has to be computed: tensors on the device "meta" have shapes alone.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
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


@dataclass(frozen=True)
class _KnownCall:
    """A call on tensors of the device "meta": its outputs, without numbers, and its work.

    Torch finds the shapes of a call's outputs in Python, which takes ten times as long as this.
    """

    outputs: tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]
    container: type | None
    """The type of several outputs; None for one."""
    work: tuple[str, float, float] | None
    """Name, moved bytes and operations; None for a call that counts for nothing."""

    def results(self) -> list[Tensor]:
        """The outputs, in memory of their own."""
        return [
            torch.empty_strided(size, stride, dtype=dtype, device="meta")
            for size, stride, dtype in self.outputs
        ]

    def packed(self, results: list[Tensor]) -> Any:
        """The outputs as the operation returns them."""
        return results[0] if self.container is None else self.container(results)


_KNOWN_CALLS: dict[Hashable, _KnownCall] = {}


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
        key = _call_key(function, arguments, options or {})
        if known := _KNOWN_CALLS.get(key):
            results = known.results()
            for tensor in results:
                self._hold(tensor)
            if known.work is not None:
                self.add(*known.work)
            return known.packed(results)
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
        work = None
        if (made or changed) and function.overloadpacket.__name__ not in EMPTY:
            work = _work(function, arguments, options or {}, result, [*inputs, *made, *changed])
            self.add(*work)
        if key is not None and len(made) == len(tensors_in([result])):
            _note_call(key, result, work)
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


def _work(
    function: Any, arguments: Any, options: Any, result: Any, tensors: list[Tensor]
) -> tuple[str, float, float]:
    """The name of an operation, the bytes of its `tensors`, and the operations of its products."""
    operations = 0.0
    if function.overloadpacket in flop_registry:
        counted = flop_registry[function.overloadpacket]
        operations = float(counted(*arguments, **options, out_val=result))
    return function.overloadpacket.__name__, sum(map(moved_bytes, tensors)), operations


def _call_key(function: Any, arguments: Any, options: Any) -> Hashable:
    """Equal for calls with the same work and outputs; None where these may depend on anything else.

    The operation changes no argument, returns no view, and has tensors of the device "meta" alone.
    """
    if _is_view(function) or _written(function):
        return None
    values = [*arguments, *options.values()]
    tensors = tensors_in(values)
    if not tensors or not all(type(t) in (Tensor, Parameter) and t.is_meta for t in tensors):
        return None
    return (function, *options, *map(_value_key, values))


def _value_key(value: Any) -> Hashable:
    """A tensor's form, or a value with its type: 1, 1.0 and True are equal and give other results."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_value_key, value))
    return type(value), value


def _note_call(key: Hashable, result: Any, work: tuple[str, float, float] | None) -> None:
    """Note what a call made, if all its outputs lie in memory of their own and fill this memory."""
    outputs = tensors_in([result])
    is_one = isinstance(result, Tensor)
    if not outputs or not (
        is_one or (type(result) in (list, tuple) and len(outputs) == len(result))
    ):
        return
    call = _KnownCall(
        tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in outputs),
        None if is_one else type(result),
        work,
    )
    if all(
        tensor.is_meta and tensor.untyped_storage().nbytes() == copy.untyped_storage().nbytes()
        for tensor, copy in zip(outputs, call.results(), strict=True)
    ):
        _KNOWN_CALLS[key] = call


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
