"""Populations: order, clipping, schedule, failures, and that no run depends on the others."""

import copy
import weakref
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.config import StudentConfig, TrainingConfig
from harness.data.tokens import EncodedSplit
from harness.method import DISTILLATION, Context, Hyper, Layers, Method, Shapes, Value, View, weight
from harness.method.losses import distillation_loss, label_loss
from harness.models.reference import layers_of
from harness.models.student import Blueprint, build_classifier
from harness.models.teacher_outputs import TeacherOutputs
from harness.registry.discovery import registry
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import DropoutKey, generator, global_seed
from harness.training.loop import Outcome, train_population
from harness.training.population import Population
from harness.training.prediction import predict
from harness.training.recipe import Member, Recipe
from tests.conftest import tiny_batch, tiny_bert, tiny_inputs, tiny_marks

EXAMPLES, LAYERS, WIDTH = 40, 4, 16
SETTING: dict[str, Value] = {
    "learning_rate": 1e-3,
    "temperature": 2.0,
    "kd_weight": 0.5,
    "layer_weight": 1.0,
    "scaled": True,
    "detach_attention": False,
    "value": "raw",
    "normalised": True,
}


NAMES = ["alp", "kd", "pkd", "uniform", "finetune", "alp-np", "random-projection", "alp"]
BLUEPRINT = Blueprint(tiny_bert(LAYERS), StudentConfig(layers=2))


def recipe(arithmetic: Arithmetic, examples: int = EXAMPLES, **training: object) -> Recipe:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(examples, LAYERS, WIDTH)).astype(np.float16)
    asked = {"epochs": 2, "batch_size": 8, **training}
    return Recipe(
        model=BLUEPRINT.config,
        inputs=tiny_inputs(examples),
        labels=torch.from_numpy(rng.integers(0, 2, examples)),
        teacher=TeacherOutputs(
            torch.from_numpy(rng.normal(size=(examples, 2)).astype(np.float32)),
            torch.from_numpy(states),
        ),
        regression=False,
        view=View("cls"),
        training=TrainingConfig(**asked),
        weights="convex",
        arithmetic=arithmetic,
        word_marks=tiny_marks(),
    )


def member(name: str = "alp", seed: int = 1, **setting: Value) -> Member:
    kind = registry().resolve(name)
    with global_seed("method", seed):
        method = kind(Shapes(LAYERS, WIDTH, 2, WIDTH, 2), SETTING, generator("method", seed))
    return Member(BLUEPRINT.weights(seed), method, {**SETTING, **setting}, seed)


def mixed(size: int) -> list[Member]:
    """Members of different methods, seeds, rates, weights and temperatures."""
    return [
        member(
            name,
            seed,
            learning_rate=1e-3 * seed,
            layer_weight=1.0 / seed,
            temperature=1.0 + seed,
            scaled=seed < 8,
        )
        for seed, name in enumerate(NAMES[:size], start=1)
    ]


def train(members: list[Member], shared: Recipe) -> list[Outcome]:
    return train_population(members, shared, lambda steps: None)[1]


def close(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)


def trained(
    members: list[Member], shared: Recipe
) -> tuple[list[list[dict[str, float]]], list[Layers]]:
    """Curves and predictions by member."""
    population, outcomes = train_population(members, shared, lambda steps: None)
    found = population.predict(shared.inputs, "cls")
    ordered = [found[population.indices.index(place)] for place in range(len(members))]
    return [outcome.curves for outcome in outcomes], ordered


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_a_runs_losses_are_the_same_alone_and_in_any_population(
    arithmetic: Arithmetic, size: int, engine: str
) -> None:
    """One batch an epoch: so each of the 20 epochs' means is one step's loss."""
    shared = recipe(arithmetic, examples=16, epochs=20, batch_size=16)
    together, _ = trained(mixed(size), shared)
    alone = replace(shared, training=replace(shared.training, engine=engine))
    for place in range(size):
        (expected,), _ = trained([mixed(size)[place]], alone)
        assert len(expected) == 20
        close(together[place], expected)


