from reports.evidence import read_evidence


def test_teacher_score_without_report_runs_is_of_its_last_split(scribe):
    scribe.teacher(metrics={"select": {"accuracy": 0.5}, "test": {"accuracy": 0.25}})
    scribe.begin()
    assert read_evidence(scribe.ledger, "alp-rte").teacher_score("rte") == 25
