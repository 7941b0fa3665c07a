import math
from typing import Any

import numpy as np
import pytest

from reports.evidence import read_evidence
from reports.kit.palette import method_styles
from reports.sections import tuning
from tests.reports.conftest import section_blocks

STYLES = method_styles(["finetune", "alp"])


def search(scribe: Any, random: int, scores: dict[str, list[float]], trials: int = 0) -> Any:
    """Evidence of trials with those scores; NaN stands for a failed one."""
    most = max(map(len, scores.values()))
    scribe.manifest |= {"trials": trials or most, "random_trials": random}
    scribe.begin()
    for method, own in scores.items():
        for trial, score in enumerate(own):
            failed = {"status": "failed", "reason": "loss is NaN"} if math.isnan(score) else {}
            scribe.run(method, "search", trial, 0, score, **failed)
    return read_evidence(scribe.ledger, "alp-rte")


def block(evidence: Any) -> Any:
    return tuning.tuning_block(evidence, "rte", STYLES)


RANDOM = {"alp": [0.5, 0.9, 0.6, 0.7], "finetune": [0.4, 0.4, 0.6, 0.8]}


def test_curves_use_the_random_trials_only(scribe):
    later = {method: [*own, 0.95, 0.96] for method, own in RANDOM.items()}
    evidence = search(scribe, 4, later)
    found = tuning.read_tuning(evidence, "rte")
    frame = tuning.curve_frame(found.curves)
    alp = frame[frame["method"] == "alp"]
    assert alp["trials"].tolist() == [1, 2, 3, 4]
    # The best of two of 50, 60, 70, 90: 60 once, 70 twice, 90 three times. Of three: 70, then 90.
    assert alp["expected"].tolist() == pytest.approx([67.5, (60 + 140 + 270) / 6, 85, 90])
    # (2/4)^1 = 1/2; (3/4)^2 > 1/2; (3/4)^3 < 1/2.
    assert alp["median"].tolist() == pytest.approx([60, 70, 90, 90])
    assert alp["low"].tolist() == pytest.approx([-math.inf, -math.inf, 50, 50])
    assert np.isinf(alp["high"]).all()
    assert frame["method"].unique().tolist() == ["finetune", "alp"]
    shown = block(evidence)
    assert shown.panels == ()
    assert shown.notes == (
        "Every method has 6 trials, 4 random trials, 1 run a trial, 2 epochs.",
        "No curve: 4 random trials are too few to bound one from both sides at 95 %. It takes at "
        "least 8 (--sampler random --trials 8).",
    )


def test_all_trials_of_a_random_search_count(scribe):
    own = [0.5 + number / 50 for number in range(8)]
    evidence = search(scribe, 8, {"alp": own, "finetune": own[::-1]})
    shown = block(evidence)
    assert shown.notes[1:] == (
        "The curves use all 8 trials of each method, which were drawn at random. The band holds at 95 "
        "%.",
    )
    assert shown.warnings == ()
    frame = tuning.curve_frame(tuning.read_tuning(evidence, "rte").curves)
    first = frame[frame["trials"] == 1]
    assert first["low"].tolist() == pytest.approx([50, 50])
    assert first["high"].tolist() == pytest.approx([64, 64])


def test_the_level_is_the_manifests(scribe):
    scribe.manifest["alpha"] = 0.4
    evidence = search(scribe, 4, RANDOM)
    found = tuning.read_tuning(evidence, "rte")
    assert found.confidence == 0.6
    assert {curve.confidence for curve in found.curves.values()} == {0.6}
    assert "The band holds at 60 %" in block(evidence).notes[1]


def test_the_figure_has_a_band_and_a_line_of_each_method(scribe):
    evidence = search(scribe, 4, RANDOM)
    frame = tuning.curve_frame(tuning.read_tuning(evidence, "rte").curves)
    figure = tuning.tuning_figure(frame, STYLES, "accuracy").to_figure()
    floor, ceiling = figure.layout.yaxis.range
    assert (floor, ceiling) == pytest.approx((40 - 2.5, 90 + 2.5))
    _, band, _, line = figure.data
    assert band.x == (1, 2, 3, 4, 4, 3, 2, 1)
    assert band.y == pytest.approx([ceiling] * 4 + [50, 50, floor, floor])
    assert line.y == pytest.approx([60, 70, 90, 90])
    assert line.line.color == STYLES["alp"].colour
    assert line.hovertext[0] == "alp, best of 1: 60.00 (no lower bound, no upper bound)"
    assert line.hovertext[3] == "alp, best of 4: 90.00 (from 50.00, no upper bound)"


def test_enough_random_trials_are_drawn(scribe):
    own = [0.5 + number / 50 for number in range(8)]
    (panel,) = block(search(scribe, 8, {"alp": own, "finetune": own[::-1]})).panels
    assert [name for name, _ in panel.key] == ["finetune", "alp"]
    assert "alp: best of 8: 64.00 (from " in panel.alt


