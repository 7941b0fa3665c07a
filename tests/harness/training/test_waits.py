"""A training step looks at no value, for which a GPU would have to finish its work first.

Tensors on torch's `meta` device have no values: a look at one raises.
"""

import copy
from dataclasses import replace

import pytest
import torch
from transformers import CONFIG_MAPPING

from harness.data.words import WordMarks
from harness.models.families import FAMILIES
from harness.models.reference import layers_of
from harness.models.student import new_classifier
from harness.models.teacher_outputs import TeacherOutputs
from harness.runtime.device import Arithmetic
from harness.training.population import Population
from harness.training.recipe import Recipe
from tests.conftest import SIZES
from tests.harness.models.test_reference import batch
from tests.harness.training.test_live_teacher import METHODS, member, recipe

META = torch.device("meta")


def without_values(shared: Recipe) -> Recipe:
    """A recipe whose tensors have no values."""
    assert shared.teacher is not None
    logits, states = shared.teacher.logits.to(META), shared.teacher.states.to(META)
    live = shared.live_teacher and copy.deepcopy(shared.live_teacher).to(META)
    marks = shared.word_marks and WordMarks(shared.word_marks.kinds.to(META))
    return replace(
        shared,
        labels=shared.labels.to(META),
        teacher=TeacherOutputs(logits, states),
        arithmetic=Arithmetic(META, bf16=False),
        live_teacher=live,
        word_marks=marks,
    )


def step(name: str, shared: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of one member with the reference engine, otherwise of three. AdamW's own is left out."""
    members = [member(name, 1), member("kd", 2), member(name, 3, layer_weight=0.3)]
    if shared.training.engine == "reference":
        members = members[:1]
    population = Population(members, without_values(shared))
    monkeypatch.setattr(population.optimizer.adamw, "step", lambda: None)  # not made for `meta`
    examples = torch.arange(8).expand(len(members), 8)
    population.train_batch(examples, 24, 0)


@pytest.mark.parametrize("engine", ["stacked", "reference"])
@pytest.mark.parametrize("name", [name for name in METHODS if name != "emd"])
def test_a_step_looks_at_no_value(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch, name: str, engine: str
) -> None:
    step(name, recipe(arithmetic, name, engine=engine), monkeypatch)


def test_a_look_at_a_value_is_found(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMD's plans are computed on the CPU."""
    with pytest.raises(NotImplementedError, match="no data"):
        step("emd", recipe(arithmetic, "emd"), monkeypatch)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_familys_class_looks_at_a_value(family: str) -> None:
    config = CONFIG_MAPPING[family](**SIZES)
    model = new_classifier(config).eval().to(META)
    inputs = {name: values.to(META) for name, values in batch().items()}
    layers = layers_of(model, inputs, "mean", frozenset({"tokens"}))
    assert layers.logits.shape == (6, 2)
    assert layers.states.shape == (6, 3, 16)
