"""Relations between the examples of a batch: distances, angles and similarities.

A batch of one example has no relations: its terms are 0, or constant.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from optuna.distributions import FloatDistribution
from torch import Tensor

from harness.method import (
    DISTILLATION,
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    query_projection,
    require_depth,
    weight,
)
from harness.method.layer_maps import layer_pairs
from harness.method.matching import layers_option


class ExampleRelations(Method):
    """LAYER = mean over pairs (j, i) of layers of a distance between the relations in s_j and t_i.

    The option `layers` chooses the pairs. A subclass has the distance.
    """

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        layers = str(structure["layers"])
        if layers == "mapped":
            require_depth(shapes, self.name)
        pairs = torch.tensor(layer_pairs(shapes.student_layers, shapes.teacher_layers, layers)) - 1
        for side, indices in zip(("student", "teacher"), pairs.unbind(1), strict=True):
            self.register_buffer(f"{side}_layers", indices)
        self.student_layers: Tensor
        self.teacher_layers: Tensor

    @abstractmethod
    def distances(self, states: Tensor, targets: Tensor, scalars: Mapping[str, Tensor]) -> Tensor:
        """The distances (pairs,) of states (pairs, B, width) to targets (pairs, B, teacher's width)."""

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the mean distance of the pairs."""
        states = student.states.index_select(1, self.student_layers).transpose(0, 1)
        targets = teacher.states.index_select(1, self.teacher_layers).transpose(0, 1)
        return {"layer": self.distances(states, targets, context.scalars).mean()}


def _sqrt(values: Tensor) -> tuple[Tensor, Tensor]:
    """Square roots, and where they are not 0. A root of 0 is given as 1 and has no gradient."""
    is_positive = values > 0
    return torch.where(is_positive, values, 1.0).sqrt(), is_positive


def distances_and_angles(states: Tensor) -> tuple[Tensor, Tensor]:
    """Relations of examples with states (pairs, B, width).

    Returns:
        Euclidean distances (pairs, B, B), divided by the mean of those that are not 0.
        Cosines (pairs, B, B, B) of the angle at the first example between the other two, 0 where two
        of them are the same.
    """
    differences = states[:, None] - states[:, :, None]
    roots, are_apart = _sqrt(differences.square().sum(dim=-1))
    lengths = torch.where(are_apart, roots, 0.0)
    count = are_apart.sum(dim=(1, 2), keepdim=True)
    mean = lengths.sum(dim=(1, 2), keepdim=True) / count.clamp(min=1)
    directions = differences / roots[..., None]
    return (
        lengths / torch.where(count > 0, mean, 1.0),
        directions @ directions.transpose(-1, -2),
    )


def _huber(errors: Tensor) -> Tensor:
    """Huber's loss with threshold 1 of errors (pairs, ...): mean over all but the pairs."""
    sizes = errors.abs()
    return torch.where(sizes < 1, 0.5 * sizes.square(), sizes - 0.5).flatten(1).mean(dim=1)


class Rkd(ExampleRelations):
    """LAYER = mean_ab huber(ψ_S(a, b) − ψ_T(a, b)) + r·mean_abc huber(φ_S(a, b, c) − φ_T(a, b, c)).

    Paper: Park, Kim, Lu, Cho (2019), Relational Knowledge Distillation, CVPR, arXiv 1904.05068
    (verified). ψ is the distance of two examples of the batch, divided by the mean distance; φ is the
    cosine of the angle at one example between two others. The published weights are 25 and 50: r =
    `angle_ratio` = 2 and λ = 25. States are pooled, of the last layers; `layers` = `mapped` takes the
    mean over all student layers, each with teacher layer j·n/m rounded half up, if the student is not
    deeper than its teacher. Widths may differ, without a learned map.
    Reduction: mean over all pairs, and over all triples, of the batch (an example with itself counts as
    0), and over layers. Distances that are 0 have no gradient.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); options angle_ratio (r), layers.
    """

    name = "rkd"
    summary = "distances and angles between the examples of a batch"
    paper = "Park et al. 2019, arXiv 1904.05068"
    form = "verified"
    space: ClassVar[Mapping[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(1.0, 100.0, "around the published 25"),
        "angle_ratio": Hyper(
            FloatDistribution(0.1, 10.0, log=True),
            "scalar",
            "the angles' weight over the distances': published 50 and 25",
            default=2.0,
        ),
        "layers": layers_option(default="last"),
    }

    def distances(self, states: Tensor, targets: Tensor, scalars: Mapping[str, Tensor]) -> Tensor:
        """Huber's losses of the distances and of the angles."""
        lengths, angles = distances_and_angles(states)
        target_lengths, target_angles = distances_and_angles(targets)
        ratio = scalars["angle_ratio"]
        return _huber(lengths - target_lengths) + ratio * _huber(angles - target_angles)


class Cka(ExampleRelations):
    """LAYER = mean_j 1 − CKA(s_j, t_A(j)): linear centred kernel alignment over the batch's examples.

    Paper: Kornblith et al. (2019), arXiv 1905.00414, for the measure; as a loss between layers of BERT
    by Jung et al. (2023), arXiv 2204.08922 (verified; they take −log CKA of all tokens' states). CKA =
    ⟨K, L⟩ / (‖K‖·‖L‖), K and L the products of the centred states of every two examples. It is 1 if one
    side is the other one rotated and scaled. A(j) = j·n/m rounded half up, and the student must not be
    deeper than its teacher; `layers` = `last` takes the last layers alone. Widths may differ, without a
    learned map.
    Reduction: mean over layers; CKA is one number for a batch. Where a side is constant the term is 0.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option layers.
    """

    name = "cka"
    summary = "linear centred kernel alignment of the batch's examples, layer by layer"
    paper = "Kornblith et al. 2019, arXiv 1905.00414; Jung et al. 2023, arXiv 2204.08922"
    form = "verified"
    space: ClassVar[Mapping[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(0.1, 100.0, "a number from 0 to 1; published 30 for −log CKA"),
        "layers": layers_option(default="mapped"),
    }

    def distances(self, states: Tensor, targets: Tensor, scalars: Mapping[str, Tensor]) -> Tensor:
        """1 − CKA."""
        kernels = []
        for side in (states, targets):
            centred = side - side.mean(dim=1, keepdim=True)
            kernels.append((centred @ centred.transpose(1, 2)).flatten(1))
        one, two = kernels
        norms, are_varied = zip(
            *(_sqrt(kernel.square().sum(dim=1)) for kernel in kernels), strict=True
        )
        alignment = (one * two).sum(dim=1) / (norms[0] * norms[1])
        return torch.where(are_varied[0] & are_varied[1], 1 - alignment, 0.0)


class Spkd(ExampleRelations):
    """LAYER = mean_a ‖ norm(G_S[a]) − norm(G_T[a]) ‖², G = S Sᵀ the products of the batch's states.

    Paper: Tung, Mori (2019), Similarity-Preserving Knowledge Distillation, ICCV, arXiv 1907.09682
    (verified in a public reimplementation, mdistiller). Rows of G are scaled to unit length. States are
    pooled, of the last layers; `layers` = `mapped` takes the mean over all student layers, each with
    teacher layer j·n/m rounded half up, if the student is not deeper than its teacher. Widths may
    differ, without a learned map.
    Reduction: sum over a row, mean over examples and layers. The paper divides by the examples once
    more: its weight 3000 at 32 examples is 94 here.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option layers.
    """

    name = "spkd"
    summary = "similarities between the examples of a batch"
    paper = "Tung, Mori 2019, arXiv 1907.09682"
    form = "verified"
    space: ClassVar[Mapping[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(1.0, 1000.0, "around 94, the published 3000 at 32 examples"),
        "layers": layers_option(default="last"),
    }

    def distances(self, states: Tensor, targets: Tensor, scalars: Mapping[str, Tensor]) -> Tensor:
        """Squared distances of the rows."""
        one, two = (F.normalize(side @ side.transpose(1, 2), dim=-1) for side in (states, targets))
        return (one - two).square().sum(dim=-1).mean(dim=-1)


class CosNce(ExampleRelations):
    """LAYER = mean_ja g(a, a) + ½ mean_b (2 − g(a, b) + g(a, a)), g(a, b) = 1 − cos(u_ja, t_A(j)b).

    Paper: Fu et al. (2021), LRC-BERT, AAAI, arXiv 2012.07335 (verified in a public reimplementation; the
    authors published no code), its COS-NCE loss: example a's state is drawn to the teacher's state of a,
    and pushed away from the teacher's states of other examples b. u_j is s_j, or W·s_j with a learned W
    if the widths differ. A(j) = j·n/m rounded half up, and the student must not be deeper than its
    teacher; `layers` = `last` takes the last layers alone. The negatives b are the batch (ours; the
    paper draws K other examples). a itself is among them, where it adds the constant 1: so the contrast
    weighs (B − 1)/B of that with B − 1 drawn negatives. Gradient perturbation and the two stages of
    training are left out.
    Reduction: mean over examples and layers.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ); option layers.
    """

    name = "cos-nce"
    summary = "angles to the same example's state, against those to other examples'"
    paper = "Fu et al. 2021, arXiv 2012.07335"
    form = "verified"
    space: ClassVar[Mapping[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(0.1, 10.0, "around 1, the published weight"),
        "layers": layers_option(default="mapped"),
    }

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.query = query_projection(shapes, generator)

    def distances(self, states: Tensor, targets: Tensor, scalars: Mapping[str, Tensor]) -> Tensor:
        """The angular distances to the own target, and the contrast to all targets."""
        queries, keys = F.normalize(self.query(states), dim=-1), F.normalize(targets, dim=-1)
        distances = 1 - queries @ keys.transpose(1, 2)
        own = distances.diagonal(dim1=1, dim2=2)
        contrast = (2 - distances + own[:, :, None]).mean(dim=2)
        return (own + contrast / 2).mean(dim=1)