def test_failed_trials_count_and_rank_below_all(scribe):
    scores = [math.nan, *(0.5 + number / 100 for number in range(9))]
    evidence = search(scribe, 10, {"alp": scores, "finetune": [*scores[1:], 0.4]})
    frame = tuning.curve_frame(tuning.read_tuning(evidence, "rte").curves)
    alp, finetune = (frame[frame["method"] == name] for name in ("alp", "finetune"))
    assert alp["expected"].isna().all()
    assert alp["median"].tolist() == pytest.approx(finetune["median"].tolist())
    assert alp["low"].tolist() == pytest.approx([-math.inf, *finetune["low"].tolist()[1:]])
    assert finetune["low"].tolist()[0] == pytest.approx(40)
    figure = tuning.tuning_figure(alp, STYLES, "accuracy").to_figure()
    assert figure.data[0].y[-1] == figure.layout.yaxis.range[0]
    assert [row[3].text for row in block(evidence).tables[0].rows] == ["0", "1"]


def test_a_median_that_is_a_failure_is_not_drawn(scribe):
    evidence = search(scribe, 5, {"alp": [math.nan] * 3 + [0.8, 0.9], "finetune": [0.5] * 5})
    frame = tuning.curve_frame({"alp": tuning.tuning_curve([80.0, 90.0], 3, 0.5)})
    figure = tuning.tuning_figure(frame, STYLES, "accuracy").to_figure()
    assert figure.data[1].y[0] is None
    assert figure.data[1].hovertext[0].startswith("alp, best of 1: none (")
    words = "alp: 5 random trials, 3 of which failed, are too few to bound the curve anywhere."
    assert words in block(evidence).notes


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (None, "alp: 3 of 4 random trials are finished, and a curve needs all of them."),
        (
            "pruned",
            "alp: 1 of 4 random trials were stopped early. A trial is stopped because of the other",
        ),
    ],
)
def test_what_is_not_independent_or_not_there_has_no_curve(scribe, missing, words):
    scribe.manifest |= {"trials": 4, "random_trials": 4}
    scribe.begin()
    for method, own in RANDOM.items():
        for trial, score in enumerate(own[:3] if method == "alp" else own):
            scribe.run(method, "search", trial, 0, score)
    if missing:
        scribe.run("alp", "search", 3, 0, 0.7, status=missing)
    evidence = read_evidence(scribe.ledger, "alp-rte")
    assert list(tuning.read_tuning(evidence, "rte").curves) == ["finetune"]
    assert any(note.startswith(words) for note in block(evidence).notes)


def test_a_trial_needs_all_its_search_seeds(scribe):
    scribe.manifest["search_seeds"] = [0, 1]
    evidence = search(scribe, 4, RANDOM)
    assert not tuning.read_tuning(evidence, "rte").curves
    words = "alp: 0 of 4 random trials are finished, and a curve needs all of them."
    assert words in block(evidence).notes


def test_too_few_trials_are_said_and_not_drawn(scribe):
    shown = block(search(scribe, 2, {"alp": [0.5, 0.6], "finetune": [math.nan] * 2}))
    assert shown.panels == ()
    assert shown.notes[1:] == (
        "finetune: all 2 random trials failed.",
        "alp: 2 random trials are too few to bound the curve anywhere.",
    )
    assert shown.notes[0].startswith("No curve: 2 random trials are too few")


def test_the_budget_is_counted_from_the_records(scribe):
    scribe.finished()
    scribe.manifest["trials"] = 3
    scribe.begin()
    scribe.run("alp", "search", 2, 0, 0.0, status="failed", reason="loss is NaN")
    scribe.run("finetune", "search", 2, 0, 0.5, status="pruned")
    budget = tuning.budget_table(read_evidence(scribe.ledger, "alp-rte"), "rte")
    alike = {"trials": 3, "random": 2, "search_seeds": 1, "epochs": 2, "report_seeds": 3}
    assert budget.to_dict("records") == [
        {"method": "finetune", **alike, "failed": 0, "pruned": 1},
        {"method": "alp", **alike, "failed": 1, "pruned": 0},
    ]
    assert tuning.budget_warnings(budget) == []


def test_unequal_budgets_are_told(scribe):
    scribe.manifest["trials"] = 3
    scribe.begin()
    for trial in (0, 1, 2):
        scribe.run("alp", "search", trial, 0, 0.5)
    scribe.run("finetune", "search", 0, 0, 0.5, epochs=4)
    scribe.run("finetune", "search", 0, 1, 0.5, epochs=4)
    assert block(read_evidence(scribe.ledger, "alp-rte")).warnings[:3] == (
        "The methods' searches differ in trials: finetune 1, alp 3.",
        "The methods' searches differ in runs a trial: finetune 2, alp 1.",
        "The methods' searches differ in epochs: finetune 4, alp 2.",
    )


def test_nothing_searched_leaves_the_section_out(scribe):
    scribe.begin()
    evidence = read_evidence(scribe.ledger, "alp-rte")
    assert section_blocks(evidence, "tuning") == ()
