"""Token-level matching: attention scores, token states, queries, keys and values.

The teacher runs in every step, because a cache of these tensors would be too large.
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
from harness.method.losses import divergence, masked_mean, to_fp32

_SPACE: Mapping[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(0.1, 10.0, "around 1, the published weight"),
}


class TinyBert(Method):
    """LAYER = mean_j MSE(a_j, a_A(j)) + mean_j MSE(W h_j, h_A(j)): attention scores a, token states h.

    Paper: Jiao et al. (2020), TinyBERT, arXiv 1909.10351 (verified). Both parts have the same weight, as
    published. The authors train these terms before the outputs, on augmented data; here all terms are
    one objective. A(j) = j·n/m rounded half up, for j = 1..m; the part of the states also matches the
    embeddings of both sides, j = 0. Scores are attention before the softmax. W is one learned map for
    all layers, without the authors' bias; between equal widths it starts at the identity (ours).
    Reduction: the mean over heads and all pairs of tokens of the batch (scores), or over width and all
    tokens of the batch (states), so that long examples weigh more; then the mean over layers, where the
    authors take the sum. Padding is left out; the authors count its scores as 0. The student must have
    as many heads as its teacher and must not be deeper.
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
                "tinybert needs a student with as many attention heads as its teacher "
                f"({shapes.student_heads} and {shapes.teacher_heads}); use minilm"
            )
        self.layer_map = skip_map(shapes.student_layers, shapes.teacher_layers)
        self.state_map = learned_map(shapes.student_width, shapes.teacher_width, generator)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the squared distance of the scores plus that of the states."""
        mask = context.mask
        pairs = (mask[:, :, None] & mask[:, None, :])[:, None]
        score_distances = [
            masked_mean((to_fp32(scores) - to_fp32(teacher.scores[layer - 1])).square(), pairs)
            for scores, layer in zip(student.scores, self.layer_map, strict=True)
        ]
        state_distances = [
            masked_mean((self.state_map(states) - teacher.tokens[layer]).square(), mask[:, :, None])
            for states, layer in zip(student.tokens, [0, *self.layer_map], strict=True)
        ]
        return {"layer": torch.stack(score_distances).mean() + torch.stack(state_distances).mean()}


class MiniLm(Method):
    """LAYER = Σ_{R ∈ QQ, KK, VV} KL(R_teacher ‖ R_student), relations of tokens in the last layer.

    Paper: Wang et al. (2021), MiniLMv2, arXiv 2012.15828 (verified in a public reimplementation). A
    relation is softmax(A Aᵀ / √d_r). A are the queries, keys or values, concatenated over heads and cut
    into relation heads of width d_r, as many as the student has heads (published: 48 for BERT-base).
    Both sides use their last layer, as published for a base-sized teacher. The number of relation heads
    must divide the teacher's width. Reduction: KL sums over the tokens that a token attends to; then the
    mean over relation heads and all tokens of the batch, so that long examples weigh more; then the sum
    of the three relations. Padding is left out.
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
                f"minilm needs a teacher width that the student's heads divide ({shapes.teacher_width} "
                f"and {self.relation_heads})"
            )

    def _log_relations(self, parts: Tensor, mask: Tensor) -> Tensor:
        """Log of the relations (B, relation heads, T, T) of queries, keys or values (B, heads, T, d).

        `mask` (B, T) is true where a token is.
        """
        concatenation = to_fp32(parts).transpose(1, 2).flatten(2)
        heads = concatenation.unflatten(-1, (self.relation_heads, -1)).transpose(1, 2)
        products = heads @ heads.transpose(-1, -2) / heads.shape[-1] ** 0.5
        padding = ~mask[:, None, None, :]
        return F.log_softmax(products.masked_fill(padding, -1e9), dim=-1)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the divergence of the student's relations from the teacher's."""
        total = student.logits.new_zeros(())
        for student_parts, teacher_parts in (
            (student.queries, teacher.queries),
            (student.keys, teacher.keys),
            (student.values, teacher.values),
        ):
            target = self._log_relations(teacher_parts[-1], context.mask)
            relations = self._log_relations(student_parts[-1], context.mask)
            total = total + masked_mean(divergence(target, relations), context.mask[:, None, :])
        return {"layer": total}
