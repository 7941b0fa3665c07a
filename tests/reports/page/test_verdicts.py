from reports.page.verdicts import outcome_tally, task_verdicts


def test_outcomes_are_counted_in_a_fixed_order(two_tasks):
    assert outcome_tally(["not decided", "worse", "better", "worse"]) == (
        "1 better, 2 worse, 1 not decided"
    )
    groups = task_verdicts(two_tasks)
    assert [(group.label, group.tally) for group in groups] == [
        ("Textual entailment (rte)", "1 not decided"),
        ("Textual entailment (qnli)", "1 not decided"),
    ]
