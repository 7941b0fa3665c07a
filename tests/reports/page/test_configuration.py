import re

from reports.evidence import read_evidence
from reports.kit.display import DASH
from reports.page.configuration import data_table, flat_table
from reports.page.page import render


def test_flat_table_names_nested_values_with_dots():
    frame = flat_table({"a": {"b": 1, "c": {}}, "d": [1, 2], "e": None})
    assert frame.to_numpy().tolist() == [
        ["a.b", "1"],
        ["a.c", "not set"],
        ["d", "1, 2"],
        ["e", "not set"],
    ]


def test_the_counts_of_each_split_stand_in_the_page(scribe):
    counts = {"examples": 200, "left_out": 3, "truncated": 25, "words": 1000, "unknown": 5}
    scribe.manifest["tasks"]["rte"]["splits"] = {
        "train": {**counts, "duplicates": None},
        "validation": {**counts, "examples": 10, "duplicates": 1, "truncated": 0},
    }
    scribe.finished()
    evidence = read_evidence(scribe.ledger, "alp-rte")
    rows = [[cell.text for cell in row] for row in data_table(evidence).rows]
    assert rows == [
        ["rte", "train", "200", "3", DASH, "12.5", "0.5"],
        ["rte", "validation", "10", "3", "1", "0.0", "0.5"],
    ]
    page = render(evidence)
    assert '<h4 id="data">' in page
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids))  # scripts find the packed figures by theirs


def test_a_manifest_of_an_earlier_version_has_no_counts(evidence):
    assert data_table(evidence).rows == ()
    assert '<h4 id="data">' not in render(evidence)
