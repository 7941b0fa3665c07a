"""The poolings: how the states of a layer's tokens become one state. A new pooling is one row.

The table stands below the configuration and below reports, which name poolings and have no torch. So
torch is imported where states are pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Pooling = str
"""The name of a row of `POOLINGS`."""


@dataclass(frozen=True)
class PoolingRow:
    """One pooling: all that the harness and its reports know of it."""

    name: Pooling
    words: str
    """The pooled states in the words of a report."""
    tokens: Literal["first", "all"]
    """The tokens that it reads. Of `first` the last layer computes no other token."""
    pooled: Callable[[Sequence[Tensor], Tensor], Tensor]
    """From layers of (B, T, width) and a mask (B, T), 1 where a token is, to (B, layers, width)."""


def _first_tokens(layers: Sequence[Tensor], mask: Tensor) -> Tensor:
    import torch

    return torch.stack([states[:, 0] for states in layers], dim=1)


def _means(layers: Sequence[Tensor], mask: Tensor) -> Tensor:
    import torch

    share = (mask / mask.sum(dim=1, keepdim=True)).to(layers[0].dtype)
    return torch.stack([torch.einsum("bt,btd->bd", share, states) for states in layers], dim=1)


_ROWS = (
    PoolingRow(name="cls", words="[CLS] states", tokens="first", pooled=_first_tokens),
    PoolingRow(name="mean", words="mean-pooled states", tokens="all", pooled=_means),
)
POOLINGS: dict[Pooling, PoolingRow] = {row.name: row for row in _ROWS}
"""The poolings by name. A teacher's outputs are cached in all of them."""
assert len(POOLINGS) == len(_ROWS), "two poolings have one name"


def pooling_row(name: Pooling) -> PoolingRow:
    """The pooling of that name. Raises `ValueError` with all names for an unknown one."""
    if name not in POOLINGS:
        raise ValueError(f"unknown pooling {name!r}; known are {', '.join(POOLINGS)}")
    return POOLINGS[name]