@pytest.mark.parametrize("size", [3, 8])
@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_a_runs_predictions_are_the_same_alone_and_in_any_population(
    arithmetic: Arithmetic, size: int, engine: str
) -> None:
    shared = recipe(arithmetic, epochs=1)
    _, together = trained(mixed(size), shared)
    alone = replace(shared, training=replace(shared.training, engine=engine))
    for place in range(size):
        _, (expected,) = trained([mixed(size)[place]], alone)
        torch.testing.assert_close(together[place].logits, expected.logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together[place].states, expected.states, atol=1e-4, rtol=1e-4)
        ahead = expected.logits.diff(dim=1)[:, 0]
        clear = ahead.abs() > 1e-4
        assert torch.equal(
            (together[place].logits.diff(dim=1)[:, 0] > 0)[clear], (ahead > 0)[clear]
        )
        assert clear.sum() > 30


def test_the_same_population_gives_the_same_result_to_the_last_digit(
    arithmetic: Arithmetic,
) -> None:
    first, again = (trained(mixed(5), recipe(arithmetic)) for _ in range(2))
    assert first[0] == again[0]
    for one, other in zip(first[1], again[1], strict=True):
        assert torch.equal(one.logits, other.logits)


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_words_that_do_not_occur_are_trained_as_the_reference_trains_them(
    arithmetic: Arithmetic, weight_decay: float
) -> None:
    """Only weight decay moves them, at every step."""
    shared = recipe(arithmetic, examples=16, weight_decay=weight_decay)
    kept = shared.inputs.vocabulary()
    assert len(kept) < 50
    words = "bert.embeddings.word_embeddings.weight"
    tables = []
    for engine in ("stacked", "reference"):
        own = replace(shared, training=replace(shared.training, engine=engine))
        population, _ = train_population([member(learning_rate=0.01)], own, lambda steps: None)
        tables.append(population.network.weights(0)[words])
    torch.testing.assert_close(*tables, atol=1e-5, rtol=1e-4)
    unused = sorted(set(range(50)) - set(kept.tolist()))
    start = BLUEPRINT.weights(1)[words]
    assert torch.equal(tables[0][unused], start[unused]) == (weight_decay == 0.0)


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_frozen_embeddings_stay(arithmetic: Arithmetic, engine: str) -> None:
    shared = recipe(arithmetic, embeddings="frozen", engine=engine)
    population, _ = train_population([member()], shared, lambda steps: None)
    start, end = BLUEPRINT.weights(1), population.network.weights(0)
    for name, value in end.items():
        assert torch.equal(value, start[name]) == (".embeddings." in name), name


def test_a_member_that_leaves_changes_nothing_for_the_others(arithmetic: Arithmetic) -> None:
    shared = recipe(arithmetic, epochs=3)
    stays = [1, 2, 4]

    def run(members: list[Member], leave_after: int | None) -> list[list[dict[str, float]]]:
        population = Population(members, shared)
        curves: dict[int, list[dict[str, float]]] = {}
        for epoch in range(3):
            means = population.epoch(epoch, lambda steps: None)
            for place, own in zip(population.indices, means, strict=True):
                curves.setdefault(place, []).append(own)
            if epoch == leave_after:
                places = [p for p, place in enumerate(population.indices) if place in stays]
                population.keep(places)
        return [curves[place] for place in sorted(curves) if len(curves[place]) == 3]

    left = run(mixed(6), leave_after=0)
    alone = run([mixed(6)[place] for place in stays], leave_after=None)
    assert len(left) == 3
    for found, expected in zip(left, alone, strict=True):
        close(found, expected)


class Stepwise(Method):
    """Branches on a value, which vmap cannot batch."""

    name, summary, paper = "stepwise", "branches", "-"
    space: ClassVar[Mapping[str, Hyper]] = {**DISTILLATION, "layer_weight": weight(0.1, 1.0, "-")}
    supports_vmap = False

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        distance = (student.states - teacher.states[:, :2]).square().mean()
        return {"layer": distance if float(distance.detach()) > 0.5 else distance.sqrt()}


