import pytest

from reports.evidence import read_evidence
from reports.kit.trials import search_history


def test_search_history_marks_the_best_trial_and_drops_failed_scores(scribe):
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.75)
    scribe.run("alp", "search", 1, 0, 0.0, status="failed", reason="loss is NaN")
    evidence = read_evidence(scribe.ledger, "alp-rte")
    rows = search_history(evidence.results("rte")).to_dict("records")
    assert [(row["trial"], row["status"], row["best"]) for row in rows] == [
        (0, "complete", True),
        (1, "failed", False),
    ]
    assert rows[0]["points"] == pytest.approx(75)
    assert rows[1]["points"] != rows[1]["points"]
