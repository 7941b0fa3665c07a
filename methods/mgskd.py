"""Structures of tokens, words and examples: how the parts of one granularity relate to each other.

The teacher runs in every step, because a cache of all tokens' states would be too large.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from optuna.distributions import IntDistribution
from torch import Tensor

from harness.errors import MethodError
from harness.method import (
    DISTILLATION,
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    learned_map,
    require_depth,
    weight,
)
from harness.method.layer_maps import skip_map
from methods.examples import distances_and_angles

EXAMPLES_SHARE = 4.0
"""The published weight of examples; those of tokens and of words are 1."""
HEAD_WIDTH = 12
"""Numbers in a relation head, by default at least: 64 heads at the published width of 768."""
LEAST_WORDS = 3
"""Words of an example that has an angle between two of them at a third."""


def word_shares(words: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The share of each token in the mean state of each word.

    `words` (B, T) are the numbers of the tokens' words, -1 where a token belongs to none.

    Returns:
        Shares (B, T, T) of the tokens, which come last, in up to T words; and which words there are
        (B, T). An example with less than three words has none.
    """
    numbers = torch.arange(words.shape[1], device=words.device)
    belongs = words[:, None, :] == numbers[:, None]
    counts = belongs.sum(dim=-1)
    is_word = counts > 0
    is_word = is_word & (is_word.sum(dim=1, keepdim=True) >= LEAST_WORDS)
    return belongs.to(dtype) / counts.clamp(min=1)[..., None], is_word


def _mean(values: Tensor, selection: Tensor) -> Tensor:
    """The mean of the values that are selected, 0 where none is."""
    selection = selection.expand_as(values)
    return torch.where(selection, values, 0.0).sum() / selection.sum().clamp(min=1)