def test_a_method_that_cannot_be_batched_runs_by_member(arithmetic: Arithmetic) -> None:
    def stepwise(seed: int) -> Member:
        return replace(
            member(seed=seed),
            method=Stepwise(Shapes(LAYERS, WIDTH, 2, WIDTH, 2), {}, generator("x")),
        )

    shared = recipe(arithmetic)
    together, _ = trained([stepwise(1), member("kd", 2), stepwise(3)], shared)
    (alone,), _ = trained([stepwise(3)], shared)
    close(together[2], alone)


def test_methods_with_other_options_are_not_batched_with_each_other(arithmetic: Arithmetic) -> None:
    """`scaled` is a plain attribute: were it the first member's, the losses would be another's."""
    other = {**SETTING, "scaled": False}
    method = registry().resolve("alp-np")(
        Shapes(LAYERS, WIDTH, 2, WIDTH, 2), other, generator("method", 1)
    )
    unscaled = Member(BLUEPRINT.weights(1), method, other, 1)
    shared = recipe(arithmetic)
    (first, second), _ = trained([member("alp-np"), unscaled], shared)
    (alone,), _ = trained([unscaled], shared)
    close(second, alone)
    assert first != second


class Private(Stepwise):
    """Keeps its option in a private attribute, and a table whose size is its own out of its state."""

    name = "private"
    supports_vmap = True

    def __init__(self, factor: float, rows: int = 2) -> None:
        super().__init__(Shapes(LAYERS, WIDTH, 2, WIDTH, 2), {}, generator("x"))
        self._factor = factor
        self.register_buffer("table", torch.ones(rows), persistent=False)

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        return {"layer": self._factor * student.states.square().mean() * self.table.mean()}


def test_whatever_is_not_a_number_of_a_method_keeps_it_apart(arithmetic: Arithmetic) -> None:
    methods = [Private(1.0), Private(5.0), Private(1.0, rows=3)]
    members = [replace(member(), method=method) for method in methods]
    (first, second, third), _ = trained(members, recipe(arithmetic, epochs=1))
    assert second[0]["layer"] == pytest.approx(5 * first[0]["layer"], rel=0.05)
    assert third == first
    population = Population(members, recipe(arithmetic))
    assert [len(group.members) for group in population.groups] == [1, 1, 1]


class Scaled(Stepwise):
    """Learns a single number."""

    name = "scaled"
    supports_vmap = True

    def __init__(self) -> None:
        super().__init__(Shapes(LAYERS, WIDTH, 2, WIDTH, 2), {}, generator("x"))
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        return {"layer": (self.scale * student.states - teacher.states[:, :2]).square().mean()}


def test_a_single_number_can_be_learned(arithmetic: Arithmetic) -> None:
    members = [replace(member(seed=seed), method=Scaled()) for seed in (1, 2)]
    population, _ = train_population(members, recipe(arithmetic), lambda steps: None)
    learned = [population.method(place).scale.item() for place in (0, 1)]  # type: ignore[union-attr]
    assert 1.0 not in learned
    assert learned[0] != learned[1]


def test_seed_changes_order_dropout_and_result(arithmetic: Arithmetic) -> None:
    first, second = train([member(seed=1), member(seed=2)], recipe(arithmetic))
    assert first.curves != second.curves


def test_curves_are_epoch_means_of_named_terms(arithmetic: Arithmetic) -> None:
    (outcome,) = train([member()], recipe(arithmetic))
    assert len(outcome.curves) == 2
    for curve in outcome.curves:
        assert set(curve) == {"label", "kd", "layer", "total"}
        expected = 0.5 * curve["label"] + 0.5 * curve["kd"] + 1.0 * curve["layer"]
        assert curve["total"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "scale"), [("pkd", WIDTH), ("alp", 1)])
