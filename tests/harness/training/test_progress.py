"""The progress of a training in a method's context, and the factors of losses that follow it."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from harness.method import Context, Hyper, Layers, Method, Shapes, Value, weight
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import generator
from harness.training.recipe import Member
from tests.harness.training.plain_loop import calm
from tests.harness.training.test_loop import BLUEPRINT, LAYERS, WIDTH, close, member, recipe, train

SETTING: dict[str, Value] = {
    **{"learning_rate": 1e-3, "logits_weight": 0.5, "max_temperature": 3, "margin": 0.2},
    **{"first_share": 0.6, "label_start": 0.7, "label_height": 0.5},
}


class Clock(Method):
    """The term and its factor are the progress, and no label acts. Hyper-parameter: logits_weight."""

    name, summary, paper = "clock", "the progress", "-"
    space: ClassVar[dict[str, Hyper]] = {"logits_weight": weight(0.1, 10.0, "-")}

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        return {"logits": 0 * student.logits.sum() + context.progress}

    def factors(self, context: Context) -> dict[str, Tensor]:
        return {"label": torch.zeros_like(context.progress), "logits": context.progress}


def clock(seed: int = 1) -> Member:
    method = Clock(Shapes(LAYERS, WIDTH, 2, WIDTH, 2), {}, generator("method", seed))
    return Member(BLUEPRINT.weights(seed), method, SETTING, seed)


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_progress_is_the_share_of_steps_that_are_done(arithmetic: Arithmetic, engine: str) -> None:
    """10 steps in two epochs: 0 to .4, and .5 to .9. The factors multiply the losses."""
    shared = recipe(arithmetic, engine=engine)
    others = [] if engine == "reference" else [member("kd", 2), clock(3)]
    curves = train([clock(), *others], shared)[0].curves
    for epoch, found in enumerate(curves):
        shares = [(5 * epoch + step) / 10 for step in range(5)]
        assert found["logits"] == pytest.approx(sum(shares) / 5, abs=1e-6)
        total = 0.5 * sum(share**2 for share in shares) / 5
        assert found["total"] == pytest.approx(total, abs=1e-6)
        assert found["label"] > 0.1


@pytest.mark.parametrize("name", ["annealing-kd", "continuation-kd"])
def test_annealed_runs_are_the_same_alone_and_in_any_population(
    arithmetic: Arithmetic, name: str
) -> None:
    def members() -> list[Member]:
        settings = [SETTING, {**SETTING, "max_temperature": 2, "first_share": 0.8, "margin": 0.5}]
        return [member(name, seed, **one) for seed, one in enumerate(settings)] + [member("kd", 3)]

    shared = recipe(arithmetic)
    together = [outcome.curves for outcome in train(members(), shared)]
    for place, found in enumerate(together):
        close(found, train([members()[place]], shared)[0].curves)
    (alone,) = train([members()[0]], calm(shared))
    model = train([members()[0]], calm(recipe(arithmetic, engine="reference")))[0]
    for found, expected in zip(alone.curves, model.curves, strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_second_stage_trains_on_labels_alone(arithmetic: Arithmetic) -> None:
    """A stage of half the steps ends with the first of two epochs."""
    shared = recipe(arithmetic)
    first, second = train([member("annealing-kd", 1, **{**SETTING, "first_share": 0.5})], shared)[
        0
    ].curves
    assert first["total"] == pytest.approx(0.5 * first["logits"], rel=1e-5)
    assert second["total"] == pytest.approx(second["label"], rel=1e-5)
