"""The counted work of steps: polynomials in length and depth, beside steps that are counted whole."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig

from harness.cli.planned_steps import numbers_in_training
from harness.cli.profiles import CountedStep, live_profile, plain_profile
from harness.cli.step_counts import (
    META,
    Profile,
    Work,
    count_live,
    count_step,
    member_of,
    on_meta,
    split_of,
)
from harness.config import TrainingConfig
from harness.models.families import set_depth
from harness.runtime.randomness import _counter_tables
from tests.harness.models.makers import TOKENIZERS, config_of

TRAINING = TrainingConfig(batch_size=6, max_length=64)


def shape(layers: int) -> BertConfig:
    return BertConfig(
        vocab_size=40,
        num_hidden_layers=layers,
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=64,
        num_labels=2,
    )


@pytest.mark.parametrize("width", [24, 64])
def test_a_profile_tells_the_work_of_other_depths_and_lengths(width: int) -> None:
    step = CountedStep(shape(5), TRAINING)
    member = member_of(on_meta(shape(5)).state_dict())
    whole = count_step(step.recipe(shape(5), width), member)
    found = plain_profile(step).at(width)
    assert found.products == pytest.approx(whole.products, rel=1e-6)
    assert found.moved == pytest.approx(whole.moved, rel=0.02)
    assert found.calls == pytest.approx(whole.calls, rel=0.05)
    assert found.held == pytest.approx(whole.held, rel=0.15)
    half = plain_profile(step).at(width, rows=3)
    assert (2 * half.products, half.calls) == (pytest.approx(found.products), found.calls)


def test_the_first_counts_of_a_process_are_as_the_later_ones() -> None:
    step = CountedStep(shape(3), TrainingConfig(batch_size=64, max_length=64))
    member = member_of(on_meta(shape(3)).state_dict())
    _counter_tables.pop(META.device, None)
    counts = [count_step(step.recipe(step.shape, 64), member) for _ in range(2)]
    assert counts[0] == counts[1]


def test_products_are_those_of_torchs_counter_on_real_numbers() -> None:
    step = CountedStep(shape(3), TRAINING)
    recipe = replace(step.recipe(shape(3), 16), live_teacher=on_meta(shape(3)))
    config = shape(3)
    config._attn_implementation = "eager"  # torch counts no product of the CPU's fused attention
    model = type(on_meta(shape(3)))(config).eval()
    ids = torch.ones(6, 16, dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=ids)
    assert count_live(recipe).products == counter.get_total_flops()
    assert live_profile(step).at(16).products == pytest.approx(counter.get_total_flops())


def test_tasks_of_one_encoder_share_their_counts() -> None:
    other = shape(3)
    other.id2label, other.problem_type = {0: "a", 1: "b", 2: "c"}, "regression"
    assert CountedStep(shape(3), TRAINING) == CountedStep(other, TRAINING)
    assert CountedStep(shape(3), TRAINING) != CountedStep(shape(4), TRAINING)
    longer = replace(TRAINING, max_length=32)
    assert CountedStep(shape(3), TRAINING) != CountedStep(shape(3), longer)


def test_words_in_training_are_those_that_occur_also_in_a_small_vocabulary() -> None:
    """Inner layers and positions have more rows than this table of words."""
    small = shape(2)
    weights = on_meta(small).state_dict()
    inputs = split_of(2, 8)  # one word, and the padding
    unused = (40 - 2) * 32
    found = numbers_in_training(small, weights, inputs)
    assert found == sum(value.numel() for value in weights.values()) - unused


def test_a_profile_of_one_known_length_has_the_form_of_another() -> None:
    lengths = (8.0, 16.0, 32.0)
    form = Profile(4, {int(n): np.array([n * n, 2 * n, 10.0, n]) for n in lengths})
    double = form.scaled({16: Work(2 * 256.0, 3 * 32.0, 20.0, 16.0)})
    found = double.at(24)
    assert found.products == pytest.approx(2 * 24**2)
    assert (found.moved, found.calls) == (pytest.approx(3 * 48), pytest.approx(20.0))


def test_a_profile_of_two_known_lengths_goes_through_both() -> None:
    form = Profile(4, {n: np.array([n * n, 2.0 * n, 10.0, n]) for n in (8, 16, 32)})
    other = form.scaled({32: Work(3e3, 64.0, 10.0, 500.0), 16: Work(5e2, 32.0, 10.0, 100.0)})
    assert other.at(16).values == pytest.approx([5e2, 32.0, 10.0, 100.0])
    assert other.at(32).values == pytest.approx([3e3, 64.0, 10.0, 500.0])
    assert other.at(8).held == pytest.approx(50)  # as from 16 in the known form


def test_counting_draws_no_numbers() -> None:
    state = torch.get_rng_state()
    on_meta(shape(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert META.device.type == "meta"


@pytest.mark.parametrize("family", sorted(TOKENIZERS))
@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_every_family_is_counted_by_both_engines(
    family: str, engine: Literal["auto", "reference"]
) -> None:
    """The products of a deeper encoder, whose layers a plan never counts one by one."""
    deep = config_of(family)
    set_depth(deep, range(5))
    step = CountedStep(deep, replace(TRAINING, engine=engine))
    whole = count_step(step.recipe(deep, 24), member_of(on_meta(deep).state_dict()))
    assert plain_profile(step).at(24).products == pytest.approx(whole.products, rel=1e-6)