def test_simplex_weights_sum_pkds_term_over_the_width(
    arithmetic: Arithmetic, name: str, scale: float
) -> None:
    """A weight that ends at 1 would make a mean over the width vanish."""
    setting: dict[str, Value] = {"kd_weight": 0.5, "layer_weight": 0.25, "learning_rate": 1e-9}
    convex = recipe(arithmetic)
    ((averaged,), (summed,)) = (
        train([member(name, **setting)], shared)
        for shared in (convex, replace(convex, weights="simplex"))
    )
    curve = summed.curves[0]
    assert curve["layer"] == pytest.approx(scale * averaged.curves[0]["layer"], rel=1e-3)
    expected = 0.25 * curve["label"] + 0.5 * curve["kd"] + 0.25 * curve["layer"]
    assert curve["total"] == pytest.approx(expected, rel=1e-5)


def test_the_loss_falls_and_projections_learn(arithmetic: Arithmetic) -> None:
    learner = member(learning_rate=5e-3)
    assert learner.method is not None
    before = copy.deepcopy(learner.method.state_dict())
    population, (outcome,) = train_population(
        [learner], recipe(arithmetic, epochs=15), lambda steps: None
    )
    assert outcome.curves[-1]["total"] < 0.8 * outcome.curves[0]["total"]
    learned = population.method(0)
    assert learned is not None
    assert not torch.equal(before["key.weight"], learned.state_dict()["key.weight"])


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_the_first_step_equals_a_plain_adamw_step(arithmetic: Arithmetic, engine: str) -> None:
    """One batch, no dropout: clipping takes student and projections together."""
    calm = copy.deepcopy(BLUEPRINT.config)
    calm.hidden_dropout_prob = calm.attention_probs_dropout_prob = 0.0
    shared = replace(
        recipe(arithmetic, epochs=1, batch_size=40, clip_norm=1e-2, engine=engine), model=calm
    )
    plain = member()
    assert plain.method is not None
    model = build_classifier(calm, plain.weights)
    others = [] if engine == "reference" else [member("kd", 2), member("alp", 3)]
    population, _ = train_population([member(), *others], shared, lambda steps: None)
    ours = population.network.weights(population.indices.index(0))
    learned = population.method(population.indices.index(0))
    assert learned is not None
    rows = shared.schedule().epoch(0, 1)[0].rows
    batch = tiny_batch(shared.inputs, rows, 24)
    student = layers_of(model, batch, "cls")
    assert shared.teacher is not None
    teacher = shared.teacher.batch(torch.from_numpy(rows), torch.device("cpu"))
    labels = shared.labels[torch.from_numpy(rows)]
    context = Context(torch.tensor(0), {}, torch.ones(1, 1, dtype=torch.bool), torch.tensor(0.0))
    loss = (
        0.5 * label_loss(student.logits, labels, False)
        + 0.5 * distillation_loss(student.logits, teacher.logits, torch.tensor(2.0), False)
        + plain.method(student, teacher, labels, context)["layer"]
    )
    loss.backward()
    everything = [*model.named_parameters(), *plain.method.named_parameters()]
    norm = torch.cat([p.grad.flatten() for _, p in everything if p.grad is not None]).norm()
    assert norm > 1e-2
    found = {**ours, **learned.state_dict()}
    for name, parameter in everything:
        assert parameter.grad is not None
        clipped = parameter.grad * (1e-2 / (norm + 1e-6))
        # Adam's first step is lr · g / (|g| + eps); the only step of the schedule has the full rate.
        decay = 0.01 if parameter.ndim > 1 else 0.0
        update = clipped / (clipped.abs() + 1e-8) + decay * parameter.data
        expected = parameter.data - 1e-3 * update
        # Where a gradient is of rounding's size its sign is.
        sure = parameter.grad.abs() > 1e-6
        torch.testing.assert_close(
            found[name][sure], expected[sure], atol=2e-6, rtol=1e-4, msg=name
        )


