"""Unlabelled texts in training: the label loss leaves them out, against a plain loop in float64."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution
from torch import Tensor

from harness.data.splits import TaskData
from harness.data.tasks import load_task
from harness.errors import MethodError
from harness.method import Context, Hyper, Layers, Method, Shapes, Value, weight
from harness.method.losses import label_loss
from harness.registry.discovery import registry
from harness.registry.label_readers import reads_labels, refuse_label_reader
from harness.runtime.device import Arithmetic
from harness.training.label_weights import label_weights, student_labels, weighted_label_loss
from harness.training.recipe import Recipe
from tests.conftest import tiny_inputs
from tests.harness.training.plain_loop import calm, last_state_member, plain_curves
from tests.harness.training.test_loop import close, member, recipe, train
from tests.prepared import split

LABELLED, UNLABELLED = 12, 8


def mixed_recipe(arithmetic: Arithmetic, **training: object) -> Recipe:
    """A recipe whose last examples have no labels, but wrong ones in their place."""
    shared = recipe(arithmetic, examples=LABELLED + UNLABELLED, batch_size=4, **training)
    labels = torch.tensor([0] * LABELLED + [1] * UNLABELLED)
    return replace(shared, labels=labels, label_weights=label_weights(LABELLED, UNLABELLED))


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_a_run_is_that_of_a_plain_loop_in_float64(arithmetic: Arithmetic, engine: str) -> None:
    shared = calm(mixed_recipe(arithmetic, engine=engine))
    others = [] if engine == "reference" else [member("finetune", 2), last_state_member(3)]
    found = train([last_state_member(), *others], shared)[0].curves
    # The label loss by hand: that of labelled examples alone, each with the same weight.
    weights = np.array([20 / 12] * LABELLED + [0.0] * UNLABELLED)
    expected = plain_curves(shared, lambda step, steps: (0.6, 0.4, 0.7), weights)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=2e-4, abs=1e-5)
    everything = plain_curves(shared, lambda step, steps: (0.6, 0.4, 0.7))
    assert everything[1]["label"] != pytest.approx(expected[1]["label"], rel=1e-2)


def test_placeholders_of_labels_are_never_read(arithmetic: Arithmetic) -> None:
    shared = mixed_recipe(arithmetic)
    other = shared.labels.clone()
    other[LABELLED:] = 1 - other[LABELLED:]
    names = ["alp", "finetune"]
    together = train([member(name, 1) for name in names], shared)
    for outcome, name in zip(together, names, strict=True):
        alone = train([member(name, 1)], replace(shared, labels=other))[0].curves
        close(outcome.curves, alone)


def test_weights_by_hand() -> None:
    weights = label_weights(3, 1)
    torch.testing.assert_close(weights, torch.tensor([4 / 3, 4 / 3, 4 / 3, 0.0]))
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(4, 2)))
    labels = torch.tensor([0, 1, 1, 0])
    whole = weighted_label_loss(logits, labels, False, weights.double())
    torch.testing.assert_close(whole, label_loss(logits[:3], labels[:3], False), atol=1e-7, rtol=0)
    scores = torch.tensor([0.5, 1.0, 2.0, 9.0], dtype=torch.float64)
    found = weighted_label_loss(logits[:, :1], scores, True, weights.double())
    by_hand = np.square(logits[:3, 0].numpy() - scores[:3].numpy()).mean()
    assert found.item() == pytest.approx(by_hand, rel=1e-7)
    assert torch.equal(
        weighted_label_loss(logits, labels, False, ()), label_loss(logits, labels, False)
    )
    unlabelled = weights[3:].double()
    assert weighted_label_loss(logits[3:], labels[3:], False, unlabelled).item() == 0


def test_the_labels_of_students_go_on_with_placeholders() -> None:
    data = TaskData(load_task("rte"), split(6), split(2), {"validation": split(3)})
    labels, weights = student_labels(data)
    assert (labels.tolist(), weights) == ([0, 1] * 3, None)
    labels, weights = student_labels(replace(data, transfer=split(4)))
    assert labels.tolist() == [0, 1] * 3 + [0] * 4
    assert labels.dtype == torch.int64
    assert weights is not None
    assert weights.tolist() == pytest.approx([10 / 6] * 6 + [0.0] * 4)
    inputs = tiny_inputs(5).followed_by(tiny_inputs(7, seed=1))
    parts = [tiny_inputs(5), tiny_inputs(7, seed=1)]
    for row in range(12):
        part, own = (parts[0], row) if row < 5 else (parts[1], row - 5)
        expected = part.ids[part.offsets[own] : part.offsets[own + 1]]
        assert (
            inputs.ids[inputs.offsets[row] : inputs.offsets[row + 1]].tolist() == expected.tolist()
        )


def test_methods_that_read_labels_are_refused_by_name() -> None:
    """Only the terms of these classes have a use for `labels`; the others get them and leave them."""
    methods = registry().methods
    assert {name for name, kind in methods.items() if reads_labels(kind)} == {"dkd", "universal"}
    refuse_label_reader(methods["alp"])
    with pytest.raises(MethodError, match="dkd reads labels in its own terms"):
        refuse_label_reader(methods["dkd"])


class SameLabels(Method):
    """Pulls examples of one label together. Hyper-parameters: pairs, layer_weight."""

    name, summary, paper = "same-labels", "examples of one label", "-"
    space: ClassVar[dict[str, Hyper]] = {
        "layer_weight": weight(0.1, 10.0, "-"),
        "pairs": Hyper(CategoricalDistribution(["all", "same"]), "structural", "-"),
    }

    def __init__(
        self, shapes: Shapes, structure: Mapping[str, Value], source: torch.Generator
    ) -> None:
        super().__init__(shapes, structure, source)
        self.pairs = structure["pairs"]

    def terms(
        self, student: Layers, teacher: Layers, labels: Tensor, context: Context
    ) -> dict[str, Tensor]:
        is_pair = labels[:, None] == labels if self.pairs == "same" else torch.ones(())
        last = student.states[:, -1]
        return {"layer": ((last @ last.T) * is_pair).mean()}


def test_a_method_may_read_labels_with_one_choice_only_and_by_their_equality() -> None:
    assert reads_labels(SameLabels)
