"""The poolings: how the states of a layer's tokens become one state. A new pooling is one row.

The configuration and reports import this table and name poolings without torch. So each function that
pools states imports torch itself.
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
    """One pooling: everything that the harness and its reports know about the pooling."""

    name: Pooling
    words: str
    """The pooled states in the words of a report."""
    tokens: Literal["first", "all"]
    """The tokens that the pooling reads. With `first` the last layer computes the first token only."""
    pool: Callable[[Sequence[Tensor], Tensor], Tensor]
    """pool(layers, each (B, T, width), mask (B, T)) gives (B, layers, width). The mask is 1 at a token
    and 0 at padding."""


def _first_tokens(layers: Sequence[Tensor], mask: Tensor) -> Tensor:
    import torch

    return torch.stack([states[:, 0] for states in layers], dim=1)


def _means(layers: Sequence[Tensor], mask: Tensor) -> Tensor:
    import torch

    share = (mask / mask.sum(dim=1, keepdim=True)).to(layers[0].dtype)
    return torch.stack([torch.einsum("bt,btd->bd", share, states) for states in layers], dim=1)


_ROWS = (
    PoolingRow(name="cls", words="[CLS] states", tokens="first", pool=_first_tokens),
    PoolingRow(name="mean", words="mean-pooled states", tokens="all", pool=_means),
)
POOLINGS: dict[Pooling, PoolingRow] = {row.name: row for row in _ROWS}
"""The poolings by name. The cache holds a teacher's outputs in every pooling."""
assert len(POOLINGS) == len(_ROWS), "two poolings have one name"


def pooling_row(name: Pooling) -> PoolingRow:
    """The pooling of that name. Raises `ValueError` with all names for an unknown one."""
    if name not in POOLINGS:
        raise ValueError(f"unknown pooling {name!r}; known are {', '.join(POOLINGS)}")
    return POOLINGS[name]
