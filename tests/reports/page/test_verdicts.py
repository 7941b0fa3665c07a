import copy

import pytest

from reports import tables
from reports.evidence import read_evidence
from reports.kit.display import NOTHING
from reports.kit.palette import method_styles
from reports.page import verdicts
from reports.page.page import summary


@pytest.fixture
def evidence(scribe):
    scribe.finished()
    return read_evidence(scribe.ledger, "alp-rte")


@pytest.fixture
def two_tasks(scribe):
    """The same studies under the names of two tasks."""
    manifest = scribe.manifest
    for part in ("tasks", "studies", "teachers"):
        manifest[part]["qnli"] = copy.deepcopy(manifest[part]["rte"])
    manifest["family"].append(["qnli", "alp", "finetune"])
    scribe.finished()
    return read_evidence(scribe.ledger, "alp-rte")


def test_the_verdict_table_prints_words_where_there_is_no_number(evidence):
    frame = tables.verdict_table(evidence)
    shown = verdicts.verdict_display(frame, method_styles(evidence.methods))
    assert shown.label == "Scores and differences on rte, by accuracy"
    assert [cell.text for cell in shown.headings] == [
        "method", "mean, points", "sd", "rank", "vs the best", "verdict", "against",
        "difference, points", "interval", "adjusted p", "seeds",
    ]  # fmt: skip
    texts = {row[0].text: [cell.text for cell in row[1:]] for row in shown.rows}
    assert texts["teacher"] == ["95.00", *[NOTHING] * 9]
    assert texts["finetune"] == [
        "70.00", "10.00", "2", "too few seeds", *[NOTHING] * 5, "3",
    ]  # fmt: skip
    assert texts["alp"] == [
        "86.67", "5.77", "1", "highest", "○ not decided", "finetune", "+16.67", "unbounded", "0.25",
        "3",
    ]  # fmt: skip
    assert [row[1].strong for row in shown.rows] == [False, False, False, True]


def test_of_several_tasks_the_table_names_each_and_an_overview_leads(two_tasks):
    frame = tables.verdict_table(two_tasks)
    styles = method_styles(two_tasks.methods)
    shown = verdicts.verdict_display(frame, styles)
    assert [cell.text for cell in shown.headings[:3]] == ["method", "task", "metric"]
    overview = verdicts.overview_display(frame, styles)
    assert [cell.text for cell in overview.headings] == ["method", "mean rank", "rte", "qnli"]
    assert [[cell.text for cell in row] for row in overview.rows] == [
        ["alp", "1.0", "86.67 ○", "86.67 ○"],
        ["finetune", "2.0", "70.00", "70.00"],
    ]
    assert overview.rows[0][2].data == ("86.6667", "not decided", "highest")


def test_a_method_that_one_task_lacks_has_a_dash_there(two_tasks, scribe):
    del scribe.manifest["studies"]["qnli"]["alp"]
    scribe.begin()
    found = read_evidence(scribe.ledger, "alp-rte")
    shown = verdicts.overview_display(tables.verdict_table(found), method_styles(found.methods))
    texts = {row[0].text: [cell.text for cell in row[1:]] for row in shown.rows}
    assert texts == {"alp": ["1.0", "86.67 ○", NOTHING], "finetune": ["2.0", "70.00", "70.00"]}


def test_outcomes_are_counted_in_a_fixed_order(two_tasks):
    assert verdicts.outcome_tally(["not decided", "worse", "better", "worse"]) == (
        "1 better, 2 worse, 1 not decided"
    )
    groups = verdicts.task_verdicts(two_tasks)
    assert [(group.label, group.tally) for group in groups] == [
        ("Textual entailment (rte)", "1 not decided"),
        ("Textual entailment (qnli)", "1 not decided"),
    ]


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