class Mgskd(Method):
    """LAYER = Σ_{j<M} (D(W h_j, t_A(j)) + D_words(W h_j, t_A(j))) + 4 Σ_{j≥M} D_examples(W h_j, t_A(j)).

    Paper: Liu, Tao, Feng, Zhao (2022), Multi-Granularity Structural Knowledge Distillation for Language
    Model Compression, ACL (the loss verified in the authors' code, the words ours). h_j are the token
    states of layers j = 0..m, the embeddings first, and A(j) = j·n/m rounded half up. D has two parts.
    The first is the squared difference of the products of every two tokens, ⟨a, b⟩/√d_r in each of
    `relation_heads` heads. The second is Huber's loss of the difference of angles (cosines) at a token
    between two others: at the `centres` tokens to which the teacher's tokens relate most, between the
    `neighbours` to which such a token relates most, by the softmax of the teacher's products. D_words is
    D of the mean states of words; the authors take phrases too, from a parser that is not public.
    D_examples is Huber's loss of the angles between the examples of a batch, in each relation head, of
    their mean states over tokens. M = `lower_layers` = 2 (at most m) and the weight 4 are published. W
    is one learned map for all layers, without the authors' bias; between equal widths it starts at the
    identity (ours). `relation_heads` = 0 takes the greatest divisor of the teacher's width that leaves a
    head 12 numbers: the published 64 at a width of 768.
    Reduction: means over heads and pairs, over triples, and over triples of examples, of the whole
    batch, so that long examples weigh more; then the sum over layers. Padding is left out, and so are
    words of examples with less than three. The authors distil this term first and the outputs after it:
    `training.stages=layers-first`. The student must not be deeper than its teacher.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options relation_heads, centres,
    neighbours, lower_layers (M).
    """

    name = "mgskd"
    summary = "products and angles between tokens, words and examples"
    paper = (
        "Liu et al. 2022, Multi-Granularity Structural Knowledge Distillation for Language Model "
        "Compression, ACL"
    )
    form = "verified"
    needs = frozenset({"tokens", "words"})
    space: ClassVar[Mapping[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(0.1, 10.0, "around 1, the published weight"),
        "relation_heads": Hyper(
            IntDistribution(0, 128),
            "structural",
            "0 stands for heads of 12 numbers, as published: 64 at a width of 768",
            default=0,
        ),
        "centres": Hyper(IntDistribution(1, 64), "structural", "as published", default=20),
        "neighbours": Hyper(IntDistribution(2, 64), "structural", "as published", default=20),
        "lower_layers": Hyper(
            IntDistribution(1, 24),
            "structural",
            "as published, for students of 4 layers: the embeddings and the first layer",
            default=2,
        ),
    }

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_depth(shapes, self.name)
        width, layers = shapes.teacher_width, shapes.student_layers
        most = max(1, width // HEAD_WIDTH)
        published = max(heads for heads in range(1, most + 1) if width % heads == 0)
        self.relation_heads = int(structure["relation_heads"]) or published
        if width % self.relation_heads:
            raise MethodError(
                f"mgskd needs relation heads that divide the teacher's width ({self.relation_heads} and "
                f"{width}); use search.space.relation_heads=[{published}] or another divisor"
            )
        self.lower_layers = min(int(structure["lower_layers"]), layers)
        self.centres, self.neighbours = int(structure["centres"]), int(structure["neighbours"])
        self.layer_map = [0, *skip_map(layers, shapes.teacher_layers)]
        self.state_map = learned_map(shapes.student_width, width, generator)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the differences of the structures, summed over granularities and layers."""
        mask, distances = context.mask, []
        in_words, is_word = word_shares(context.words, student.logits.dtype)
        for layer, (states, teacher_layer) in enumerate(
            zip(student.tokens, self.layer_map, strict=True)
        ):
            pair = self.state_map(states), teacher.tokens[teacher_layer]
            if layer < self.lower_layers:
                distances.append(self._distance(*pair, mask))
                own, target = (in_words @ side for side in pair)
                distances.append(self._distance(own, target, is_word))
            else:
                distances.append(EXAMPLES_SHARE * self._distance_of_examples(*pair, mask))
        return {"layer": torch.stack(distances).sum()}

    def _heads(self, states: Tensor) -> Tensor:
        """States (..., heads, parts, width / heads) of states (..., parts, width)."""
        heads: Tensor = states.unflatten(-1, (self.relation_heads, -1)).transpose(-2, -3)
        return heads

    def _products(self, states: Tensor) -> Tensor:
        """The scaled products (B, heads, U, U) of every two of the states (B, U, width)."""
        heads = self._heads(states)
        products: Tensor = heads @ heads.transpose(-1, -2) / heads.shape[-1] ** 0.5
        return products

    def _distance(self, states: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """The differences of products and of angles, of states (B, U, width) where the mask is true."""
        pairs = mask[:, :, None] & mask[:, None, :]
        products = self._products(targets)
        difference = (self._products(states) - products).square()
        shares = products.masked_fill(~pairs[:, None], -1e9).softmax(dim=-1) * pairs[:, None]
        centres = shares.sum(dim=(1, 2)).topk(min(self.centres, mask.shape[1])).indices
        others = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        related = _rows(shares.sum(dim=1) * others, centres)
        neighbours = related.topk(min(self.neighbours, mask.shape[1])).indices
        allowed = mask.gather(1, neighbours.flatten(1)).view_as(neighbours)
        allowed = allowed & (neighbours != centres[..., None]) & mask.gather(1, centres)[..., None]
        between = allowed[..., :, None] & allowed[..., None, :]
        between = between & ~torch.eye(neighbours.shape[-1], dtype=torch.bool, device=mask.device)
        angles, target_angles = (_angles(side, centres, neighbours) for side in (states, targets))
        errors = F.smooth_l1_loss(angles, target_angles, reduction="none")
        return _mean(difference, pairs[:, None]) + _mean(errors, between)

    def _distance_of_examples(self, states: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """The difference of the angles between examples, of states (B, T, width)."""
        shares = mask.to(states.dtype) / mask.sum(dim=1, keepdim=True)
        angles, target_angles = (
            distances_and_angles(self._heads((shares[:, None] @ side).squeeze(1)))[1]
            for side in (states, targets)
        )
        return F.smooth_l1_loss(angles, target_angles)


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    """Some rows (B, k) of values (B, U, n): (B, k, n)."""
    found: Tensor = values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))
    return found


def _angles(states: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
    """Cosines (B, k, l, l) at centres (B, k) between neighbours (B, k, l), of states (B, U, width)."""
    others = _rows(states, neighbours.flatten(1)).unflatten(1, neighbours.shape[1:])
    directions = F.normalize(_rows(states, centres)[:, :, None] - others, dim=-1)
    cosines: Tensor = directions @ directions.transpose(-1, -2)
    return cosines
