"""The layout of stacked classifiers' weights: a few tensors, one for each use of weights.

A stack of classifiers has one operation for a cast, a norm or an optimiser's step of each such tensor,
instead of one operation for each of a hundred weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.models.families import Family

WITH_DECAY = ("embedding_tables", "products", "head_products")
"""The blocks that weight decay shrinks: matrices."""


@dataclass(frozen=True)
class Piece:
    """One weight, or several weights side by side that the network uses as one.

    `names` are the weights' names in a checkpoint, and `shape` is the shape of the whole piece.
    """

    key: str
    names: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass
class WeightBlock:
    """Pieces of all members in one tensor `values` (members, numbers)."""

    pieces: Sequence[Piece]
    has_decay: bool
    values: Tensor = field(default_factory=lambda: torch.empty(0))

    def load(self, weights: Sequence[Mapping[str, Tensor]], device: torch.device) -> None:
        """Copy the members' `weights`, one mapping by name for each member, to the device.

        What all members share in memory is copied to the device once.
        """
        names = [name for piece in self.pieces for name in piece.names]
        numbers = sum(math.prod(piece.shape) for piece in self.pieces)
        first = weights[0]
        if all(own[name].data_ptr() == first[name].data_ptr() for own in weights for name in names):
            row = torch.cat([first[name].flatten() for name in names])
            self.values = row.to(device, torch.float32).repeat(len(weights), 1)
            return
        self.values = torch.empty(len(weights), numbers, device=device)
        for row, member_weights in zip(self.values, weights, strict=True):
            row.copy_(torch.cat([member_weights[name].flatten() for name in names]))

    def split(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The pieces (members, *shape) by key, as views whose gradients arrive in one tensor.

        Its dtype is the values' `grad_dtype`; where that is None, the gradients' own.
        """
        sizes = [math.prod(piece.shape) for piece in self.pieces]
        values = self.values if dtype == self.values.dtype else _cast(self.values, dtype)
        parts = values.split(sizes, dim=1)
        return {
            piece.key: part.view(-1, *piece.shape)
            for piece, part in zip(self.pieces, parts, strict=True)
        }

    def member_weights(self, member: int) -> Iterable[tuple[str, Tensor]]:
        """One member's weights, with their names in a checkpoint.

        The weights of a piece have equal shares of the piece's rows.
        """
        start = 0
        for piece in self.pieces:
            rows, *rest = piece.shape
            shape = (rows // len(piece.names), *rest)
            for name in piece.names:
                end = start + math.prod(shape)
                yield name, self.values[member, start:end].detach().view(shape)
                start = end


class _Cast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, dtype: torch.dtype) -> Tensor:
        return values.to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None  # autograd casts it, if `grad_dtype` wants another


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    """`values.to(dtype)`, whose gradient need not be cast back."""
    result: Tensor = _Cast.apply(values, dtype)  # type: ignore[no-untyped-call]
    return result


@dataclass(frozen=True)
class _Pieces:
    """Makes the pieces of layers, whose names in a checkpoint are without `.weight` and `.bias`."""

    shapes: Mapping[str, tuple[int, ...]]
    """The shapes of the checkpoint's weights, by name."""

    def weight(self, key: str, *layers: str) -> Piece:
        """The weights of layers, one after the other."""
        return self._piece(key, [f"{layer}.weight" for layer in layers])

    def bias(self, key: str, *layers: str) -> list[Piece]:
        """The biases of layers; no piece where they have none."""
        names = [f"{layer}.bias" for layer in layers]
        return [self._piece(key, names)] if names[0] in self.shapes else []

    def norm(self, key: str, layer: str) -> list[Piece]:
        """A normalisation's scale, and its shift where it has one."""
        return [self.weight(f"{key}scale", layer), *self.bias(f"{key}shift", layer)]

    def _piece(self, key: str, names: Sequence[str]) -> Piece:
        rows, *rest = self.shapes[names[0]]
        return Piece(key, tuple(names), (rows * len(names), *rest))


def layout(
    family: Family, prefix: str, layers: int, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, WeightBlock]:
    """The blocks of all weights but the word embeddings, by use. A block without weights is left out.

    Args:
        family: the encoder's family.
        prefix: the encoder's prefix in the names of a checkpoint.
        layers: the number of layers.
        shapes: the shapes of a checkpoint's weights, by name.
    """
    architecture, head, pieces = family.architecture, family.head, _Pieces(shapes)
    assert architecture is not None, f"'{family.model_type}' encoders cannot be stacked"
    linears: dict[str, list[str]] = {}
    scales: list[Piece] = []
    if f"{prefix}embeddings_project.weight" in shapes:
        linears["projection"] = [f"{prefix}embeddings_project"]
    for layer in range(layers):
        layer_prefix = f"{prefix}{family.layers}.{layer}."
        for key, parts in architecture.products.items():
            linears[f"{layer}.{key}"] = [f"{layer_prefix}{part}" for part in parts]
        for key, norm in architecture.norms.items():
            if layer > 0 or norm != family.first_lacks:
                scales += pieces.norm(f"{layer}.{key}_", f"{layer_prefix}{norm}")
    if architecture.last_norm is not None:
        scales += pieces.norm("last_", f"{prefix}{architecture.last_norm}")
    if architecture.head_norm is not None:
        scales += pieces.norm("head_", architecture.head_norm)
    dense = f"{prefix if head.uses_pooler else ''}{head.dense}"
    head_linears = {"dense": [dense], "outputs": [head.outputs]}
    tables = {"positions": family.positions, "types": family.types}
    embeddings = f"{prefix}{family.embeddings}.{architecture.embedding_norm}"
    blocks = {
        "embedding_tables": [
            pieces.weight(key, f"{prefix}{name}")
            for key, name in tables.items()
            if name is not None
        ],
        "embedding_scales": pieces.norm("", embeddings),
        "products": [pieces.weight(key, *names) for key, names in linears.items()],
        "biases": [p for key, names in linears.items() for p in pieces.bias(f"{key}_bias", *names)],
        "scales": scales,
        "head_products": [pieces.weight(key, *names) for key, names in head_linears.items()],
        "head_biases": [
            p for key, names in head_linears.items() for p in pieces.bias(f"{key}_bias", *names)
        ],
    }
    return {
        key: WeightBlock(parts, has_decay=key in WITH_DECAY)
        for key, parts in blocks.items()
        if parts
    }
