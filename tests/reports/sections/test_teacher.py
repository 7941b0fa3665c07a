from dataclasses import replace

import pytest

from reports.sections.teacher import teacher_warnings, variance_shares
from tests.prepared import FACTS


def test_variance_shares_are_percent_of_layers_from_one(evidence):
    shares = variance_shares(evidence.teachers["rte"])
    assert shares["layer"].tolist() == [1, 2, 3]
    assert shares["percent"].tolist() == pytest.approx([0.5, 30, 40])


def test_a_second_recipe_is_said():
    assert teacher_warnings(FACTS) == []
    assert teacher_warnings(replace(FACTS, second_recipe="Fine-tuned twice.")) == [
        "Fine-tuned twice."
    ]
