import math
from typing import Any

import numpy as np
import pytest

from reports import display, tables
from reports.evidence import read_evidence


@pytest.fixture
def evidence(scribe: Any) -> Any:
    scribe.finished()
    return read_evidence(scribe.ledger, "alp-rte")


def test_verdict_table_holds_the_numbers_worked_out_by_hand(evidence):
    rows = tables.verdict_table(evidence).to_dict("records")
    assert [row["method"] for row in rows] == [
        "teacher",
        "constant prediction",
        "finetune",
        "alp",
    ]
    teacher, constant, finetune, alp = rows
    assert teacher["mean"] == pytest.approx(95)
    assert constant["mean"] == pytest.approx(50)
    assert finetune["mean"] == pytest.approx(70)
    assert finetune["sd"] == pytest.approx(10)
    assert not finetune["best"]
    assert alp["best"] is True
    assert (alp["rank"], alp["standing"]) == (1, "highest")
    assert (finetune["rank"], finetune["standing"]) == (2, "too few seeds")
    assert alp["mean"] == pytest.approx(260 / 3)
    assert alp["sd"] == pytest.approx(10 / math.sqrt(3))
    assert alp["seeds"] == 3
    assert alp["baseline"] == "finetune"
    assert alp["difference"] == pytest.approx(50 / 3)
    assert alp["adjusted_p"] == pytest.approx(0.25)
    assert alp["outcome"] == "not decided"
    assert np.isinf([alp["low"], alp["high"]]).all()


def test_teacher_score_without_report_runs_is_of_its_last_split(scribe):
    scribe.teacher(metrics={"select": {"accuracy": 0.5}, "test": {"accuracy": 0.25}})
    scribe.begin()
    assert tables.teacher_score(read_evidence(scribe.ledger, "alp-rte"), "rte") == 25


def test_settings_table_names_the_best_trial_and_its_setting(evidence):
    rows = tables.settings_table(evidence.results("rte")).to_dict("records")
    assert rows[0]["method"] == "finetune"
    assert (rows[1]["best_trial"], rows[1]["trials"]) == (1, 2)
    assert rows[1]["points"] == pytest.approx(80)
    assert rows[1]["setting"] == "learning_rate = 0.0002"


def test_cost_table_is_per_role(evidence):
    rows = tables.cost_table(evidence.results("rte")).to_dict("records")
    alp = {row["role"]: row for row in rows if row["method"] == "alp"}
    assert (alp["search"]["runs"], alp["search"]["seconds"], alp["search"]["total"]) == (2, 2.5, 5)
    assert (alp["report"]["runs"], alp["report"]["seconds"], alp["report"]["total"]) == (3, 3, 9)
    assert (alp["report"]["examples_per_second"], alp["report"]["memory"]) == (50, 3)


def test_flat_table_names_nested_values_with_dots():
    frame = tables.flat_table({"a": {"b": 1, "c": {}}, "d": [1, 2], "e": None})
    assert frame.to_numpy().tolist() == [
        ["a.b", "1"],
        ["a.c", "not set"],
        ["d", "1, 2"],
        ["e", "not set"],
    ]


def test_numbers_are_printed_without_a_negative_zero():
    assert display.number(2)(-0.001) == "0.00"
    assert display.number(1)(-1.25) == f"{display.MINUS}1.2"
    assert display.number(1)(math.nan) == display.NOTHING
