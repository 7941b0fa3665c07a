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

LAYER_WEIGHTS = (
    *("attention", "mix", "inner", "outer"),
    *("attention_bias", "mix_bias", "inner_bias", "outer_bias"),
    *("mix_scale", "mix_shift", "outer_scale", "outer_shift"),
)
"""Keys of one layer's pieces: products, biases, and the normalisations' scales and shifts."""


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
    """The blocks of all weights but the word embeddings, by use.

    Args:
        family: the encoder's family.
        prefix: the encoder's prefix in the names of a checkpoint.
        layers: the number of layers.
        shapes: the shapes of a checkpoint's weights, by name.
    """

    def piece(key: str, *names: str) -> Piece:
        rows, *rest = shapes[names[0]]
        return Piece(key, names, (rows * len(names), *rest))

    names = {
        "attention": [f"attention.self.{part}" for part in ("query", "key", "value")],
        "mix": ["attention.output.dense"],
        "inner": ["intermediate.dense"],
        "outer": ["output.dense"],
    }
    norms = {"mix": "attention.output.LayerNorm", "outer": "output.LayerNorm"}
    products, biases, scales = [], [], []
    if f"{prefix}embeddings_project.weight" in shapes:
        products.append(piece("projection", f"{prefix}embeddings_project.weight"))
        biases.append(piece("projection_bias", f"{prefix}embeddings_project.bias"))
    for layer in range(layers):
        layer_prefix = f"{prefix}{family.layers}.{layer}."
        for key, parts in names.items():
            weight_names = [f"{layer_prefix}{part}.weight" for part in parts]
            bias_names = [f"{layer_prefix}{part}.bias" for part in parts]
            products.append(piece(f"{layer}.{key}", *weight_names))
            biases.append(piece(f"{layer}.{key}_bias", *bias_names))
        for key, norm in norms.items():
            scales.append(piece(f"{layer}.{key}_scale", f"{layer_prefix}{norm}.weight"))
            scales.append(piece(f"{layer}.{key}_shift", f"{layer_prefix}{norm}.bias"))
    head = family.head
    dense, outputs = f"{prefix if head.uses_pooler else ''}{head.dense}", head.outputs
    head_biases = [
        piece("dense_bias", f"{dense}.bias"),
        piece("outputs_bias", f"{outputs}.bias"),
    ]
    head_products = [piece("dense", f"{dense}.weight"), piece("outputs", f"{outputs}.weight")]
    tables = [
        piece("positions", f"{prefix}{family.positions}.weight"),
        piece("types", f"{prefix}{family.types}.weight"),
    ]
    normalisation = [
        piece("scale", f"{prefix}{family.embeddings}.LayerNorm.weight"),
        piece("shift", f"{prefix}{family.embeddings}.LayerNorm.bias"),
    ]
    return {
        "embedding_tables": WeightBlock(tables, has_decay=True),
        "embedding_scales": WeightBlock(normalisation, has_decay=False),
        "products": WeightBlock(products, has_decay=True),
        "biases": WeightBlock(biases, has_decay=False),
        "scales": WeightBlock(scales, has_decay=False),
        "head_products": WeightBlock(head_products, has_decay=True),
        "head_biases": WeightBlock(head_biases, has_decay=False),
    }
