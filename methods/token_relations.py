"""Relations between tokens in the last layer: attention, queries, keys and values.

The teacher runs in every step, because a cache of these tensors would be too large.
"""

from __future__ import annotations

import math
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
    weight,
)
from harness.method.losses import divergence, mean_of_examples, to_fp32

_SPACE: Mapping[str, Hyper] = {
    **DISTILLATION,
    "layer_weight": weight(0.1, 10.0, "around 1, the published weight"),
}
HEAD_WIDTH = 16
"""Teacher's numbers in a relation head, by default: 48 heads at a width of 768, and 64 at 1,024."""


def log_relations(queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """Log of softmax(Q Kᵀ / √d) (B, heads, T, T) of queries and keys (B, heads, T, d).

    `mask` (B, T) is true where a token is; a token relates to no padding.
    """
    products = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    return F.log_softmax(products.masked_fill(~mask[:, None, None, :], -1e9), dim=-1)


def relation_distance(target_log: Tensor, log: Tensor, mask: Tensor) -> Tensor:
    """KL(target ‖ other) of log relations (B, heads, T, T): mean over heads, tokens, then examples."""
    return mean_of_examples(divergence(target_log, log), mask[:, None, :])


class MiniLm(Method):
    """LAYER = Σ_{R ∈ QQ, KK, VV} KL(R_teacher ‖ R_student), relations of tokens in the last layer.

    Paper: Wang et al. (2021), MiniLMv2, arXiv 2012.15828 (verified in Bloomberg's public
    reimplementation). A relation is softmax(A Aᵀ / √d_r). A are the queries, keys or values,
    concatenated over heads and cut into relation heads of width d_r. `relation_heads` = 0 takes as many
    as leave the teacher 16 numbers each (at least one head): the published 48 for BERT-base and 64 for
    BERT-large. Their number must divide both widths. Both sides use their last layer, as published for
    a base-sized teacher.
    Reduction: KL sums over the tokens that a token attends to; then the mean over relation heads and
    tokens of an example, the mean over examples, and the sum of the three relations (the
    reimplementation weighs each by 1/3). Padding is left out.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option relation_heads.
    """

    name = "minilm"
    summary = "relations between tokens in the last layer: queries, keys, values"
    paper = "Wang et al. 2021, arXiv 2012.15828"
    form = "verified"
    needs = frozenset({"last-qkv"})
    space: ClassVar[Mapping[str, Hyper]] = {
        **_SPACE,
        "relation_heads": Hyper(
            IntDistribution(0, 128),
            "structural",
            "0 stands for the teacher's width / 16, as published: 48 at a width of 768",
            default=0,
        ),
    }

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        student, teacher = shapes.student_width, shapes.teacher_width
        published = max(1, teacher // HEAD_WIDTH)
        self.relation_heads = int(structure["relation_heads"]) or published
        if student % self.relation_heads or teacher % self.relation_heads:
            raise MethodError(
                f"minilm needs relation heads that divide the widths of student and teacher "
                f"({self.relation_heads}; {student} and {teacher}); use "
                f"search.space.relation_heads=[{math.gcd(student, teacher)}] or a divisor of it"
            )

    def _log_relations(self, parts: Tensor, mask: Tensor) -> Tensor:
        """Log relations (B, relation heads, T, T) of queries, keys or values (B, heads, T, d)."""
        concatenation = to_fp32(parts).transpose(1, 2).flatten(2)
        heads = concatenation.unflatten(-1, (self.relation_heads, -1)).transpose(1, 2)
        return log_relations(heads, heads, mask)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the divergence of the student's relations from the teacher's."""
        distances = [
            relation_distance(
                self._log_relations(teacher_parts[-1], context.mask),
                self._log_relations(student_parts[-1], context.mask),
                context.mask,
            )
            for student_parts, teacher_parts in (
                (student.queries, teacher.queries),
                (student.keys, teacher.keys),
                (student.values, teacher.values),
            )
        ]
        return {"layer": torch.stack(distances).sum()}


class MiniLmV1(Method):
    """LAYER = KL(a_teacher ‖ a_student) + KL(v_teacher ‖ v_student) in the last layer.

    Paper: Wang et al. (2020), MiniLM, arXiv 2002.10957 (second-hand: the authors published models, but
    not the code of the losses). a = softmax(Q Kᵀ / √d) is the attention of each head, and v =
    softmax(V Vᵀ / √d) the relation of its values. Both sides use their last layer, and both parts have
    the same weight, as published. The student must have as many attention heads as its teacher; widths
    may differ. There is no teaching assistant.
    Reduction: KL sums over the tokens that a token attends to; then the mean over heads and tokens of an
    example, and the mean over examples. Padding is left out.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "minilm-v1"
    summary = "attention and value relations of the last layer, head by head"
    paper = "Wang et al. 2020, arXiv 2002.10957"
    form = "second-hand"
    needs = frozenset({"last-qkv"})
    space: ClassVar[Mapping[str, Hyper]] = _SPACE

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        if shapes.student_heads != shapes.teacher_heads:
            raise MethodError(
                "minilm-v1 needs a student with as many attention heads as its teacher "
                f"({shapes.student_heads} and {shapes.teacher_heads}); use minilm"
            )

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the divergence of attention plus that of the values' relations."""
        mask = context.mask

        def distance(one: str, two: str) -> Tensor:
            target, relations = (
                log_relations(
                    to_fp32(getattr(side, one)[-1]), to_fp32(getattr(side, two)[-1]), mask
                )
                for side in (teacher, student)
            )
            return relation_distance(target, relations, mask)

        return {"layer": distance("queries", "keys") + distance("values", "values")}
