import pytest

from reports.sections.teacher import variance_shares


def test_variance_shares_are_percent_of_layers_from_one(evidence):
    shares = variance_shares(evidence.teachers["rte"])
    assert shares["layer"].tolist() == [1, 2, 3]
    assert shares["percent"].tolist() == pytest.approx([0.5, 30, 40])
