"""The layout of stacked classifiers' weights: a few tensors, one for each use of weights.

A stack of classifiers has one operation for a cast, a norm or an optimiser's step of each such tensor,
instead of one operation for each of a hundred weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
        """The pieces (members, *shape) by key, as views whose gradients arrive in one tensor."""
        sizes = [math.prod(piece.shape) for piece in self.pieces]
        parts = self.values.to(dtype).split(sizes, dim=1)
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

    architecture = family.architecture
    assert architecture is not None, f"'{family.model_type}' encoders cannot be stacked"

    def piece(key: str, *names: str) -> Piece:
        rows, *rest = shapes[names[0]]
        return Piece(key, names, (rows * len(names), *rest))

    def with_bias(key: str, *names: str) -> tuple[list[Piece], list[Piece]]:
        """A linear layer's weight, and its bias where it has one. `names` are those of the layers."""
        weight = piece(key, *(f"{name}.weight" for name in names))
        bias_names = [f"{name}.bias" for name in names]
        bias = [piece(f"{key}_bias", *bias_names)] if bias_names[0] in shapes else []
        return [weight], bias

    def norm_pieces(key: str, name: str) -> list[Piece]:
        """A normalisation's scale, and its shift where it has one."""
        kinds = {f"{key}scale": f"{name}.weight", f"{key}shift": f"{name}.bias"}
        return [
            piece(own, weight)
            for own, weight in kinds.items()
            if weight in shapes or own.endswith("scale")
        ]

    products: list[Piece] = []
    biases: list[Piece] = []
    scales: list[Piece] = []
    if f"{prefix}embeddings_project.weight" in shapes:
        weights, own_biases = with_bias("projection", f"{prefix}embeddings_project")
        products += weights
        biases += own_biases
    for layer in range(layers):
        layer_prefix = f"{prefix}{family.layers}.{layer}."
        for key, parts in architecture.products.items():
            names = [f"{layer_prefix}{part}" for part in parts]
            weights, own_biases = with_bias(f"{layer}.{key}", *names)
            products += weights
            biases += own_biases
        for key, norm in architecture.norms.items():
            if layer > 0 or norm != family.first_lacks:
                scales += norm_pieces(f"{layer}.{key}_", f"{layer_prefix}{norm}")
    if architecture.last_norm is not None:
        scales += norm_pieces("last_", f"{prefix}{architecture.last_norm}")
    if architecture.head_norm is not None:
        scales += norm_pieces("head_", architecture.head_norm)
    head = family.head
    dense, outputs = f"{prefix if head.uses_pooler else ''}{head.dense}", head.outputs
    head_products, head_biases = (
        [*dense_pieces, *output_pieces]
        for dense_pieces, output_pieces in zip(
            with_bias("dense", dense), with_bias("outputs", outputs), strict=True
        )
    )
    tables = {"positions": family.positions, "types": family.types}
    embeddings = f"{prefix}{family.embeddings}.{architecture.embedding_norm}"
    blocks = {
        "embedding_tables": [
            piece(key, f"{prefix}{name}.weight") for key, name in tables.items() if name is not None
        ],
        "embedding_scales": norm_pieces("", embeddings),
        "products": products,
        "biases": biases,
        "scales": scales,
        "head_products": head_products,
        "head_biases": head_biases,
    }
    return {
        key: WeightBlock(pieces, has_decay=key in WITH_DECAY)
        for key, pieces in blocks.items()
        if pieces
    }
