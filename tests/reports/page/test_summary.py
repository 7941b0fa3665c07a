from reports.page.summary import summary, unlabelled_texts
from tests.manifests import manifest


def test_the_summary_is_what_the_index_shows(evidence):
    found = summary(evidence)
    assert found["verdicts"] == [
        {
            "task": "rte",
            "method": "alp",
            "baseline": "finetune",
            "outcome": "not decided",
            "difference": "+16.67",
        }
    ]
    assert (found["missing"], found["failed"], found["tasks"]) == (0, 0, ["rte"])
    assert found["facts"]["comparisons"] == "1 at level 0.05, Holm"
    assert found["title"] == "alp and finetune on RTE, demo"
    assert found["warnings"] == [
        "UNDERPOWERED: 3 paired seeds, at least 6 can decide. 3 cannot decide one comparison at level "
        "0.05, however large a difference is."
    ]


def test_unlabelled_texts_are_counted_once_for_all_cells():
    texts = {"sizes": {"train": 90, "transfer": 135}}
    assert unlabelled_texts(manifest()) == {}
    both = manifest(
        studies={"rte": {"kd": "a"}, "qnli": {"kd": "b"}},
        tasks={"rte": texts, "qnli": {"sizes": {"train": 3, "transfer": 1}}},
    )
    words = "the same for all methods, without a label loss"
    assert unlabelled_texts(both) == {
        "unlabelled texts": "rte: 135, 1.5 for each training example; qnli: 1, 0.333 for each training "
        f"example ({words})"
    }
    cells = {f"layers={depth}": depth for depth in (2, 1)}
    config = {"preset": "demo", "methods": ["kd"], "tasks": ["rte"]}
    grid = {
        "axes": {"student.layers": [2, 1]},
        "cells": {
            name: {"values": {"student.layers": depth}, "config": config}
            for name, depth in cells.items()
        },
        "places": {f"rte ({name})": {"task": "rte", "cell": name} for name in cells},
        "family": [],
    }
    in_cells = manifest(
        studies={f"rte ({name})": {"kd": name} for name in cells},
        tasks={f"rte ({name})": texts for name in cells},
        grid=grid,
    )
    assert unlabelled_texts(in_cells) == {
        "unlabelled texts": f"rte: 135, 1.5 for each training example ({words})"
    }
