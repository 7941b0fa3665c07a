"""Counter-based randomness: every draw is a function of a key, never of what was drawn before.

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
    made = torch.Generator(device)
    made.manual_seed(derive(*parts))
    return made


@contextmanager
def global_seed(*parts: int | str) -> Iterator[None]:
    """Seed torch's global generator for third-party initialisers, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(*parts))
        yield


class DropoutKey:
    """What all dropout sites of a network read at the moment: a number for each member, and the step."""

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

        A member's part is a function of (its seed, step, site) and of nothing else. With `of` it is the
        part of a mask that has `of` rows where this one has its first, along the last dimension but one.
        """
        members, *own = shape
        if of is not None and (of * own[-1]) % 8:
            return self.mask(site, (members, *own[:-2], of, own[-1]), dropped, dtype)[..., :1, :]
        columns = math.prod(own) if of is None else own[-1]
        rows = math.prod(own) // columns
        words = _counters(
            0 if of is None else of * own[-1] // 8, rows, columns, self.members.device
        )
        drawn = _hash(words + (self.members + derive(self.step, site))[:, None, None])
        kept = torch.empty(members, rows, columns, dtype=dtype, device=words.device)
        # Many times faster on CPUs than a comparison to booleans and a conversion.
        torch.ge(drawn.view(torch.uint8)[..., :columns], dropped, out=kept)
        return kept.mul_(LEVELS / (LEVELS - dropped)).view(*shape)


_WEYL = -0x61C8864680B583EB
_FIRST_FACTOR, _SECOND_FACTOR = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
_made: dict[torch.device, Tensor] = {}


def _counters(stride: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Multiples of the golden ratio's 64-bit fraction, one for eight bytes: (rows, columns / 8).

    Row r begins with the multiple r · `stride`.
    """
    count, last = -(-columns // 8), (rows - 1) * stride
    if device not in _made or len(_made[device]) < last + count:
        _made[device] = torch.arange(max(last + count, 1 << 16), device=device) * _WEYL
    return _made[device].as_strided((rows, count), (stride, 1))


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
    """A dropout rate in 256ths. A rate above 0 always drops something, and never everything."""
    return min(max(round(p * LEVELS), 1), LEVELS - 1) if p > 0 else 0


class CounterDropout(nn.Module):
    """Dropout whose mask is a function of (seed, step, site); the identity in eval mode."""

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
    """Let every `nn.Dropout` of a model read the key. Sites are numbered in module order, the encoder's
    first, as some classes define their head before it."""
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
