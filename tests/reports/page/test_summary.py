from reports.page.summary import summary


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
        "UNDERPOWERED: 3 paired seeds cannot decide one comparison at level 0.05, however large a "
        "difference is. At least 6 can."
    ]
