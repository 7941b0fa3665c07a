"""Steps by graphs: a recorded step does every later step, exactly as the step itself would."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import ModernBertConfig

from harness.method import Method
from harness.models.network import Leaf
from harness.runtime.device import Arithmetic
from harness.training import step_graphs
from harness.training.loop import train_population
from harness.training.population import Population
from harness.training.recipe import Recipe
from harness.training.step_graphs import MOST_NUMBERS, StepGraphs, binds_launches, can_capture
from tests.conftest import SIZES
from tests.harness.training.test_live_teacher import (
    EXAMPLES,
    METHODS,
    STEPS,
    curves,
    member,
    recipe,
)
from tests.recorded import RecordedGraphs

CUDA = torch.device("cuda")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[RecordedGraphs]:
    """The graphs of all populations that are made from now on, whose steps are recorded."""
    made: list[RecordedGraphs] = []

    def make(recipe: Recipe, methods: Sequence[Method], leaves: Sequence[Leaf]) -> RecordedGraphs:
        made.append(RecordedGraphs())
        return made[-1]

    monkeypatch.setattr("harness.training.population.make_graphs", make)
    return made


def runs(name: str, engine: str, arithmetic: Arithmetic) -> list[list[dict[str, float]]]:
    members = [member(name, 1), member("kd", 2), member(name, 3, layer_weight=0.3, temperature=4.0)]
    count = 1 if engine == "reference" else 3
    return curves(members[:count], recipe(arithmetic, name, engine=engine))


CASES = [(name, "stacked") for name in METHODS if name != "emd"] + [("alp", "reference")]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_a_recorded_step_does_all_later_steps(
    arithmetic: Arithmetic, request: pytest.FixtureRequest, name: str, engine: str
) -> None:
    """Masks, rates, AdamW's corrections, examples and epochs change, and no number is a constant."""
    expected = runs(name, engine, arithmetic)
    made = request.getfixturevalue("recorded")
    assert runs(name, engine, arithmetic) == expected
    (recording,) = made[0].graphs.values()
    assert recording.replays == STEPS - 2  # the first step finds the sites of dropout


def test_what_a_step_computes_outside_of_torch_is_not_recorded(
    arithmetic: Arithmetic, request: pytest.FixtureRequest
) -> None:
    """The plans of `emd` are. So the test above sees whatever becomes a constant."""
    assert not METHODS["emd"].supports_graphs
    expected = runs("emd", "stacked", arithmetic)
    assert request.getfixturevalue("recorded") == []
    found = runs("emd", "stacked", arithmetic)
    assert found[0][:3] == expected[0][:3]
    assert found[0] != expected[0]


def of_several_widths(arithmetic: Arithmetic) -> Recipe:
    shared = recipe(arithmetic, "alp")
    return replace(shared, training=replace(shared.training, epochs=6, batch_size=3))


def test_every_shape_has_a_graph_and_new_members_have_new_graphs(
    arithmetic: Arithmetic, request: pytest.FixtureRequest
) -> None:
    def train() -> list[list[dict[str, float]]]:
        members = [member("alp", seed) for seed in range(3)]

        def stay(epochs: int, population: Population) -> list[int]:
            return [0, 2] if epochs == 3 else [*range(len(population.members))]

        _, outcomes = train_population(
            members, of_several_widths(arithmetic), lambda steps: None, stay
        )
        return [outcome.curves for outcome in outcomes]

    expected = train()
    made = request.getfixturevalue("recorded")
    assert train() == expected
    schedule = of_several_widths(arithmetic).schedule()
    shapes = {(len(batch.rows), batch.width) for batch in schedule.in_order()}
    assert len(shapes) > 2
    assert {len(batch.rows) for batch in schedule.in_order()} == {3, EXAMPLES % 3}
    assert [len(graphs.graphs) for graphs in made] == [len(shapes)] * 2


