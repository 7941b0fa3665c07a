"""Many-to-many matching of layers by optimal transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.method import (
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    Value,
    query_projection,
)
from harness.method.matching import MIXED

LEAST_COST = 1e-12
"""Below it a layer's cost is not inverted."""


class Emd(Method):
    """LAYER = Σ_ji P_ji D_ji, D_ji = MSE(u_j, t_i), P the cheapest transport from student to teacher.

    Paper: Li et al. (2020), BERT-EMD, EMNLP, arXiv 2010.06133 (verified: cost, transport, detached
    plan). u_j is s_j, or W·s_j with W learned when the widths differ. P is the optimal plan (by POT)
    and carries no gradient. Its marginals say what layers count: from a plan with uniform ones every
    layer has a cost per unit of mass; the marginals are proportional to the inverse costs, and a second
    plan has those. Deviations: the authors carry the weights from step to step, here each batch has its
    own, so that a term is a function of its inputs; pooled states instead of those of all tokens, and
    no attention maps. A layer of zero cost takes nearly all mass, where the authors leave it out. Plans
    are found outside of torch: runs are trained together, but their terms are not batched, and a GPU
    waits for each plan. Reduction: mean over width and examples, weighted sum over pairs of layers.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "emd"
    summary = "every student layer matches all teacher layers, weighted by optimal transport"
    paper = "Li et al. 2020, arXiv 2010.06133"
    form = "verified"
    batched = False
    space: ClassVar[Mapping[str, Hyper]] = MIXED

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], generator: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, generator)
        self.query = query_projection(shapes, generator)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """`layer`: the cost of the transport."""
        queries = self.query(student.states)
        pairs = queries[:, :, None] - teacher.states[:, None]
        costs = pairs.square().mean(dim=(0, 3))
        return {"layer": (transport(costs.detach()) * costs).sum()}


def transport(costs: Tensor) -> Tensor:
    """The plan (m, n), of mass 1, for costs (m, n), between marginals of inverse cost."""
    import ot  # it takes a second to import, and most commands need no plan

    found = costs.double().cpu().numpy()
    if not np.isfinite(found).all():
        return torch.full_like(costs, torch.nan)
    students, teachers = (np.full(size, 1.0 / size) for size in found.shape)
    spent = ot.emd(students, teachers, found) * found
    plan = ot.emd(
        _inverse(spent.sum(axis=1) / students), _inverse(spent.sum(axis=0) / teachers), found
    )
    return torch.from_numpy(plan).to(costs)


def _inverse(costs: np.ndarray) -> np.ndarray:
    shares = 1.0 / np.maximum(costs, LEAST_COST)
    marginal: np.ndarray = shares / shares.sum()
    return marginal
