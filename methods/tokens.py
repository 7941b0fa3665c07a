"""Methods that match what every token holds: attention maps, states, queries, keys and values.

The teacher then runs in every step, since all of that would not fit a cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
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
from harness.method.losses import divergence, masked_mean, widened

_SPACE: Mapping[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(0.1, 10.0, "published with weight 1"),
}


class TinyBert(Method):
    """LAYER = mean_j MSE(a_j, a_A(j)) + mean_j MSE(W h_j, h_A(j)): attention scores a, token states h.

    Paper: Jiao et al. (2020), TinyBERT, arXiv 1909.10351 (verified; both parts weigh the same, as
    published; they train this before the outputs, on augmented data, here it is one objective). A(j) =
    j·n/m rounded half up, for j = 1..m; of states also embeddings with embeddings, j = 0. Scores are
    those before the softmax. W is one learned map for all layers, as theirs but without a bias; between
    equal widths it starts at the identity (ours). Reduction: mean over heads and all pairs of tokens of
    the batch, or over width and all its tokens, so that long examples weigh more; padding counts
    nowhere (as published, its scores count as 0); mean over layers, where the authors add them up.
    Needs as many heads as the teacher has, and a student no deeper.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "tinybert"
    summary = "attention scores and token states of every n/m-th layer"
    paper = "Jiao et al. 2020, arXiv 1909.10351"
    form = "verified"
    needs = frozenset({"tokens", "scores"})
    space: ClassVar[Mapping[str, Hyper]] = _SPACE

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        require_depth(shapes, self.name)
        if shapes.student_heads != shapes.teacher_heads:
            raise MethodError(
                f"tinybert needs as many attention heads as the teacher has ({shapes.student_heads} "
                f"and {shapes.teacher_heads}); use minilm"
            )
        self.matched = skip_map(shapes.student_layers, shapes.teacher_layers)
        self.fit = learned_map(shapes.student_width, shapes.teacher_width, generator)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: squared distances of scores and of states, added."""
        mask = context.mask
        pairs = (mask[:, :, None] & mask[:, None, :])[:, None]
        scores = [
            masked_mean((widened(own) - widened(teacher.scores[layer - 1])).square(), pairs)
            for own, layer in zip(student.scores, self.matched, strict=True)
        ]
        states = [
            masked_mean((self.fit(own) - teacher.tokens[layer]).square(), mask[:, :, None])
            for own, layer in zip(student.tokens, [0, *self.matched], strict=True)
        ]
        return {"layer": torch.stack(scores).mean() + torch.stack(states).mean()}


class MiniLm(Method):
    """LAYER = Σ_{R ∈ QQ, KK, VV} KL(R_teacher ‖ R_student), relations of tokens in the last layer.

    Paper: Wang et al. (2021), MiniLMv2, arXiv 2012.15828 (verified in a public reimplementation). A
    relation is softmax(A Aᵀ / √d_r) with A the queries, keys or values, joined over heads and cut again
    into as many relation heads as the student has heads (published: 48 for BERT-base). The last layer
    of both sides, as published for a base-sized teacher. Works with any widths that these heads divide.
    Reduction: sum over the tokens that are looked at, mean over relation heads and all tokens of the
    batch, so that long examples weigh more; padding is left out; the three relations are added.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "minilm"
    summary = "relations between tokens in the last layer: queries, keys, values"
    paper = "Wang et al. 2021, arXiv 2012.15828"
    form = "verified"
    needs = frozenset({"last-qkv"})
    space: ClassVar[Mapping[str, Hyper]] = _SPACE

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.relation_heads = shapes.student_heads
        if shapes.teacher_width % self.relation_heads:
            raise MethodError(
                f"minilm cuts the teacher's width {shapes.teacher_width} into the student's "
                f"{self.relation_heads} heads, which does not work out"
            )

    def _log_relations(self, parts: Tensor, mask: Tensor) -> Tensor:
        """Log-shares (B, relation heads, T, T) from queries, keys or values (B, heads, T, width)."""
        joined = widened(parts).transpose(1, 2).flatten(2)
        split = joined.unflatten(-1, (self.relation_heads, -1)).transpose(1, 2)
        products = split @ split.transpose(-1, -2) / split.shape[-1] ** 0.5
        hidden = ~mask[:, None, None, :]
        return F.log_softmax(products.masked_fill(hidden, -1e9), dim=-1)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the divergence of the student's relations from the teacher's."""
        total = student.logits.new_zeros(())
        for own, theirs in (
            (student.queries, teacher.queries),
            (student.keys, teacher.keys),
            (student.values, teacher.values),
        ):
            target = self._log_relations(theirs[-1], context.mask)
            relations = self._log_relations(own[-1], context.mask)
            total = total + masked_mean(divergence(target, relations), context.mask[:, None, :])
        return {"layer": total}
