from types import SimpleNamespace
from typing import Any

from reports.page.verdicts import findings, outcome_tally, subject, task_verdicts
from tests.manifests import manifest


def test_outcomes_are_counted_in_a_fixed_order(two_tasks):
    assert outcome_tally(["not decided", "worse", "better", "worse"]) == (
        "1 better, 2 worse, 1 not decided"
    )
    groups = task_verdicts(two_tasks)
    assert [(group.label, group.tally) for group in groups] == [
        ("Textual entailment (rte)", "1 not decided"),
        ("Textual entailment (qnli)", "1 not decided"),
    ]


def comparison(method: str, outcome: str, mean: float = 0.012) -> Any:
    return SimpleNamespace(
        method=method,
        baseline="kd",
        task="rte",
        margin=0.01,
        difference=SimpleNamespace(mean=mean),
        verdict=SimpleNamespace(outcome=outcome),
    )


def test_a_single_verdict_is_a_sentence() -> None:
    def text(outcome: str, mean: float = 0.012) -> str:
        (finding,) = findings([comparison("alp", outcome, mean)])
        assert finding.outcome == outcome
        return finding.text

    assert text("better") == "alp is better than kd on rte, by 1.2 points."
    assert text("worse", -0.01) == "alp is worse than kd on rte, by 1 point."
    assert text("equivalent") == "alp and kd are equivalent on rte, within 1 point."
    assert text("not decided") == "Whether alp is better or worse than kd on rte is not decided."


def test_of_many_verdicts_winners_are_named_the_largest_difference_first() -> None:
    many = [
        comparison("pkd", "better", 0.01),
        comparison("alp", "better", 0.03),
        comparison("emd", "equivalent"),
        *(comparison(f"m{n}", "not decided") for n in range(7)),
    ]
    assert [finding.text for finding in findings(many)] == [
        "Better than kd on rte: alp, pkd.",
        "Equivalent to kd on rte, within 1 point: emd.",
        "Not decided on rte, against kd: 7 methods.",
    ]


def test_the_subject_says_what_luck_a_verdict_includes() -> None:
    assert subject(manifest()).startswith("About settings, not methods")
    methods = subject(manifest(unit="methods", config={"protocol": {"budget": 4}}))
    assert (
        methods
        == "About methods that are tuned with 4 trials each, over new searches with this teacher."
    )
