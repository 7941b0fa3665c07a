"""When each loss acts: against a plain loop in float64, in populations, and in recorded steps."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.method import Method
from harness.method.losses import objective
from harness.models.network import Leaf
from harness.registry.discovery import registry
from harness.runtime.device import Arithmetic
from harness.training.recipe import Member, Recipe
from harness.training.stages import kind_of, staged, stages_of
from tests.harness.training.plain_loop import calm, last_state_member, plain_curves
from tests.harness.training.test_loop import close, member, recipe, train
from tests.recorded import RecordedGraphs


def after(step: int, steps: int, share: float) -> float:
    """The share of a ramp that is behind in a step: 0 in the first one, 1 in the last one."""
    return min(step / (round(share * steps) - 1), 1.0)


def layers_first(step: int, steps: int) -> tuple[float, float, float]:
    return (0.0, 0.0, 0.7) if step < 0.3 * steps else (0.6, 0.4, 0.0)


def layers_fall(step: int, steps: int) -> tuple[float, float, float]:
    return 0.6, 0.4, 0.7 * (1 - after(step, steps, 0.5))


def logits_rise(step: int, steps: int) -> tuple[float, float, float]:
    kd = 0.4 * after(step, steps, 1)
    return 1 - kd, kd, 0.7


def both(step: int, steps: int) -> tuple[float, float, float]:
    kd, layer = 0.4 * (1 - after(step, steps, 1)), 0.7 * after(step, steps, 1)
    return 1 - kd - layer, kd, layer


CASES = [
    ("constant", "convex", lambda step, steps: (0.6, 0.4, 0.7)),
    ("layers-first:0.3", "convex", layers_first),
    ("layers-fall:0.5", "convex", layers_fall),
    ("logits-rise", "convex", logits_rise),
    ("layers-rise+logits-fall", "simplex", both),
]


@pytest.mark.parametrize(
    ("stages", "weights", "by_step", "engine"),
    [(*case, "stacked") for case in CASES] + [(*CASES[1], "reference")],
)
def test_a_run_is_that_of_a_plain_loop_in_float64(
    arithmetic: Arithmetic, stages: str, weights: str, by_step: object, engine: str
) -> None:
    shared = replace(
        calm(recipe(arithmetic, examples=20, batch_size=4, stages=stages, engine=engine)),
        weights=weights,
    )
    others = [] if engine == "reference" else [member("kd", 2), last_state_member(3)]
    outcome = train([last_state_member(), *others], shared)[0]
    expected = plain_curves(shared, by_step)  # type: ignore[arg-type]
    assert len(expected) == 2
    for found, one in zip(outcome.curves, expected, strict=True):
        assert found == pytest.approx(one, rel=2e-4, abs=1e-5)
    if stages != "constant":
        plain = plain_curves(shared, CASES[0][2])
        assert plain[1]["total"] != pytest.approx(expected[1]["total"], rel=1e-2)


def test_staged_losses_are_the_same_alone_and_in_any_population(arithmetic: Arithmetic) -> None:
    names = ["alp", "kd", "pkd", "alp"]

    def members() -> list[Member]:
        return [member(name, seed) for seed, name in enumerate(names)]

    shared = recipe(arithmetic, stages="layers-first")
    together = [outcome.curves for outcome in train(members(), shared)]
    for place, found in enumerate(together):
        close(found, train([members()[place]], shared)[0].curves)


def test_methods_without_layer_terms_have_no_first_stage(arithmetic: Arithmetic) -> None:
    """Their steps are those of a constant training, to the last bit."""
    curves = {
        stages: [
            train([member(name, 1)], recipe(arithmetic, stages=stages))[0].curves
            for name in ("kd", "finetune", "alp")
        ]
        for stages in ("constant", "layers-first", "layers-rise")
    }
    for stages in ("layers-first", "layers-rise"):
        assert curves[stages][:2] == curves["constant"][:2]
        assert curves[stages][2] != curves["constant"][2]


@pytest.mark.parametrize("stages", ["layers-first:0.4", "layers-fall+logits-rise:0.5"])
def test_recorded_steps_read_the_factors_of_their_own_step(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch, stages: str
) -> None:
    shared = recipe(arithmetic, epochs=3, stages=stages)

    def run() -> list[list[dict[str, float]]]:
        return [outcome.curves for outcome in train([member("alp", 1), member("kd", 2)], shared)]

    expected = run()
    made: list[RecordedGraphs] = []

    def make(recipe: Recipe, methods: Sequence[Method], leaves: Sequence[Leaf]) -> RecordedGraphs:
        made.append(RecordedGraphs())
        return made[-1]

    monkeypatch.setattr("harness.training.population.make_graphs", make)
    assert run() == expected
    assert sum(recording.replays for recording in made[0].graphs.values()) > 3  # type: ignore[attr-defined]


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


TERMS = {name: scalar(value) for name, value in (("label", 2.3), ("kd", 3.1), ("layer", 5.7))}
SCALARS = {"kd_weight": scalar(0.37), "layer_weight": scalar(0.21), "temperature": scalar(4.0)}


@pytest.mark.parametrize("weights", ["convex", "simplex"])
@pytest.mark.parametrize(("kind", "term"), [("logits", "kd"), ("layers", "layer")])
def test_a_weight_of_zero_gives_exactly_the_loss_without_the_term(
    weights: str, kind: str, term: str
) -> None:
    factors = torch.tensor([0.0, 0.0, 0.0])  # of the kinds that have stages
    found = objective(*staged(TERMS, SCALARS, factors, {kind}), weights)  # type: ignore[arg-type]
    others = {name: value for name, value in TERMS.items() if name != term}
    assert torch.equal(found, objective(others, SCALARS, weights))
    alone = objective(*staged(TERMS, SCALARS, torch.tensor([0, 0, 1.0]), KINDS), weights)
    assert torch.equal(alone, SCALARS["layer_weight"] * TERMS["layer"])


KINDS = {"label", "logits", "layers"}


def test_the_kinds_of_terms_and_methods() -> None:
    assert [kind_of(name) for name in ("label", "kd", "logits", "layer", "values")] == [
        *("label", "logits", "logits", "layers", "layers")
    ]
    resolve = registry().resolve
    assert stages_of(None, "layers-first").text == "constant"
    assert stages_of(resolve("kd"), "layers-first").text == "constant"
    assert stages_of(resolve("alp"), "layers-first").text == "layers-first:0.5"
    assert stages_of(resolve("kd"), "layers-fall+logits-rise").text == "logits-rise:1"
    assert stages_of(resolve("dkd"), "logits-fall").text == "logits-fall:1"
    assert stages_of(resolve("finetune"), "logits-rise").text == "constant"
