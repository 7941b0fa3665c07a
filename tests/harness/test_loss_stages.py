"""The texts of `training.stages`, and the factors of a step."""

import re

import pytest

from harness.config import TrainingConfig
from harness.errors import ConfigError
from harness.loss_stages import CONSTANT, in_one_form, in_words, read_stages
from tests.prepared import demo_config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant", "constant"),
        ("layers-first", "layers-first:0.5"),
        ("layers-first:0.50", "layers-first:0.5"),
        ("layers-fall", "layers-fall:1"),
        ("logits-rise:0.25+layers-fall", "logits-rise:0.25+layers-fall:1"),
        ("layers-fall:1.0+logits-rise:0.25", "logits-rise:0.25+layers-fall:1"),
        ("layers-first:0.00001", "layers-first:0.00001"),
        ("layers-first:0.9999999", "layers-first:0.9999999"),
        ("layers-fall:0.12345678", "layers-fall:0.12345678"),
    ],
)
def test_equal_stages_have_one_text(text: str, expected: str) -> None:
    assert in_one_form(text) == expected
    assert in_one_form(expected) == expected
    assert TrainingConfig(stages=text).stages == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "'' is none of constant, layers-first, "),
        ("layers", "'layers' is none of"),
        ("label-rise", "'label-rise' is none of"),
        ("logits-first", "'logits-first' is none of"),
        ("layers-fall:x", "is none of"),
        ("layers-fall:-1", "is none of"),
        ("layers-fall:1e-3", "is none of"),
        ("layers-fall:0", "must be above 0 and at most 1"),
        ("layers-rise:1.5", "must be above 0 and at most 1"),
        ("layers-first:1", "must be above 0 and below 1"),
        ("layers-first+logits-rise", "layers-first stands alone"),
        ("layers-first+layers-first", "layers-first stands alone"),
        ("layers-fall+layers-rise", "two ramps of layers"),
        ("layers-fall+logits-fall+logits-rise", "two ramps of logits"),
        ("constant+layers-fall", "'constant' is none of"),
    ],
)
def test_other_texts_are_refused(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        read_stages(text)


@pytest.mark.parametrize(
    ("text", "steps", "expected"),
    [
        ("constant", 2, [(1, 1, 1), (1, 1, 1)]),
        ("layers-first", 4, [(0, 0, 1), (0, 0, 1), (1, 1, 0), (1, 1, 0)]),
        ("layers-first:0.01", 2, [(0, 0, 1), (1, 1, 0)]),  # each stage has a step
        ("layers-first:0.99", 2, [(0, 0, 1), (1, 1, 0)]),
        ("layers-fall", 3, [(1, 1, 1), (1, 1, 0.5), (1, 1, 0)]),
        ("layers-rise", 3, [(1, 1, 0), (1, 1, 0.5), (1, 1, 1)]),
        ("logits-rise:0.6", 5, [(1, 0, 1), (1, 0.5, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)]),
        ("logits-fall+layers-rise", 2, [(1, 1, 0), (1, 0, 1)]),
        ("layers-fall", 1, [(1, 1, 1)]),
        ("layers-first", 1, [(0, 0, 1)]),
    ],
)
def test_factors_by_hand(text: str, steps: int, expected: list[tuple[float, ...]]) -> None:
    stages = read_stages(text)
    assert [stages.at(step, steps) for step in range(steps)] == expected


def test_words() -> None:
    assert in_words(CONSTANT) == ""
    assert in_words("layers-first:0.3") == (
        "layer terms alone in the first 30 % of the steps, then the other losses alone"
    )
    assert in_words("logits-rise:0.5+layers-fall") == (
        "the weights of logit distillation rise from 0 over the first 50 % of the steps, "
        "the weights of layer terms fall to 0 over the training"
    )


def test_no_setting_stops_at_a_rung_of_the_first_stage() -> None:
    def config(stages: str, rung: int) -> None:
        demo_config(
            training={"epochs": 4, "stages": stages},
            search={"rungs": [rung]},
            protocol={"unit": "settings"},
        )

    config("layers-first", 3)
    config("layers-fall", 1)
    for rung in (1, 2):
        with pytest.raises(ConfigError, match=f"after epoch {rung} only layer terms have acted"):
            config("layers-first", rung)
