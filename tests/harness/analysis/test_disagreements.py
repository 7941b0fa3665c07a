"""Where two methods disagree, against a loop over examples and seeds, and by hand."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.analysis.answers import Answers
from harness.analysis.disagreements import Disagreements, disagreements
from harness.metric_table import METRICS
from tests.harness.metric_kinds import CLASS_METRICS, MULTICLASS_METRICS, SCORE_METRICS
from tests.manifests import manifest

SEEDS = (3, 1, 2)


def answers(
    metric: str,
    labels: np.ndarray,
    given: np.ndarray,
    ids: np.ndarray,
    seeds: tuple[int, ...] = SEEDS,
) -> Answers:
    """`given` (seeds, examples)."""
    by_seed = dict(zip(seeds, given.astype(np.float64), strict=True))
    return Answers(metric, labels.astype(np.float64), dict.fromkeys(by_seed, ids), by_seed)


def compared(
    held: dict[str, Answers | None],
    seeds: tuple[int, ...] = SEEDS,
    weights: dict[str, dict[int, float]] | None = None,
) -> Any:
    """The results and comparisons of a ledger: all methods against kd."""
    results = [
        SimpleNamespace(
            task="rte",
            method=name,
            seeds=seeds,
            is_pool=weights is not None,
            tuned=weights,
            trial_weights=(weights or {}).get(name),
        )
        for name in held
    ]
    pairs = [
        SimpleNamespace(task="rte", method=name, baseline="kd", seeds=seeds, stopping=None)
        for name in held
        if name != "kd"
    ]
    stored = SimpleNamespace(answers_of=lambda result: held[result.method])
    result = SimpleNamespace(
        manifest=manifest(studies={"rte": {}}), results=results, comparisons=pairs
    )
    return disagreements(stored, result)


def found(
    metric: str, labels: Any, alp: Any, kd: Any, ids: Any = None, seeds: tuple[int, ...] = SEEDS
) -> Disagreements:
    labels = np.asarray(labels)
    ids = np.arange(len(labels)) if ids is None else ids
    seeds = seeds[: len(alp)]
    given = {"alp": np.asarray(alp), "kd": np.asarray(kd)}
    held = {name: answers(metric, labels, own, ids, seeds) for name, own in given.items()}
    (pair,) = compared(held, seeds)
    return pair


def rows_by_loop(metric: str, labels: Any, alp: Any, kd: Any, ids: Any) -> list[tuple[Any, ...]]:
    """Every example that a pair of models is not equally wrong on, one value at a time."""
    scored = METRICS[metric].of_scores

    def error(answer: float, label: float) -> float:
        return abs(answer - label) if scored else float(answer != label)

    def said(own: list[float]) -> tuple[float, int | None]:
        if scored:
            return sum(own) / len(own), None
        votes = Counter(own)
        return min(((-count, answer) for answer, count in votes.items()))[1], max(votes.values())

    rows = []
    for place, label in enumerate(labels):
        ours, theirs = [list(own[:, place]) for own in (alp, kd)]
        errors = [(error(a, label), error(b, label)) for a, b in zip(ours, theirs, strict=True)]
        closer, further = sum(a < b for a, b in errors), sum(b < a for a, b in errors)
        if closer + further:
            mean, other = (sum(pair[side] for pair in errors) / len(errors) for side in (0, 1))
            row = (int(ids[place]), label, other - mean, *said(ours), mean, closer)
            rows.append((*row, *said(theirs), other, further))
    return sorted(rows, key=lambda row: (round(-row[2], 9), row[0]))


def rows_of(pair: Disagreements) -> list[tuple[Any, ...]]:
    def side(of: Any) -> list[Any]:
        votes = [None] * len(pair.ids) if of.votes is None else of.votes
        return [of.answers, votes, of.errors, of.wins]

    columns = [
        pair.ids,
        pair.labels,
        pair.advantage,
        *side(pair.method_side),
        *side(pair.baseline_side),
    ]
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize(
    ("metric", "classes"),
    [*((name, 2) for name in CLASS_METRICS), *((name, 3) for name in MULTICLASS_METRICS)],
)
def test_classes_are_those_of_a_loop(metric: str, classes: int) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(classes, size=60)
    alp, kd = generator.integers(classes, size=(2, 3, 60))
    ids = generator.permutation(1000)[:60]
    expected = rows_by_loop(metric, labels, alp, kd, ids)
    pair = found(metric, labels, alp, kd, ids)
    assert 20 < len(expected) < 60
    assert rows_of(pair) == [pytest.approx(row) for row in expected]
    assert (pair.examples, pair.seeds, pair.is_regression) == (60, SEEDS, False)


@pytest.mark.parametrize("metric", SCORE_METRICS)
def test_scores_are_those_of_a_loop(metric: str) -> None:
    generator = np.random.default_rng(1)
    labels = generator.uniform(0, 5, 40)
    alp, kd = labels + generator.normal(size=(2, 3, 40))
    kd[:, 7] = alp[:, 7]
    ids = np.arange(40)[::-1]
    pair = found(metric, labels, alp, kd, ids)
    assert pair.is_regression
    assert len(pair.ids) == 39
    assert rows_of(pair) == [
        pytest.approx(row) for row in rows_by_loop(metric, labels, alp, kd, ids)
    ]


def test_the_order_by_hand() -> None:
    """With three seeds alp is right 3, 2, 2, 1, 0, 3 times and kd 0, 1, 0, 2, 0, 3 times."""
    labels = [1, 1, 1, 1, 1, 1]
    alp = [[1, 1, 0, 1, 0, 1], [1, 1, 1, 0, 0, 1], [1, 0, 1, 0, 0, 1]]
    kd = [[0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 1], [0, 1, 0, 1, 0, 1]]
    pair = found("accuracy", labels, alp, kd, np.array([50, 41, 42, 43, 44, 45]))
    assert list(pair.ids) == [50, 42, 41, 43]
    assert list(pair.advantage) == pytest.approx([1, 2 / 3, 1 / 3, -1 / 3])
    assert list(pair.method_side.wins) == [3, 2, 2, 1]
    assert list(pair.baseline_side.wins) == [0, 0, 1, 2]
    assert list(pair.method_side.answers) == [1, 1, 1, 0]
    assert list(pair.method_side.votes) == [3, 2, 2, 2]
    assert list(pair.baseline_side.errors) == pytest.approx([1, 1, 2 / 3, 1 / 3])


def test_equal_counts_are_ordered_by_id() -> None:
    """Differences of shares are not: 1 - 2/3 is greater than 1/3 in the last digit."""
    generator = np.random.default_rng(2)
    labels = np.ones(200)
    ids = generator.permutation(200)
    alp, kd = generator.integers(2, size=(2, 3, 200))
    pair = found("accuracy", labels, alp, kd, ids)
    steps = list(zip(-np.round(pair.advantage * 3), pair.ids, strict=True))
    assert steps == sorted(steps)


def test_each_side_has_its_clearest_first() -> None:
    """Five seeds: what less than half of them tell is clear for nobody."""
    lead = {10: 5, 11: 3, 12: 2, 13: -3, 14: -5, 15: -5, 16: -1}
    places = range(5)
    alp = [[int(place < won) for won in lead.values()] for place in places]
    kd = [[int(place < -won) for won in lead.values()] for place in places]
    pair = found("accuracy", np.ones(7), alp, kd, np.array(list(lead)), seeds=(1, 2, 3, 4, 5))
    assert pair.ids[pair.clear_for_method].tolist() == [10, 11]
    assert pair.ids[pair.clear_for_baseline].tolist() == [14, 15, 13]


def test_half_of_the_seeds_are_not_most() -> None:
    pair = found("accuracy", [1], [[1], [0]], [[0], [0]])
    assert (pair.method_side.wins[0], len(pair.clear_for_method)) == (1, 0)


def test_closer_in_most_seeds_but_further_in_the_mean_is_not_clear() -> None:
    pair = found("pearson", [0.0, 0.0], [[1, 2], [1, 2], [9, 9]], [[2, 1], [2, 1], [2, 9.5]])
    assert pair.advantage.tolist() == pytest.approx([-0.5, -5 / 3])
    assert pair.method_side.wins.tolist() == [1, 2]
    assert len(pair.clear_for_method) == 0
    assert pair.ids[pair.clear_for_baseline].tolist() == [1]


def test_models_that_agree_have_no_rows() -> None:
    pair = found("accuracy", [1, 0], [[1, 1]], [[1, 1]])
    assert (len(pair.ids), len(pair.method_side.answers), len(pair.baseline_side.votes)) == (
        0,
        0,
        0,
    )
    assert pair.examples == 2


def test_what_has_no_predictions_is_left_out() -> None:
    ids, labels = np.arange(2), np.array([1, 0])
    own = answers("accuracy", labels, np.array([[1, 1]] * 3), ids)
    elsewhere = answers("accuracy", labels, np.array([[1, 1]] * 3), ids + 1)
    pairs = compared({"kd": own, "alp": None, "pkd": elsewhere, "emd": own})
    assert [(pair.method, pair.baseline) for pair in pairs] == [("emd", "kd")]
    assert compared({"kd": None, "alp": own}) == ()


@pytest.mark.parametrize("metric", ["accuracy", "pearson"])
def test_tuned_methods_are_those_of_a_loop_over_all_pairs_of_trials(metric: str) -> None:
    """A failed trial has a weight and no answers; the rest of the weights is scaled to 1."""
    generator = np.random.default_rng(3)
    labels = generator.integers(3, size=50).astype(float)
    given = generator.integers(3, size=(2, 3, 50)).astype(float)
    if metric == "pearson":
        labels, given = labels + 0.1, labels + generator.normal(size=(2, 3, 50))
    given[1][:, :20] = given[0][:, :20] = labels[:20]
    ids = generator.permutation(50)
    shares = {"alp": (0.2, 0.5, 0.1), "kd": (0.7, 0.0, 0.3)}
    weights = {name: dict(zip(SEEDS, values, strict=True)) for name, values in shares.items()}
    weights["alp"][4] = 0.2
    sides = dict(zip(shares, given, strict=True))
    held = {name: answers(metric, labels, values, ids) for name, values in sides.items()}
    (pair,) = compared(held, weights=weights)
    assert (pair.is_tuned, pair.pairs, pair.seeds) == (True, 1, (1, 2, 3))

    expected = []
    for place, label in enumerate(labels):
        errors, said, votes = {}, {}, {}
        for name, values in sides.items():
            column, share = values[:, place], np.array(shares[name]) / sum(shares[name])
            errors[name] = np.abs(column - label) if metric == "pearson" else column != label
            said[name] = share @ column
            if metric != "pearson":
                counted = Counter(dict.fromkeys(column, 0.0))
                for answer, weight in zip(column, share, strict=True):
                    counted[answer] += weight
                said[name], votes[name] = counted.most_common(1)[0]
            errors[name] = list(zip(share, errors[name].astype(float), strict=True))
        wins = sum(v * w for v, a in errors["alp"] for w, b in errors["kd"] if a < b)
        losses = sum(v * w for v, a in errors["alp"] for w, b in errors["kd"] if b < a)
        mean, other = (sum(w * e for w, e in errors[name]) for name in shares)
        if max(wins, losses) >= 0.05:
            row = (ids[place], label, other - mean, said["alp"], votes.get("alp"), mean, wins)
            expected.append((*row, said["kd"], votes.get("kd"), other, losses))
    expected.sort(key=lambda row: (round(-row[2], 9), row[0]))
    assert 15 < len(expected) <= 30
    assert rows_of(pair) == [pytest.approx(row) for row in expected]
    assert [float(value) for value in pair.advantage[pair.clear_for_method]] == [
        pytest.approx(row[2]) for row in expected if row[6] > 0.5 and row[2] > 0
    ]


def test_a_rare_disagreement_of_tuned_methods_does_not_count() -> None:
    """A trial of weight 4 % is alone right on the first example, one of 5 % on the second example."""
    labels, kd = np.ones(2), np.zeros((3, 2))
    alp = np.array([[1, 0], [0, 1], [0, 0]])
    weights = {"alp": {3: 0.04, 1: 0.05, 2: 0.91}, "kd": {3: 1.0, 1: 0.0, 2: 0.0}}
    ids = np.arange(2)
    held = {name: answers("accuracy", labels, own, ids) for name, own in (("alp", alp), ("kd", kd))}
    (pair,) = compared(held, weights=weights)
    assert list(pair.ids) == [1]
    assert list(pair.method_side.wins) == [pytest.approx(0.05)]
    assert list(pair.baseline_side.votes) == [1]
    assert len(pair.clear_for_method) == 0
