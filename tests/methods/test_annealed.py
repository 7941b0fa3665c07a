"""Losses that change with the progress of a training: targets, margins and factors by step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.method import Context
from harness.registry import made_up
from harness.registry.discovery import registry
from tests.methods.oracles import Batch
from tests.methods.test_oracles import (
    OPTIONS,
    SHAPE,
    all_differ,
    build,
    compare,
    draw,
    layers,
    term,
)

METHODS = ["annealing-kd", "continuation-kd"]
STEPS = 23
"""A prime number, so that no step is the first of a stage to the last bit."""
SCALARS = {
    **{"max_temperature": 4.0, "first_share": 0.7, "margin": 0.4, "logits_weight": 1.0},
    **{"label_start": 0.6, "label_height": 0.5},
}


def at(progress: float, **scalars: float) -> Batch:
    batch = draw(SHAPE, 7)
    return replace(batch, progress=progress, scalars={**batch.scalars, **SCALARS, **scalars})


def factors(name: str, progress: float, **scalars: float) -> dict[str, float]:
    """The factors of the losses, as numbers."""
    given = {key: torch.tensor(value) for key, value in (SCALARS | scalars).items()}
    mask = torch.ones(1, 1, dtype=torch.bool)
    context = Context(torch.tensor(0), given, mask, torch.tensor(progress))
    found = build(name, SHAPE, OPTIONS).factors(context)
    return {key: value.item() for key, value in found.items()}


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_targets_of_every_step_equal_plain_loops(name: str, outputs: int) -> None:
    """Classes and a regression: T_max temperatures, in equal parts of a stage."""
    shapes = replace(SHAPE, outputs=outputs)
    batch = replace(draw(shapes, 7), scalars=at(0).scalars)
    values = [compare(name, shapes, replace(batch, progress=step / STEPS)) for step in range(STEPS)]
    assert len(set(values)) == 4
    if name == "annealing-kd":
        lengths = [values.count(value) for value in dict.fromkeys(values)]
        assert lengths[:3] == [5, 4, 4]  # a quarter of 70 % is 4.025 steps


def test_the_first_target_is_the_softest_and_the_last_one_the_teachers() -> None:
    """T_max = 4: a quarter of the logits at the start, all of them at the end of the stage."""
    for name, last in (("annealing-kd", 0.69), ("continuation-kd", 0.99)):
        method = build(name, SHAPE, OPTIONS)
        for progress, factor in ((0.0, 0.25), (last, 1.0)):
            batch = at(progress, margin=1e-9)
            student = replace(layers(batch.student), logits=factor * layers(batch.teacher).logits)
            assert term(method, batch, student).item() == 0


def test_annealing_acts_in_two_stages() -> None:
    found = [factors("annealing-kd", step / STEPS) for step in range(STEPS)]
    first = [step / STEPS < 0.7 for step in range(STEPS)]
    assert found == [{"logits": float(one), "label": float(not one)} for one in first]
    assert sum(first) == 17


@pytest.mark.parametrize(("start", "height"), [(0.6, 0.5), (0.75, 1.0), (1.0, 0.3)])
def test_continuation_gives_the_weight_to_the_labels(start: float, height: float) -> None:
    for step in range(STEPS):
        done = step / STEPS
        label = height * done / start if done < start else 1.0
        found = factors("continuation-kd", done, label_start=start, label_height=height)
        assert found == pytest.approx({"label": label, "logits": 1 - label}, abs=1e-6)


def test_the_default_weights_are_the_papers_for_glue() -> None:
    """ψ is i / 40 in epochs 1 to 20 of 30, and 1 after them."""
    space = registry().resolve("continuation-kd").space
    given = {name: space[name].default for name in ("label_start", "label_height")}
    for epoch in range(30):
        expected = epoch / 40 if epoch < 20 else 1.0
        found = factors("continuation-kd", epoch / 30 + 1e-6, **given)  # type: ignore[arg-type]
        assert found["label"] == pytest.approx(expected, abs=1e-4)


def test_errors_below_the_margin_have_no_gradient() -> None:
    """Each example's gradient is that of its error, or 0: the gradient of GLMKD's loss."""
    batch, factor = at(0.3, margin=2.0), 0.5
    student = layers(batch.student)
    student.logits.requires_grad_()
    (found,) = torch.autograd.grad(
        term(build("continuation-kd", SHAPE, OPTIONS), batch, student), student.logits
    )
    expected, counts = np.zeros((7, 3)), []
    for b, (ours, theirs) in enumerate(
        zip(batch.student.logits, batch.teacher.logits, strict=True)
    ):
        counts.append(sum((z - factor * t) ** 2 for z, t in zip(ours, theirs, strict=True)) / 3 > 1)
        if counts[-1]:
            expected[b] = [2 * (z - factor * t) / 21 for z, t in zip(ours, theirs, strict=True)]
    assert {*counts} == {True, False}
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_without_a_margin_both_have_the_same_term() -> None:
    values = [
        term(build(name, SHAPE, OPTIONS), at(0.3, margin=0.0, first_share=1.0)) for name in METHODS
    ]
    assert torch.equal(*values)
    assert all_differ([compare("continuation-kd", SHAPE, at(0.3, margin=m)) for m in (0.1, 0.4)])


def test_other_methods_have_no_factors() -> None:
    with_factors = {
        name
        for name, method in registry().methods.items()
        if method.__module__.startswith("methods.")
        and build(name, SHAPE, OPTIONS).factors(made_up.context(made_up.middle(method)))
    }
    assert with_factors == {*METHODS}
