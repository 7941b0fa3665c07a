import numpy as np

from reports.evidence import read_evidence
from reports.page.standings import FEW_SEEDS, HIGHEST_MEAN, LOWER_MEAN, TIED_MEAN, standings

SEEDS = range(100, 110)
OF_BEST = {"alp": 0.0, "kd": -0.1, "finetune": -0.2}


def words(scribe, scores, **changes):
    """The standings of methods with such scores (seeds,), by method."""
    studies = {method: f"s-{method}" for method in scores}
    scribe.manifest |= {
        "studies": {"rte": studies},
        "family": [["rte", name, "finetune"] for name in scores if name != "finetune"],
        "report_seeds": list(SEEDS),
        "trials": 1,
        **changes,
    }
    scribe.begin()
    for method, of_seeds in scores.items():
        scribe.run(method, "search", 0, 0, 0.5)
        for seed, score in zip(SEEDS, of_seeds, strict=False):
            status = "complete" if score is not None else "failed"
            scribe.run(method, "report", 0, seed, score or 0.0, status=status, predicted=False)
    return standings(read_evidence(scribe.ledger, "alp-rte"), "rte")


def spread(n):
    return 0.8 + 0.01 * np.arange(n)


def test_methods_that_lose_every_seed_are_lower_and_others_tied(scribe):
    up_and_down = np.array([0.02, -0.02] * 5)
    found = words(
        scribe,
        {"finetune": spread(10) - 0.05, "alp": spread(10), "kd": spread(10) + up_and_down - 0.001},
    )
    assert {name: (s.rank, s.word) for name, s in found.items()} == {
        "finetune": (3, LOWER_MEAN),
        "alp": (1, HIGHEST_MEAN),
        "kd": (2, TIED_MEAN),
    }


def test_equal_means_share_a_rank_and_are_both_highest(scribe):
    found = words(scribe, {"finetune": spread(10), "alp": spread(10)[::-1]})
    assert {(s.rank, s.word) for s in found.values()} == {(1.5, HIGHEST_MEAN)}


def test_few_seeds_are_said_to_be_few(scribe):
    found = words(scribe, {"finetune": spread(5), "alp": spread(5) + 0.1})
    assert found["finetune"].word == FEW_SEEDS
    assert found["alp"].word == HIGHEST_MEAN


def test_of_two_methods_the_mark_agrees_with_the_verdict(scribe):
    differences = np.array([3, 3, 3, 3, 3, 3, 3, 3, -2, -4]) / 100
    found = words(scribe, {"finetune": spread(10), "alp": spread(10) + differences})
    evidence = read_evidence(scribe.ledger, "alp-rte")
    (comparison,) = evidence.result.comparisons
    one_sided = comparison.adjusted_p / 2
    assert one_sided < 0.05 < comparison.adjusted_p
    assert comparison.verdict.outcome == "not decided"
    assert found["finetune"].word == TIED_MEAN


def test_a_verdict_is_never_contradicted(scribe):
    """Holm rejects what the tests of the best, each at alpha over the others, do not."""
    small = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, -1]) / 100
    found = words(
        scribe,
        {
            "finetune": spread(10),
            "alp": spread(10) - 0.1,
            "kd": spread(10) - 0.2,
            "pkd": spread(10) - small,
        },
    )
    outcomes = {
        c.method: c.verdict.outcome
        for c in read_evidence(scribe.ledger, "alp-rte").result.comparisons
    }
    assert outcomes["pkd"] == "worse"
    assert found["pkd"].word == LOWER_MEAN


def test_seeds_that_were_added_until_they_decided_allow_no_further_test(scribe):
    lower = words(
        scribe,
        {"finetune": spread(10), "alp": spread(10) - 0.001 * np.array([1, -1] * 5)},
        stopping="sequential",
        margins={"accuracy": 0.01},
    )
    assert {s.word for s in lower.values()} <= {HIGHEST_MEAN, ""}


def test_one_method_or_none_has_no_standing(scribe):
    assert words(scribe, {"finetune": spread(10)}) == {}
