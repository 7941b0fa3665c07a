"""EMD's plans: solved at once for all members, each as by itself."""

import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.runtime.device import Arithmetic
from harness.training.population import Population
from tests.harness.training.test_live_teacher import SHAPES, member, recipe
from tests.methods.builders import METHODS

MODULE = sys.modules[METHODS["emd"].__module__]


def random_costs(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) + 0.1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_plans_of_members_are_those_of_each_alone(place: int) -> None:
    costs = random_costs(5, 3, 6)
    moved = costs.movedim(0, place)
    plans = torch.func.vmap(MODULE.transport, in_dims=place)(moved)
    for plan, own in zip(plans, costs, strict=True):
        assert torch.equal(plan, MODULE.transport(own))
        assert plan.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert not torch.equal(plans[0], plans[1])
    nested = torch.func.vmap(torch.func.vmap(MODULE.transport))(costs[None])
    assert torch.equal(nested[0], plans)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_members_cost_that_is_not_finite_spoils_its_own_plan_alone(value: float) -> None:
    costs = random_costs(3, 2, 4)
    expected = torch.func.vmap(MODULE.transport)(costs)
    costs[1, 0, 2] = value
    plans = torch.func.vmap(MODULE.transport)(costs)
    assert plans[1].isnan().all()
    assert torch.equal(plans[[0, 2]], expected[[0, 2]])


def test_the_plans_of_a_step_are_computed_at_once(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is waited for once a step: the costs of all members come in one tensor."""
    shapes = []
    plans = MODULE._plans

    def noting(costs: Tensor) -> Tensor:
        shapes.append(tuple(costs.shape))
        result: Tensor = plans(costs)
        return result

    monkeypatch.setattr(MODULE, "_plans", noting)
    members = [member("emd", 1), member("kd", 2), member("emd", 3, layer_weight=0.3)]
    members.append(replace(member("emd", 1), seed=4))
    population = Population(members, recipe(arithmetic, "emd"))
    examples = torch.arange(8).expand(4, 8)
    for _ in range(2):
        population.train_batch(examples, 24, 0)
    assert shapes == [(3, SHAPES.student_layers, SHAPES.teacher_layers)] * 2
