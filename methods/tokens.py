"""Token-level matching: attention scores and token states.

The teacher runs in every step, because a cache of these tensors would be too large.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
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
    query_projection,
    require_depth,
    weight,
)
from harness.method.layer_maps import layer_pairs, skip_map
from harness.method.losses import cosine_distance, masked_mean, to_fp32
from harness.method.matching import layers_option


class TinyBert(Method):
    """LAYER = Σ_j MSE(a_j, a_A(j)) + Σ_j MSE(W h_j, h_A(j)): attention scores a, token states h.

    Paper: Jiao et al. (2020), TinyBERT, arXiv 1909.10351 (verified). The first sum has the m layers
    j = 1..m, the second one also the embeddings of both sides, j = 0. All 2m + 1 parts weigh the same,
    as in the authors' code. The authors train these terms before the outputs, on augmented data; here
    all terms are one objective. A(j) = j·n/m rounded half up. Scores are attention before the softmax. W
    is one learned map for all layers, without the authors' bias; between equal widths it starts at the
    identity (ours).
    Reduction: the mean over heads and all pairs of tokens of the batch (scores), or over width and all
    tokens of the batch (states), so that long examples weigh more; then the sum over layers. The authors
    do the same, but padding is left out here: their means are over padded tokens too, where scores of
    padding count as 0. The student must have as many heads as its teacher and must not be deeper.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "tinybert"
    summary = "attention scores and token states of every n/m-th layer"
    paper = "Jiao et al. 2020, arXiv 1909.10351"
    form = "verified"
    needs = frozenset({"tokens", "scores"})
    space: ClassVar[Mapping[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(0.1, 10.0, "around 1, the published weight"),
    }

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
        """`layer`: the squared distances of the scores and of the states, summed over layers."""
        mask = context.mask
        pairs = (mask[:, :, None] & mask[:, None, :])[:, None]
        distances = [
            masked_mean((to_fp32(scores) - to_fp32(teacher.scores[layer - 1])).square(), pairs)
            for scores, layer in zip(student.scores, self.layer_map, strict=True)
        ]
        distances += [
            masked_mean((self.state_map(states) - teacher.tokens[layer]).square(), mask[:, :, None])
            for states, layer in zip(student.tokens, [0, *self.layer_map], strict=True)
        ]
        return {"layer": torch.stack(distances).sum()}


class DistilBert(Method):
    """LAYER = mean over tokens of 1 − cos(W h_m, t_n), h and t the last layers' states of a token.

    Paper: Sanh et al. (2019), DistilBERT, arXiv 1910.01108 (verified): its cosine loss, with weight 1
    beside 5 for the logits and 2 for masked words. There it is a loss of pre-training; here the label
    loss takes the place of masked words. W is the identity, or a learned map if the widths differ (ours;
    the authors' widths are equal). `layers` = `mapped` takes the mean over all student layers j = 1..m,
    each with teacher layer j·n/m rounded half up; then the student must not be deeper than its teacher.
    Reduction: mean over all tokens of the batch, as published, so that long examples weigh more, and
    over layers. Padding is left out.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option layers.
    """

    name = "distilbert"
    summary = "angle between token states of the last layers, or of all student layers"
    paper = "Sanh et al. 2019, arXiv 1910.01108"
    form = "verified"
    needs = frozenset({"tokens"})
    space: ClassVar[Mapping[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(0.1, 10.0, "a distance of at most 2; published .2 of the logits'"),
        "layers": layers_option(default="last"),
    }

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        layers = str(structure["layers"])
        if layers == "mapped":
            require_depth(shapes, self.name)
        self.pairs = layer_pairs(shapes.student_layers, shapes.teacher_layers, layers)
        self.state_map = query_projection(shapes, generator)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the cosine distance of the tokens' states."""
        distances = [
            masked_mean(
                cosine_distance(self.state_map(student.tokens[j]), teacher.tokens[i]), context.mask
            )
            for j, i in self.pairs
        ]
        return {"layer": torch.stack(distances).mean()}