def test_short_memory_ends_the_graphs(
    arithmetic: Arithmetic, recorded: list[RecordedGraphs], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [replace(member("kd", 1), method=None)]
    population = Population(members, replace(recipe(arithmetic, "kd"), teacher=None))
    assert population.graphs is recorded[0]
    for leaf in population._leaves():
        leaf.tensor.grad_dtype = None  # as the optimiser with kernels does
    add = population._add_gradients
    lacking = iter([True, False, False])

    def short(*arguments: object) -> None:
        if next(lacking):
            raise MemoryError
        add(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(population, "_add_gradients", short)
    rows = torch.arange(EXAMPLES)[None]
    for _ in range(2):
        population.train_batch(rows, 24, 0)
    assert (population.parts, population.graphs, recorded[0].graphs) == (2, None, {})
    assert {leaf.tensor.grad_dtype for leaf in population._leaves()} == {torch.float32}


class Host(METHODS["alp"]):
    """A method that vmap cannot batch."""

    supports_vmap = False


def on_cuda(shared: Recipe) -> Recipe:
    """A recipe that says that it lies on a GPU."""
    return replace(shared, arithmetic=Arithmetic(CUDA, bf16=True), teacher=None)


def test_what_can_be_captured(arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_graphs, "has_kernels", lambda device: device.type == "cuda")
    shared = recipe(arithmetic, "alp")
    gpu = on_cuda(shared)
    alp, emd = member("alp", 1).method, member("emd", 1).method
    assert can_capture(gpu, [None, alp])
    assert not can_capture(shared, [alp])  # a CPU
    assert not can_capture(gpu, [alp, emd])
    assert not can_capture(gpu, [alp, Host.__new__(Host)])
    assert not can_capture(replace(gpu, teacher=shared.teacher), [alp])  # outputs off the device
    modernbert = ModernBertConfig(**SIZES)
    assert not can_capture(replace(gpu, model=modernbert), [alp])  # no kernels for its layers
    monkeypatch.setattr(step_graphs, "has_kernels", lambda device: False)
    assert not can_capture(gpu, [alp])


@pytest.mark.parametrize(
    ("layers", "width", "weights", "members", "expected"),
    [
        (4, 768, 39_000_000, 1, True),  # BERT-base's student
        (4, 768, 39_000_000, 8, True),
        (4, 768, 39_000_000, 20, False),
        (24, 1024, 335_000_000, 1, True),  # BERT-large, as a teacher in training
        (3, 384, 10_000_000, 16, True),  # MiniLM's student
        (3, 384, 10_000_000, 64, False),
    ],
)
def test_launches_bind_small_populations(
    arithmetic: Arithmetic, layers: int, width: int, weights: int, members: int, expected: bool
) -> None:
    """Batches of 32 examples of 72 tokens."""
    shared = recipe(arithmetic, "alp")
    config = type(shared.model)(num_hidden_layers=layers, hidden_size=width)
    inputs = replace(shared.inputs, offsets=np.arange(0, 72 * 321, 72))
    training = replace(shared.training, batch_size=32)
    large = replace(shared, model=config, inputs=inputs, training=training)
    assert binds_launches(large, members, members * weights) is expected


def test_the_limit_counts_weights_and_states(arithmetic: Arithmetic) -> None:
    shared = recipe(arithmetic, "alp")
    rows, width = EXAMPLES, shared.schedule().buckets[-1].width
    states = sum(len(b.rows) * b.width for b in shared.schedule().buckets) * 16
    assert states <= rows * width * 16
    weights = (MOST_NUMBERS - 5 * 2 * states) * 3  # two layers and the rest
    assert binds_launches(shared, 2, weights)
    assert not binds_launches(shared, 2, weights + 3)


def test_without_room_a_step_is_done_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Free are 5 bytes, and 2 that torch holds; a step takes 4 or 5 beside the 10 in use."""
    for name, value in (("memory_allocated", 10), ("memory_reserved", 12)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 99))
    graphs = StepGraphs(CUDA)
    for peak, has_room in ((14, True), (15, False)):
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device, p=peak: p)
        assert graphs.has_room() is has_room
    assert not graphs.run("shape", lambda: None)
    assert not graphs.run("shape", lambda: None)
    assert graphs.graphs == {}
