"""Counter-based randomness: every draw is a function of a key alone, never of earlier draws.

A run's dropout masks are keyed by (seed, step, site) and its data order by (seed, epoch, bucket), so
a run gives the same result alone, in any population and after a resume.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LEVELS = 256
"""Dropout draws are bytes, so a rate is rounded to a multiple of 1/256 (0.1 becomes 26/256)."""


def derive(*parts: int | str) -> int:
    """A 63-bit key from integers and names."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator seeded by the key."""
    fresh = torch.Generator(device)
    fresh.manual_seed(derive(*parts))
    return fresh


@contextmanager
def global_seed(*parts: int | str) -> Iterator[None]:
    """Seed torch's global generator for third-party initialisers, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(*parts))
        yield


class DropoutKey:
    """The key that all dropout sites of a network read: a number of each member, and the step."""

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        numbers = [derive("dropout", seed) for seed in seeds]
        self.members = torch.tensor(numbers, dtype=torch.int64, device=device)
        self.step = 0

    def mask(
        self,
        site: int,
        shape: Sequence[int],
        dropped: int,
        dtype: torch.dtype,
        of: int | None = None,
    ) -> Tensor:
        """A mask of `shape` (members, ...): 0 with probability `dropped`/256, else 256/(256 − dropped).

        A member's part is a function of (the member's seed, step, site) alone. With `of` the result is
        the first row, along the last dimension but one, of a mask with `of` rows there.
        """
        members, *inner = shape
        if of is not None and (of * inner[-1]) % 8:
            full_shape = (members, *inner[:-2], of, inner[-1])
            return self.mask(site, full_shape, dropped, dtype)[..., :1, :]
        columns = math.prod(inner) if of is None else inner[-1]
        rows = math.prod(inner) // columns
        stride = 0 if of is None else of * inner[-1] // 8
        counters = _counters(stride, rows, columns, self.members.device)
        draws = _hash(counters + (self.members + derive(self.step, site))[:, None, None])
        mask = torch.empty(members, rows, columns, dtype=dtype, device=draws.device)
        # Many times faster on CPUs than a comparison to booleans and a conversion.
        torch.ge(draws.view(torch.uint8)[..., :columns], dropped, out=mask)
        return mask.mul_(LEVELS / (LEVELS - dropped)).view(*shape)


_WEYL = -0x61C8864680B583EB
_FIRST_FACTOR, _SECOND_FACTOR = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
_counter_tables: dict[torch.device, Tensor] = {}
"""The longest row of counters that was needed so far, by device."""


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

    Shifts are arithmetic here: so the last step adds, which leaves no bit constant.
    """
    shifted = words >> 30
    words ^= shifted
    words *= _FIRST_FACTOR
    words ^= torch.bitwise_right_shift(words, 27, out=shifted)
    words *= _SECOND_FACTOR
    words += torch.bitwise_right_shift(words, 31, out=shifted)
    return words


def dropped_levels(p: float) -> int:
    """A dropout rate in 256ths, from 1 to 255 for rates above 0: they drop a part, never all."""
    return min(max(round(p * LEVELS), 1), LEVELS - 1) if p > 0 else 0


class CounterDropout(nn.Module):
    """Dropout whose mask is a function of (seed, step, site). In eval mode it is the identity."""

    def __init__(self, p: float, site: int, key: DropoutKey) -> None:
        super().__init__()
        self.p = p
        self.site = site
        self.key = key
        self.dropped = dropped_levels(p)

    def forward(self, values: Tensor) -> Tensor:
        """Zero a share of about `p` of `values` (any shape) and scale the rest up."""
        if not self.training or self.dropped == 0:
            return values
        mask = self.key.mask(self.site, (1, *values.shape), self.dropped, values.dtype)
        return values * mask[0]


def key_dropout(model: nn.Module, key: DropoutKey) -> None:
    """Let every `nn.Dropout` of a model read the key.

    Sites are numbered in the order of the modules, with the encoder's before the head's: some classes
    define the head first.
    """
    named = model.named_modules(remove_duplicate=False)
    encoder = getattr(model, "base_model_prefix", "")
    sites = [name for name, module in named if isinstance(module, nn.Dropout)]
    sites.sort(key=lambda name: not name.startswith(encoder))
    for site, name in enumerate(sites):
        dropout = model.get_submodule(name)
        if not isinstance(dropout, nn.Dropout):  # already replaced, through a shared parent
            continue
        parent, _, attribute = name.rpartition(".")
        keyed = CounterDropout(dropout.p, site, key).train(dropout.training)
        setattr(model.get_submodule(parent), attribute, keyed)
