"""Counter-based randomness: every draw is a function of a key, never of what was drawn before.

A run's dropout masks are keyed by (seed, step, site) and its data order by (seed, epoch, bucket), so
a run gives the same result alone, in any population and after a resume.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


@dataclass
class DropoutKey:
    """The (seed, step) that all dropout sites of one model read at the moment."""

    seed: int = 0
    step: int = 0


class CounterDropout(nn.Module):
    """Dropout whose mask is a function of (seed, step, site); the identity in eval mode."""

    def __init__(self, p: float, site: int, key: DropoutKey) -> None:
        super().__init__()
        self.p = p
        self.site = site
        self.key = key
        # A rate above 0 always drops something, and never everything.
        self.dropped = min(max(round(p * LEVELS), 1), LEVELS - 1) if p > 0 else 0

    def forward(self, values: Tensor) -> Tensor:
        """Zero a share of about `p` of `values` (any shape) and scale the rest up."""
        if not self.training or self.dropped == 0:
            return values
        return values * self._mask(values)

    def _mask(self, values: Tensor) -> Tensor:
        count = values.numel()
        source = generator(self.key.seed, self.key.step, self.site, device=values.device)
        words = torch.empty((count + 7) // 8, dtype=torch.int64, device=values.device)
        words.random_(-(2**63), None, generator=source)
        kept = words.view(torch.uint8)[:count] >= self.dropped
        scale = LEVELS / (LEVELS - self.dropped)
        return kept.to(values.dtype).mul_(scale).view(values.shape)


def key_dropout(model: nn.Module) -> DropoutKey:
    """Replace every `nn.Dropout` of a model in place; sites are numbered in module order."""
    key = DropoutKey()
    named = model.named_modules(remove_duplicate=False)
    sites = [name for name, module in named if isinstance(module, nn.Dropout)]
    for site, name in enumerate(sites):
        dropout = model.get_submodule(name)
        if not isinstance(dropout, nn.Dropout):  # already replaced, through a shared parent
            continue
        parent, _, attribute = name.rpartition(".")
        keyed = CounterDropout(dropout.p, site, key).train(dropout.training)
        setattr(model.get_submodule(parent), attribute, keyed)
    return key
