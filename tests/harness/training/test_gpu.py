"""Training on a CUDA device, wherever torch sees one: every method trains, as on the CPU.

    pytest -m gpu

The CPU is the oracle, in fp32. On a device that computes nothing only the tests named `..._trains_...`
can pass.
"""

import copy
from dataclasses import replace

import pytest
import torch

from harness.kernels.support import lack_on_gpu
from harness.method import Pooling
from harness.runtime.device import Arithmetic, choose_arithmetic
from harness.runtime.randomness import DropoutKey
from harness.training.population import Population
from harness.training.recipe import Member, Recipe
from harness.training.step_graphs import StepGraphs, can_capture
from tests.harness.training.test_live_teacher import (
    METHODS,
    STEPS,
    curves,
    member,
    recipe,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
needs_kernels = pytest.mark.skipif(
    lack_on_gpu() is not None, reason="graphs need kernels, which this GPU lacks"
)
ENGINES = ["stacked", "reference"]
PRECISIONS = ["fp32", "tf32", "auto"]


def on_gpu(shared: Recipe, precision: str = "fp32") -> Recipe:
    """A recipe with all of its data on the GPU."""
    made = choose_arithmetic("cuda", precision)
    assert shared.teacher is not None
    live = shared.live_teacher and copy.deepcopy(shared.live_teacher).to(made.device)
    return replace(
        shared,
        labels=shared.labels.to(made.device),
        teacher=shared.teacher.to_device(made.device),
        arithmetic=made,
        live_teacher=live,
    )


def members(name: str) -> list[Member]:
    """Two runs of a method with other settings, and one of the baseline between them."""
    return [member(name, 1), member("kd", 2), member(name, 3, layer_weight=0.3, temperature=4.0)]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_method_trains_on_the_gpu(arithmetic: Arithmetic, name: str, precision: str) -> None:
    found = curves(members(name), on_gpu(recipe(arithmetic, name), precision))
    assert [len(run) for run in found] == [STEPS] * 3


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_losses_are_those_of_the_cpu(arithmetic: Arithmetic, name: str, engine: str) -> None:
    """Eight steps with dropout. Other orders of summation in fp32 are all that may differ."""
    runs = members(name) if engine == "stacked" else [member(name, 1)]
    again = members(name) if engine == "stacked" else [member(name, 1)]
    shared = recipe(arithmetic, name, engine=engine)
    expected, found = curves(runs, shared), curves(again, on_gpu(shared))
    for one, other in zip(found, expected, strict=True):
        for losses, reference in zip(one, other, strict=True):
            assert losses == pytest.approx(reference, rel=1e-3, abs=1e-4)


def captured(
    runs: list[Member], shared: Recipe, captures: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[list[dict[str, float]]], list[StepGraphs]]:
    """The losses of steps by graphs, whatever binds them, or of steps without, and the graphs."""
    made = [StepGraphs(shared.arithmetic.device)] if captures else []
    monkeypatch.setattr(
        "harness.training.population.make_graphs", lambda *given: made[0] if made else None
    )
    return curves(runs, shared), made


@needs_kernels
@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].supports_graphs])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_method_trains_by_graphs(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch, name: str, engine: str
) -> None:
    runs = members(name) if engine == "stacked" else [member(name, 1)]
    shared = on_gpu(recipe(arithmetic, name, engine=engine), "auto")
    assert can_capture(shared, [run.method for run in runs])
    found, (graphs,) = captured(runs, shared, True, monkeypatch)
    assert [len(run) for run in found] == [STEPS] * len(runs)
    assert len(graphs.graphs) == 1


@needs_kernels
@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].supports_graphs])
@pytest.mark.parametrize("engine", ENGINES)
def test_losses_by_graphs_are_those_without(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch, name: str, engine: str
) -> None:
    """Eight steps in fp32, with dropout. Sums that kernels add up in no fixed order may differ."""
    results = []
    for captures in (False, True):
        runs = members(name) if engine == "stacked" else [member(name, 1)]
        shared = on_gpu(recipe(arithmetic, name, engine=engine))
        results.append(captured(runs, shared, captures, monkeypatch)[0])
    assert results[0][0] != results[0][0][:1] * STEPS  # the losses change from step to step
    for found, expected in zip(*results, strict=True):
        for losses, reference in zip(found, expected, strict=True):
            assert losses == pytest.approx(reference, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("shape", [(3, 16, 2, 24, 24), (3, 16, 24, 16), (3, 7, 5)])
def test_dropout_masks_are_those_of_the_cpu_bit_by_bit(shape: tuple[int, ...]) -> None:
    masks = []
    for device in ("cpu", "cuda"):
        key = DropoutKey([1, 2, 30], device)
        key.step = 5
        mask = key.mask(3, shape, 26, torch.float32)
        assert mask.device.type == device
        masks.append(mask.cpu())
    assert torch.equal(*masks)
    assert masks[0].unique().numel() == 2


@pytest.mark.parametrize("pooling", ["cls", None])
def test_predictions_are_those_of_the_cpu(arithmetic: Arithmetic, pooling: Pooling | None) -> None:
    shared = recipe(arithmetic, "alp")
    results = []
    for made in (shared, on_gpu(shared)):
        population = Population(members("alp"), made)
        results.append(population.predict(shared.inputs, pooling))
    for one, other in zip(*results, strict=True):
        assert (one.logits.device.type, one.states.device.type) == ("cpu", "cpu")
        for part in ("logits", "states"):
            torch.testing.assert_close(
                getattr(other, part), getattr(one, part), atol=1e-5, rtol=1e-4
            )
