"""The training loop: order, clipping, schedule, failures, and independence of the population."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.config import StudentConfig, TrainingConfig
from harness.encoder import layers_of
from harness.inputs import EncodedSplit
from harness.losses import distillation_loss, label_loss
from harness.method import Context, Layers, Method, Shapes, Value
from harness.precision import Arithmetic
from harness.randomness import generator, global_seed, key_dropout
from harness.registry import registry
from harness.student import make_student
from harness.teacher_outputs import TeacherOutputs
from harness.train import Member, Outcome, Recipe, predict, train_population
from tests.conftest import tiny_bert, tiny_inputs

EXAMPLES, LAYERS, WIDTH = 40, 4, 16
SETTING: dict[str, Value] = {
    "learning_rate": 1e-3,
    "temperature": 2.0,
    "kd_weight": 0.5,
    "layer_weight": 1.0,
    "scaled": True,
    "detach_attention": False,
    "value": "raw",
}


def recipe(arithmetic: Arithmetic, **training: object) -> Recipe:
    rng = np.random.default_rng(0)
    return Recipe(
        inputs=tiny_inputs(EXAMPLES),
        labels=torch.from_numpy(rng.integers(0, 2, EXAMPLES)),
        teacher=TeacherOutputs(
            rng.normal(size=(EXAMPLES, 2)).astype(np.float32),
            rng.normal(size=(EXAMPLES, LAYERS, WIDTH)).astype(np.float16),
        ),
        regression=False,
        pooling="cls",
        training=TrainingConfig(epochs=2, batch_size=8, **training),
        weights="convex",
        arithmetic=arithmetic,
    )


def member(name: str = "alp", seed: int = 1, **setting: Value) -> Member:
    student = make_student(tiny_bert(LAYERS), StudentConfig(layers=2), seed)
    kind = registry().resolve(name)
    with global_seed("method", seed):
        method = kind(Shapes(LAYERS, WIDTH, 2, WIDTH, 2), SETTING, generator("method", seed))
    return Member(student, key_dropout(student), method, {**SETTING, **setting}, seed)


def train(members: list[Member], shared: Recipe) -> list[Outcome]:
    return [outcome for _, outcome in train_population(members, shared, lambda steps: None)]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_run_gives_the_same_result_alone_and_in_any_population(
    arithmetic: Arithmetic, size: int
) -> None:
    names = ["alp", "kd", "pkd", "uniform", "finetune", "alp-np", "random-projection", "alp"]
    shared = recipe(arithmetic)
    alone = member("alp", seed=1)
    (expected,) = train([alone], shared)
    together = [member(name, seed) for seed, name in enumerate(names[:size], start=1)]
    found = train(together, shared)[0]
    assert found.curves == expected.curves
    logits = [
        predict(m.model, shared.inputs, arithmetic, None).logits for m in (alone, together[0])
    ]
    assert torch.equal(*logits)


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
    shared = recipe(arithmetic)
    longer = replace(shared, training=TrainingConfig(epochs=15, batch_size=8))
    (outcome,) = train([learner], longer)
    assert outcome.curves[-1]["total"] < 0.8 * outcome.curves[0]["total"]
    assert not torch.equal(before["key.weight"], learner.method.state_dict()["key.weight"])


def test_the_first_step_equals_a_plain_adamw_step(arithmetic: Arithmetic) -> None:
    """One batch, no dropout: clipping takes student and projections together."""
    shared = replace(
        recipe(arithmetic), training=TrainingConfig(epochs=1, batch_size=40, clip_norm=1e-2)
    )
    ours, plain = member(), member()
    for dropout in (m for m in ours.model.modules() if hasattr(m, "dropped")):
        dropout.dropped = 0
    train([ours], shared)
    batch = shared.schedule().epoch(0, 1)[0]
    plain.model.eval()
    student = layers_of(plain.model, shared.inputs.batch(batch, torch.device("cpu")), "cls")
    assert shared.teacher is not None
    assert plain.method is not None
    teacher = shared.teacher.batch(batch.rows, torch.device("cpu"))
    labels = shared.labels[torch.from_numpy(batch.rows)]
    context = Context(torch.tensor(0), {})
    loss = (
        0.5 * label_loss(student.logits, labels, False)
        + 0.5 * distillation_loss(student.logits, teacher.logits, torch.tensor(2.0), False)
        + plain.method(student, teacher, labels, context)["layer"]
    )
    loss.backward()
    everything = [*plain.model.parameters(), *plain.method.parameters()]
    norm = torch.cat([p.grad.flatten() for p in everything if p.grad is not None]).norm()
    assert norm > 1e-2
    for parameter in everything:
        if parameter.grad is None:
            continue
        clipped = parameter.grad * (1e-2 / (norm + 1e-6))
        # Adam's first step is lr · g / (|g| + eps); the only step of the schedule has the full rate.
        decay = 0.01 if parameter.ndim > 1 else 0.0
        update = clipped / (clipped.abs() + 1e-8) + decay * parameter.data
        parameter.data -= 1e-3 * update
    for (name, found), expected in zip(
        [*ours.model.named_parameters(), *ours.method.named_parameters()], everything, strict=True
    ):
        torch.testing.assert_close(found.data, expected.data, atol=2e-6, rtol=1e-4, msg=name)


def test_a_loss_that_is_not_finite_ends_the_run_and_not_the_others(arithmetic: Arithmetic) -> None:
    class Broken(Method):
        name, summary, paper = "broken", "NaN", "-"

        def terms(
            self, student: Layers, teacher: Layers, labels: Tensor, context: Context
        ) -> dict[str, Tensor]:
            return {"layer": student.logits.mean() * float("nan")}

    healthy = member(seed=2)
    broken = replace(member(seed=1), method=Broken(Shapes(4, 16, 2, 16, 2), {}, generator("x")))
    outcomes = train([broken, healthy], recipe(arithmetic))
    assert outcomes[0].failure == "the loss is not finite in epoch 1"
    assert outcomes[1].failure is None


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


def test_a_training_teacher_cannot_predict(arithmetic: Arithmetic) -> None:
    with pytest.raises(AssertionError):
        predict(tiny_bert().train(), tiny_inputs(4), arithmetic, None)
