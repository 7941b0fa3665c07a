"""Loss terms against numpy, scipy and formulas worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor

from harness.method.losses import (
    distillation_loss,
    label_loss,
    layer_attention,
    mean_squared_error,
    mix_layers,
    normalised_squared_error,
    objective,
)


def logits(seed: int, examples: int = 5, classes: int = 3) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(examples, classes)) * 2)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 2.5, 10.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_distillation_is_t_squared_kl_summed_over_classes_mean_over_examples(
    temperature: float, classes: int
) -> None:
    student, teacher = logits(0, classes=classes), logits(1, classes=classes)
    expected = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        expected += rel_entr(softmax(t / temperature), softmax(s / temperature)).sum()
    expected *= temperature**2 / len(student)
    found = distillation_loss(student, teacher, scalar(temperature), False)
    assert found.item() == pytest.approx(expected, abs=1e-10)


def test_distillation_is_zero_for_equal_distributions_and_not_symmetric() -> None:
    student, teacher = logits(0), logits(1)
    same = distillation_loss(teacher + 3.0, teacher, scalar(2.0), False)
    assert same.item() == pytest.approx(0.0, abs=1e-12)
    forward = distillation_loss(student, teacher, scalar(2.0), False).item()
    assert forward != pytest.approx(distillation_loss(teacher, student, scalar(2.0), False).item())


def test_distillation_at_high_temperature_matches_centred_logits() -> None:
    """T(q − p)/B with softmax(z/T) ≈ (1 + (z − mean z)/T)/C gives (centred s − centred t)/(C·B)."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    (found,) = torch.autograd.grad(distillation_loss(student, teacher, scalar(1e5), False), student)
    centred = [z - z.mean(dim=1, keepdim=True) for z in (student.detach(), teacher)]
    torch.testing.assert_close(found, (centred[0] - centred[1]) / (3 * 5), rtol=1e-3, atol=1e-6)
    (low,) = torch.autograd.grad(distillation_loss(student, teacher, scalar(1.0), False), student)
    assert not torch.allclose(low, found, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_huge_logits_stay_finite(size: float) -> None:
    student = torch.tensor([[size, -size, 0.0], [-size, size, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-size, size, 0.0], [-size, size, 0.0]])
    for loss in (
        label_loss(student, torch.tensor([1, 1]), False),
        distillation_loss(student, teacher, torch.tensor(1.0), False),
    ):
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
        assert loss.detach().item() == pytest.approx(size, rel=1e-3)  # 2·size and 0, averaged


def test_label_loss_is_mean_cross_entropy() -> None:
    student, labels = logits(2), np.array([0, 2, 1, 1, 0])
    expected = -log_softmax(student.numpy(), axis=1)[np.arange(5), labels].mean()
    found = label_loss(student, torch.from_numpy(labels), False)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_regression_is_squared_error_and_ignores_the_temperature() -> None:
    student = torch.tensor([[1.0], [4.0]], dtype=torch.float64)
    teacher = torch.tensor([[2.0], [1.0]], dtype=torch.float64)
    assert label_loss(student, torch.tensor([0.0, 2.0]), True).item() == pytest.approx(2.5)
    for temperature in (1.0, 7.0):
        found = distillation_loss(student, teacher, scalar(temperature), True)
        assert found.item() == pytest.approx((1.0 + 9.0) / 2)


TERMS = {"label": scalar(2.0), "kd": scalar(3.0), "layer": scalar(5.0)}
WEIGHTS = {
    "kd_weight": scalar(0.3),
    "layer_weight": scalar(0.2),
    "values_weight": scalar(0.1),
    "temperature": scalar(4.0),
}


@pytest.mark.parametrize(
    ("terms", "weights", "expected"),
    [
        (TERMS, "convex", 0.7 * 2 + 0.3 * 3 + 0.2 * 5),
        (TERMS, "simplex", 0.5 * 2 + 0.3 * 3 + 0.2 * 5),
        ({**TERMS, "values": scalar(7.0)}, "convex", 0.7 * 2 + 0.3 * 3 + 0.2 * 5 + 0.1 * 7),
        ({**TERMS, "values": scalar(7.0)}, "simplex", 0.4 * 2 + 0.3 * 3 + 0.2 * 5 + 0.1 * 7),
        ({"label": scalar(2.0), "kd": scalar(3.0)}, "convex", 0.7 * 2 + 0.3 * 3),
        ({"label": scalar(2.0), "kd": scalar(3.0)}, "simplex", 0.7 * 2 + 0.3 * 3),
        ({"label": scalar(2.0)}, "convex", 2.0),
        ({"label": scalar(2.0)}, "simplex", 2.0),
    ],
)
def test_objective_by_hand(terms: dict[str, Tensor], weights: str, expected: float) -> None:
    assert objective(terms, WEIGHTS, weights).item() == pytest.approx(expected, abs=1e-12)


def test_a_term_without_a_weight_is_an_error_and_never_dropped() -> None:
    with pytest.raises(KeyError, match="unheard_weight"):
        objective({**TERMS, "unheard": scalar(1.0)}, WEIGHTS, "convex")


def test_errors_of_states_by_hand() -> None:
    states = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]], dtype=torch.float64)
    targets = torch.tensor([[[3.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    assert mean_squared_error(states, targets).item() == pytest.approx((16 + 1) / 4)
    # (.6, .8) against (1, 0), and two equal directions.
    expected = (0.4**2 + 0.8**2) / 4
    assert normalised_squared_error(states, targets).item() == pytest.approx(expected)


@pytest.mark.parametrize("scaled", [True, False])
def test_attention_by_hand(scaled: bool) -> None:
    queries = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    keys = torch.tensor([[[2.0, 9, 9, 9], [0.0, 9, 9, 9]]], dtype=torch.float64)
    first = 1 / (1 + math.exp(-2 / (2 if scaled else 1)))
    found = layer_attention(queries, keys, scaled)
    torch.testing.assert_close(found, torch.tensor([[[first, 1 - first]]]).double())
    mixed = mix_layers(found, keys)
    assert mixed[0, 0].tolist() == pytest.approx([2 * first, 9, 9, 9])


def test_attention_with_huge_energies_stays_finite() -> None:
    queries = torch.full((1, 1, 4), 1e10)
    keys = torch.stack([torch.full((4,), 1e10), torch.full((4,), -1e10)])[None]
    assert layer_attention(queries, keys, False).tolist() == [[[1.0, 0.0]]]
