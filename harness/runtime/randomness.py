"""Counter-based randomness: every draw is a function of a key alone, never of earlier draws.

The keys are (seed, step, site) for a run's dropout masks, and (seed, epoch, bucket) for the order of
its examples. So a run gives the same result alone, in any population and after a resume.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness.kernels.support import has_kernels

if TYPE_CHECKING:
    from harness.kernels.dropout import Dropout

LEVELS = 256
"""Dropout draws are bytes, so a rate is rounded to a multiple of 1/256 (0.1 becomes 26/256)."""


def derive(*parts: int | str) -> int:
    """A 63-bit key from integers and names."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator with the key as its seed."""
    new_generator = torch.Generator(device)
    new_generator.manual_seed(derive(*parts))
    return new_generator


@contextmanager
def global_seed(*parts: int | str) -> Iterator[None]:
    """Seed torch's global generator for third-party initialisers. Its old state returns afterwards."""
    seed = derive(*parts)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():  # torch.manual_seed formats the stack where there is none
            torch.cuda.manual_seed_all(seed)
        yield


class DropoutKey:
    """The key that all dropout sites of a network read: a number of each member at each site and step.

    `table` (sites, members) holds the numbers of one step, on the device, for the sites that have been
    read so far. No step's number is a part of an operation, so a CUDA graph of one step serves others.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.members = np.array([derive("dropout", seed) for seed in seeds], dtype=np.int64)
        self.table = torch.empty(0, len(seeds), dtype=torch.int64, device=device)
        self._step = 0
        self.part: tuple[int, int, int] | None = None
        """Of which examples of a batch masks are made: the first, the end, and the batch's number."""

    @property
    def step(self) -> int:
        """The step of the table."""
        return self._step

    @step.setter
    def step(self, step: int) -> None:
        self.load(step, self._on_device(self.table_at(step)))

    def table_at(self, step: int) -> npt.NDArray[np.int64]:
        """The table of another step (sites, members), on the CPU."""
        return self._numbers(step, len(self.table))

    def load(self, step: int, table: Tensor) -> None:
        """Go on with a step whose table lies on the device already."""
        self._step, self.table = step, table

    def mask(
        self,
        site: int,
        shape: Sequence[int],
        levels: int,
        dtype: torch.dtype,
        full_length: int | None = None,
    ) -> Tensor:
        """A mask of `shape` (members, ...): 0 with probability levels/256, else 256/(256 − levels).

        A member's part is a function of (the member's seed, step, site) alone. With `full_length` the
        result (..., 1, width) is the first row of a mask (..., full_length, width).
        """
        members, *sizes = shape
        if has_kernels(self.device):
            from harness.kernels.dropout import dropout_mask

            return dropout_mask(shape, self.dropout(site, shape, levels, full_length), dtype)
        if self.part is not None:
            (first, end, examples), self.part = self.part, None
            whole = self.mask(site, (members, examples, *sizes[1:]), levels, dtype, full_length)
            self.part = first, end, examples
            return whole[:, first:end].clone()
        if full_length is not None and (full_length * sizes[-1]) % 8:
            full_shape = (members, *sizes[:-2], full_length, sizes[-1])
            return self.mask(site, full_shape, levels, dtype)[..., :1, :]
        columns = math.prod(sizes) if full_length is None else sizes[-1]
        rows = math.prod(sizes) // columns
        stride = 0 if full_length is None else full_length * sizes[-1] // 8
        counters = _counters(stride, rows, columns, self.device)
        draws = _hash(counters + self.numbers(site)[:, None, None])
        mask = torch.empty(members, rows, columns, dtype=dtype, device=draws.device)
        # Many times faster on CPUs than a comparison to booleans and a conversion.
        torch.ge(draws.view(torch.uint8)[..., :columns], levels, out=mask)
        return mask.mul_(LEVELS / (LEVELS - levels)).view(*shape)

    def numbers(self, site: int) -> Tensor:
        """The members' numbers (members,) at a site in this step."""
        if site >= len(self.table):
            self.table = self._on_device(self._numbers(self.step, site + 1))
        return self.table[site]

    def _numbers(self, step: int, sites: int) -> npt.NDArray[np.int64]:
        keys = np.array([derive(step, site) for site in range(sites)], dtype=np.int64)
        return keys[:, None] + self.members

    def _on_device(self, numbers: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(numbers).to(self.device, non_blocking=True)

    def dropout(
        self, site: int, shape: Sequence[int], levels: int, full_length: int | None = None
    ) -> Dropout:
        """The mask that `mask` would return, for a kernel that makes its factors itself."""
        from harness.kernels.dropout import Dropout

        _, *sizes = shape
        stride = sizes[-1] * (1 if full_length is None else full_length)
        first_example = 0 if self.part is None else self.part[0]
        first_row = first_example * math.prod(sizes[1:-1])
        return Dropout(self.numbers(site), levels, stride, first_row)


_WEYL = -0x61C8864680B583EB
_FIRST_FACTOR, _SECOND_FACTOR = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
_counter_tables: dict[torch.device, Tensor] = {}
"""The longest row of counters that a mask has needed so far, by device."""


def _counters(stride: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Multiples of the golden ratio's 64-bit fraction (rows, columns / 8), one for eight bytes.

    Row r begins with the multiple r · `stride`.
    """
    count, last_start = -(-columns // 8), (rows - 1) * stride
    if device not in _counter_tables or len(_counter_tables[device]) < last_start + count:
        _counter_tables[device] = (
            torch.arange(max(last_start + count, 1 << 16), device=device) * _WEYL
        )
    return _counter_tables[device].as_strided((rows, count), (stride, 1))


def _hash(words: Tensor) -> Tensor:
    """Scramble 64-bit integers in place, after SplitMix64 (Steele, Lea, Flood 2014).

    torch shifts signed integers arithmetically. So the last step adds the shifted words instead of an
    exclusive or: the addition leaves no bit constant.
    """
    shift = words >> 30
    words ^= shift
    words *= _FIRST_FACTOR
    words ^= torch.bitwise_right_shift(words, 27, out=shift)
    words *= _SECOND_FACTOR
    words += torch.bitwise_right_shift(words, 31, out=shift)
    return words


def dropped_levels(p: float) -> int:
    """A dropout rate in 256ths. Rates above 0 have 1 to 255 levels, so they never drop all values."""
    return min(max(round(p * LEVELS), 1), LEVELS - 1) if p > 0 else 0


class CounterDropout(nn.Module):
    """Dropout whose mask is a function of (seed, step, site). In eval mode it is the identity.

    A layer that a model applies several times in a pass has a site for each time: with `stride`, site,
    site + stride and so on. `times` counts them; who runs the model sets it to 0 before each pass.
    """

    def __init__(self, p: float, site: int, key: DropoutKey, stride: int = 0) -> None:
        super().__init__()
        self.p = p
        self.site = site
        self.key = key
        self.levels = dropped_levels(p)
        self.stride = stride
        self.times = 0

    def forward(self, values: Tensor) -> Tensor:
        """Zero a share of about `p` of `values` (any shape) and scale the rest up."""
        if not self.training or self.levels == 0:
            return values
        site = self.site + self.times * self.stride
        self.times += 1
        mask = self.key.mask(site, (1, *values.shape), self.levels, values.dtype)
        return values * mask[0]


def key_dropout(model: nn.Module, key: DropoutKey, repeats: bool = False) -> None:
    """Replace every `nn.Dropout` of a model with a `CounterDropout` that reads the key.

    Sites have numbers in the order of the modules, but the encoder's sites come before the head's: some
    classes define the head first. With `repeats` the model applies a layer several times in a pass.
    """
    modules = model.named_modules(remove_duplicate=False)
    encoder = getattr(model, "base_model_prefix", "")
    sites = [name for name, module in modules if isinstance(module, nn.Dropout)]
    sites.sort(key=lambda name: not name.startswith(encoder))
    for site, name in enumerate(sites):
        dropout = model.get_submodule(name)
        if not isinstance(dropout, nn.Dropout):  # already replaced, through a shared parent
            continue
        parent, _, attribute = name.rpartition(".")
        stride = len(sites) if repeats else 0
        counter_dropout = CounterDropout(dropout.p, site, key, stride).train(dropout.training)
        setattr(model.get_submodule(parent), attribute, counter_dropout)
