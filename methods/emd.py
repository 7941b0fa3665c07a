"""Many-to-many matching of layers by optimal transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
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
from harness.method.matching import MIXTURE_SPACE

MINIMUM_COST = 1e-12
"""A smaller cost counts as this cost, so that every layer's cost has an inverse."""


class Emd(Method):
    """LAYER = Σ_ji P_ji D_ji, D_ji = MSE(u_j, t_i), P the cheapest transport from student to teacher.

    Paper: Li et al. (2020), BERT-EMD, EMNLP, arXiv 2010.06133 (verified: cost, transport, detached
    plan). u_j is s_j, or W·s_j with a learned W if the widths differ. P is an optimal plan (by POT) and
    carries no gradient. Its marginals are the weights of the layers, and they come from a first plan
    with uniform marginals: this plan gives each layer a cost for each unit of mass, and a layer's weight
    is proportional to the inverse of its cost. Deviations: the authors carry the weights from step to
    step, here each batch has weights of its own, so that a term is a function of its inputs; the authors
    match the states of all tokens and attention maps, here pooled states alone; the authors leave out a
    layer of zero cost, here such a layer takes nearly all mass. POT works on the CPU: in each step the
    costs of all runs are copied there at once, and the CPU waits for a GPU once. Reduction: mean over
    width and examples, weighted sum over pairs of layers.
    Hyper-parameters: temperature, kd_weight (η), layer_weight (λ).
    """

    name = "emd"
    summary = "every student layer matches all teacher layers, weighted by optimal transport"
    paper = "Li et al. 2020, arXiv 2010.06133"
    form = "verified"
    space: ClassVar[Mapping[str, Hyper]] = MIXTURE_SPACE
    supports_graphs = False

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
        return {"layer": (transport(costs) * costs).sum()}


class _Transport(torch.autograd.Function):
    """`_plans` for autograd, to which a plan is a constant, and for `vmap`: once for all members."""

    @staticmethod
    def forward(costs: Tensor) -> Tensor:
        return _plans(costs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], costs: Tensor) -> tuple[Tensor, int]:
        return transport(costs.movedim(in_dims[0], 0)), 0


def transport(costs: Tensor) -> Tensor:
    """The plans (..., m, n) for costs (..., m, n), each by itself, without gradients.

    A plan's mass is 1, and its marginals are inverse costs of the layers. The plan for costs that are
    not all finite is NaN.
    """
    plans: Tensor = _Transport.apply(costs)  # type: ignore[no-untyped-call]
    return plans


def _plans(costs: Tensor) -> Tensor:
    """The plans (..., m, n), by one copy of all costs to the CPU. Here a GPU is waited for."""
    matrices = costs.double().cpu().numpy().reshape(-1, *costs.shape[-2:])
    plans = np.stack([_plan(matrix) for matrix in matrices]).reshape(costs.shape)
    return torch.from_numpy(plans).to(costs, non_blocking=True)


def _plan(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The plan (m, n) for costs (m, n)."""
    import ot  # the import takes a second, and most commands need no plan

    if not np.isfinite(costs).all():
        return np.full_like(costs, np.nan)
    student_masses, teacher_masses = (np.full(size, 1.0 / size) for size in costs.shape)
    pair_costs = ot.emd(student_masses, teacher_masses, costs) * costs
    student_weights = _inverse(pair_costs.sum(axis=1) / student_masses)
    teacher_weights = _inverse(pair_costs.sum(axis=0) / teacher_masses)
    plan: npt.NDArray[np.float64] = ot.emd(student_weights, teacher_weights, costs)
    return plan


def _inverse(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shares = 1.0 / np.maximum(costs, MINIMUM_COST)
    marginal: npt.NDArray[np.float64] = shares / shares.sum()
    return marginal