def test_a_loss_that_is_not_finite_ends_the_run_and_not_the_others(arithmetic: Arithmetic) -> None:
    class Broken(Method):
        name, summary, paper = "broken", "NaN", "-"

        def terms(
            self, student: Layers, teacher: Layers, labels: Tensor, context: Context
        ) -> dict[str, Tensor]:
            return {"layer": student.logits.mean() * float("nan")}

    healthy = member(seed=2)
    broken = replace(member(seed=1), method=Broken(Shapes(4, 16, 2, 16, 2), {}, generator("x")))
    (expected,) = train([member(seed=2)], recipe(arithmetic))
    outcomes = train([broken, healthy], recipe(arithmetic))
    assert outcomes[0].failure == "the loss is not finite in epoch 1"
    assert len(outcomes[0].curves) == 1
    assert outcomes[1].failure is None
    close(outcomes[1].curves, expected.curves)


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_a_population_of_which_none_is_left_ends(arithmetic: Arithmetic, engine: str) -> None:
    broken = replace(member(learning_rate=float("nan")), method=None)
    population, (outcome,) = train_population(
        [broken], recipe(arithmetic, engine=engine), lambda steps: None
    )
    assert outcome.failure == "the loss is not finite in epoch 1"
    assert len(outcome.curves) == 1
    assert (population.members, population.indices) == ([], [])


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_everything_is_put_on_the_device(engine: str) -> None:
    """On the device without memory an operation with a tensor that was left on the CPU raises."""
    nowhere = Arithmetic(torch.device("meta"), bf16=False)
    shared = replace(recipe(nowhere, engine=engine), teacher=None)
    network = Population([replace(member(), method=None)], shared).network
    assert all(leaf.tensor.device.type == "meta" for leaf in network.leaves())
    if engine == "reference":  # Hugging Face's masks look at values
        return
    batch = {
        name: values[None].to("meta")
        for name, values in tiny_batch(tiny_inputs(), range(4), 24).items()
    }
    key = DropoutKey([1], "meta")
    assert network.forward(batch, key, "mean").logits.device.type == "meta"


def test_predictions_come_in_the_order_of_the_split(arithmetic: Arithmetic) -> None:
    model, inputs = tiny_bert().eval(), tiny_inputs(30)
    together = predict(model, inputs, arithmetic, "cls")
    for row in (0, 7, 29):
        piece = slice(inputs.offsets[row], inputs.offsets[row + 1])
        ids, types = inputs.ids[piece], inputs.types[piece]
        single = EncodedSplit(ids, types, np.array([0, len(ids)]), pad_id=0)
        alone = predict(model, single, arithmetic, "cls")
        torch.testing.assert_close(together.logits[row], alone.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.states[row], alone.states[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_initial_weights_leave_memory_once_they_lie_in_the_network(
    arithmetic: Arithmetic, engine: str
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def passing() -> list[Member]:
        begun = member()
        own = {name: value.clone() for name, value in begun.weights.items()}
        held.extend(weakref.ref(value) for value in own.values())
        return [replace(begun, weights=own)]

    alive: list[bool] = []

    def advance(steps: int) -> None:
        alive.append(any(reference() is not None for reference in held))

    train_population(passing(), recipe(arithmetic, epochs=1, engine=engine), advance)
    assert held
    assert alive
    assert not any(alive)


def test_memory_goes_back_before_each_wider_batch(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr("harness.training.population.release_memory", lambda: told.append(0))
    population = Population([member()], recipe(arithmetic))
    train_batch = population.train_batch

    def train(rows: torch.Tensor, width: int, epoch: int) -> None:
        told.append(width)
        train_batch(rows, width, epoch)

    monkeypatch.setattr(population, "train_batch", train)
    for epoch in range(2):
        population.epoch(epoch, lambda steps: None)
    widths = [width for width in told if width]
    wider = [now for at, now in enumerate(widths) if now > max(widths[:at], default=0)]
    assert len(set(widths)) > 1
    assert [now for before, now in pairwise(told) if not before] == wider
