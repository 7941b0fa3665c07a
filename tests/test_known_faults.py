"""Faults that public implementations are known to have: each has its test, here or named here."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.method import Value, View
from harness.models.teacher_outputs import TeacherOutputs
from harness.registry.discovery import registry
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import generator
from harness.training.loop import train_population
from harness.training.population import Population
from harness.training.recipe import Member, Recipe
from tests.harness.training.test_live_teacher import (
    BLUEPRINT,
    EXAMPLES,
    LAYERS,
    SETTING,
    SHAPES,
    member,
    recipe,
)

TESTS = Path(__file__).parent
ELSEWHERE = {
    "a weight that is declared and never read": (
        "methods/test_contract.py",
        "test_every_scalar_changes_the_gradient",
    ),
    "a teacher in train mode": (
        "harness/models/test_teacher_outputs.py",
        "test_a_teacher_in_train_mode_is_refused",
    ),
    "a live teacher in train mode": (
        "harness/training/test_live_teacher.py",
        "test_a_live_teacher_in_train_mode_is_refused",
    ),
    "examples in the same order for every seed": (
        "harness/data/test_batches.py",
        "test_order_differs_between_seeds_and_epochs_and_repeats_for_the_same",
    ),
    "a loss that depends on the size of the batch, as when it is divided after backward": (
        "methods/test_contract.py",
        "test_a_batch_that_is_doubled_has_the_same_terms_and_gradients",
    ),
    "a softmax without subtracting the maximum, in the outputs": (
        "harness/method/test_losses.py",
        "test_huge_logits_stay_finite",
    ),
    "a softmax without subtracting the maximum, in the attention": (
        "harness/method/test_losses.py",
        "test_attention_with_huge_energies_stays_finite",
    ),
    "labels in another order than the teacher's outputs": (
        "harness/models/test_families.py",
        "test_outputs_are_put_in_the_order_of_the_labels",
    ),
    "a teacher that is no better than the majority": (
        "harness/test_study.py",
        "test_a_weak_teacher_is_refused_with_its_numbers",
    ),
}


@pytest.mark.parametrize("fault", ELSEWHERE)
def test_the_test_of_a_known_fault_is_still_there(fault: str) -> None:
    file, name = ELSEWHERE[fault]
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def alp(**setting: Value) -> Member:
    return member("alp", 1, **setting)


def test_clipping_takes_student_and_projections_together(arithmetic: Arithmetic) -> None:
    """Adam's first moment after one step is a tenth of the clipped gradient."""
    limit = 1e-3
    shared = recipe(arithmetic, "alp", clip_norm=limit)
    population = Population([alp(layer_weight=100.0), alp(layer_weight=1e-6)], shared)
    rows = torch.arange(EXAMPLES).expand(2, -1)
    population.train_batch(rows, 24, 0)
    optimizer = population.optimizer
    for row in range(2):
        moments = [optimizer.adamw.state[view]["exp_avg"] for view in optimizer.views_of(row)]
        norm = torch.cat([moment.flatten() for moment in moments]).norm() / 0.1
        assert norm.item() == pytest.approx(limit, rel=1e-3)
    (leaf,) = (leaf for leaf in population.groups[0].leaves() if leaf.values.shape[1:] == (16, 16))
    projection = optimizer.adamw.state[dict(optimizer.views)[leaf][0]]["exp_avg"]
    assert projection.norm() > 0


def regression(arithmetic: Arithmetic, labels: int, outputs: int) -> Recipe:
    """Scores as labels, and a teacher's outputs, each drawn from a seed of its own."""

    def drawn(seed: int, *shape: int) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))

    return replace(
        recipe(arithmetic, "kd"),
        labels=drawn(labels, EXAMPLES),
        teacher=TeacherOutputs(
            drawn(outputs, EXAMPLES, 2), torch.zeros(EXAMPLES, LAYERS, 16, dtype=torch.float16)
        ),
        regression=True,
        view=View("cls"),
    )


def test_a_regressions_distillation_learns_the_teachers_outputs_and_not_the_labels(
    arithmetic: Arithmetic,
) -> None:
    kind = registry().resolve("kd")

    def trained(labels: int, outputs: int, kd_weight: float) -> torch.Tensor:
        own: dict[str, Value] = {**SETTING, "kd_weight": kd_weight}
        member = Member(BLUEPRINT.weights(1), kind(SHAPES, own, generator("kd")), own, 1)
        shared = regression(arithmetic, labels, outputs)
        population, _ = train_population([member], shared, lambda steps: None)
        return population.network.weights(0)["classifier.weight"]

    assert torch.equal(trained(1, 2, kd_weight=1.0), trained(3, 2, kd_weight=1.0))
    assert not torch.allclose(trained(1, 2, kd_weight=1.0), trained(1, 4, kd_weight=1.0))
    assert torch.equal(trained(1, 2, kd_weight=0.0), trained(1, 4, kd_weight=0.0))
