"""Where the weights of stacked classifiers lie: in a few tensors, by what is done with them."""

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
    """One or more weights, by their names in a checkpoint, that lie side by side and are used as one."""

    key: str
    names: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass
class Flat:
    """Pieces in one tensor `values` (members, numbers) that is trained or not."""

    pieces: Sequence[Piece]
    decayed: bool
    values: Tensor = field(default_factory=lambda: torch.empty(0))

    def load(self, weights: Sequence[Mapping[str, Tensor]], device: torch.device) -> None:
        """Take every member's weights from its checkpoint."""
        names = [name for piece in self.pieces for name in piece.names]
        numbers = sum(math.prod(piece.shape) for piece in self.pieces)
        self.values = torch.empty(len(weights), numbers, device=device)
        for row, own in zip(self.values, weights, strict=True):
            row.copy_(torch.cat([own[name].flatten() for name in names]))

    def split(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The pieces (members, *shape) by key; their gradients come back in one tensor."""
        sizes = [math.prod(piece.shape) for piece in self.pieces]
        parts = self.values.to(dtype).split(sizes, dim=1)
        return {
            piece.key: part.view(-1, *piece.shape)
            for piece, part in zip(self.pieces, parts, strict=True)
        }

    def named(self, member: int) -> Iterable[tuple[str, Tensor]]:
        """One member's weights under the names of a checkpoint; the pieces' rows, by equal parts."""
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
) -> dict[str, Flat]:
    """Where every weight but the words lies, by what is done with it.

    `prefix` is the encoder's in the names of a checkpoint, and `shapes` are its weights' by name.
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
        own = f"{prefix}{family.layers}.{layer}."
        for key, parts in names.items():
            products.append(piece(f"{layer}.{key}", *(f"{own}{part}.weight" for part in parts)))
            biases.append(piece(f"{layer}.{key}_bias", *(f"{own}{part}.bias" for part in parts)))
        for key, norm in norms.items():
            scales.append(piece(f"{layer}.{key}_scale", f"{own}{norm}.weight"))
            scales.append(piece(f"{layer}.{key}_shift", f"{own}{norm}.bias"))
    head = family.head
    dense, outputs = f"{prefix if head.pooled else ''}{head.dense}", head.outputs
    exact_biases = [
        piece("dense_bias", f"{dense}.bias"),
        piece("outputs_bias", f"{outputs}.bias"),
    ]
    exact = [piece("dense", f"{dense}.weight"), piece("outputs", f"{outputs}.weight")]
    tables = [
        piece("positions", f"{prefix}{family.positions}.weight"),
        piece("types", f"{prefix}{family.types}.weight"),
    ]
    normalisation = [
        piece("scale", f"{prefix}{family.embeddings}.LayerNorm.weight"),
        piece("shift", f"{prefix}{family.embeddings}.LayerNorm.bias"),
    ]
    return {
        "embedding_tables": Flat(tables, decayed=True),
        "embedding_scales": Flat(normalisation, decayed=False),
        "products": Flat(products, decayed=True),
        "biases": Flat(biases, decayed=False),
        "scales": Flat(scales, decayed=False),
        "exact": Flat(exact, decayed=True),
        "exact_biases": Flat(exact_biases, decayed=False),
    }
