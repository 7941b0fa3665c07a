import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.errors import StorageError
from reports.evidence import read_evidence
from reports.kit.palette import method_styles
from reports.sections.space import blocks, figures, surfaces, trials
from reports.sections.space.trials import Scale

STYLES = method_styles(["finetune", "alp"])
SPACE = {
    "kd_weight": "FloatDistribution(high=0.9, log=False, low=0.1, step=None)",
    "layer_weight": "FloatDistribution(high=100.0, log=True, low=1.0, step=None)",
    "temperature": "FloatDistribution(high=10.0, log=False, low=1.0, step=None)",
}


def setting(position: float, other: float = 0.5) -> dict[str, float]:
    return {
        "kd_weight": 0.1 + 0.8 * other,
        "layer_weight": 100**position,
        "temperature": 1 + 9 * other,
        "fixed": "no axis",
    }


def search(
    scribe: Any, space: dict[str, str] = SPACE, **methods: list[tuple[float, dict[str, Any]]]
) -> Any:
    """Evidence of trials with those scores and settings; NaN stands for a failed one."""
    scribe.space = space
    scribe.begin()
    scribe.manifest["trials"] = max(1, *map(len, methods.values()))
    scribe.write()
    for method, asked in methods.items():
        for trial, (score, own) in enumerate(asked):
            failed = {"status": "failed", "reason": "loss is NaN"} if math.isnan(score) else {}
            scribe.run(method, "search", trial, 0, score, setting=own, **failed)
    return read_evidence(scribe.ledger, "alp-rte")


def plane(count: int, seed: int = 0) -> list[tuple[float, dict[str, Any]]]:
    """Trials whose score is a plane over temperature and the logarithm of the weight."""
    draws = np.random.default_rng(seed).random((count, 2))
    return [(0.5 + 0.2 * a + 0.1 * b, setting(float(a), float(b))) for a, b in draws]


def block(evidence: Any) -> Any:
    return blocks.space_block(evidence, "rte", STYLES)


@pytest.mark.parametrize(
    ("text", "value", "position"),
    [
        ("FloatDistribution(high=10.0, log=False, low=2.0, step=None)", 4.0, 0.25),
        ("FloatDistribution(high=100.0, log=True, low=1.0, step=None)", 10.0, 0.5),
        ("IntDistribution(high=5, log=False, low=1, step=1)", 2, 0.25),
        ("CategoricalDistribution(choices=('mean', 'max'))", "max", 0.75),
        ("CategoricalDistribution(choices=(True, False))", True, 0.25),
        ("FloatDistribution(high=10.0, log=False, low=2.0, step=None)", None, math.nan),
        ("CategoricalDistribution(choices=('mean', 'max'))", "least", math.nan),
        ("FloatDistribution(high=3.0, log=False, low=3.0, step=None)", 3.0, 0.5),
    ],
)
def test_values_have_places_on_their_scale(text: str, value: Any, position: float) -> None:
    assert trials.read_scale(text).position(value) == pytest.approx(position, nan_ok=True)


@pytest.mark.parametrize("scale", [Scale(2, 10), Scale(1, 100, log=True)])
def test_places_lead_back_to_values(scale: Scale) -> None:
    places = np.array([0, 0.25, 1])
    assert [scale.position(value) for value in scale.value(places)] == pytest.approx(places)


@pytest.mark.parametrize(
    "text", ["", "1", "FloatDistribution()", "f(low=__import__('os'), high=1, log=0)", "f(", "\0"]
)
def test_what_is_no_distribution_is_said(text: str) -> None:
    with pytest.raises(StorageError, match="is not a distribution"):
        trials.read_scale(text)


def test_trials_have_ranks_and_values(scribe: Any) -> None:
    own = [(0.6, setting(0.0)), (0.9, setting(1.0)), (math.nan, setting(0.1)), (0.6, setting(0.5))]
    evidence = search(scribe, alp=own, finetune=[(0.7, {"temperature": 2.0})])
    searched = trials.read_space(evidence, "rte")
    found = searched.trials
    assert found["method"].tolist() == ["finetune", "alp", "alp", "alp"]
    assert found["trial"].tolist() == [0, 0, 1, 3]
    assert found["points"].tolist() == pytest.approx([70, 60, 90, 60])
    # Of three, the two that tie are each above half a trial of two.
    assert found["rank"].tolist() == pytest.approx([0.5, 0.25, 1, 0.25])
    assert found["setting.layer_weight"].tolist() == pytest.approx(
        [math.nan, 1, 100, 10], nan_ok=True
    )
    assert "setting.fixed" not in found


def test_the_share_that_was_searched_is_had_back(scribe: Any) -> None:
    searched = {
        "kd_weight": SPACE["kd_weight"],
        "layer_share": "FloatDistribution(high=1.0, log=False, low=0.0, step=None)",
    }
    own = [
        (0.6, {"kd_weight": 0.6, "layer_weight": 0.1}),
        (0.7, {"kd_weight": 1.0, "layer_weight": 0.0}),
    ]
    ranked = trials.read_space(search(scribe, searched, alp=own), "rte").trials
    # (1 - 0.6) * 0.25 = 0.1; where nothing is left to share, there is no telling.
    assert ranked["setting.layer_share"].tolist() == pytest.approx([0.25, math.nan], nan_ok=True)


def test_methods_share_a_scale(scribe: Any) -> None:
    searched = trials.read_space(search(scribe, alp=plane(2)), "rte")
    wider = {"temperature": Scale(0.5, 4), "kd_weight": Scale(choices=("low", "high"))}
    both = trials.SearchSpace(searched.trials, {**searched.scales, "other": wider})
    assert trials.joint_scales(both) == {
        "temperature": Scale(0.5, 10),
        "layer_weight": Scale(1, 100, log=True),
    }
    assert both.names[-1] == "layer_weight"


def test_importances_need_trials_enough(scribe: Any) -> None:
    evidence = search(scribe, alp=plane(39))
    assert trials.importance_frame(trials.read_space(evidence, "rte")).empty
    assert block(evidence).notes == (
        "Importances of a single method need 40 complete trials; with fewer they are mostly chance. Not "
        "drawn: alp.",
    )


def test_the_weight_matters_more_than_the_temperature(scribe: Any) -> None:
    evidence = search(scribe, alp=plane(40))
    frame = trials.importance_frame(trials.read_space(evidence, "rte"))
    assert frame["method"].unique().tolist() == ["alp"]
    assert frame["trials"].unique().tolist() == [40]
    shares = dict(zip(frame["hyper_parameter"], frame["percent"], strict=True))
    assert sum(shares.values()) == pytest.approx(100)
    assert max(shares, key=lambda name: shares[name]) == "layer_weight"
    # Temperature and kd_weight lie on one line here, and so have one and the same share.
    assert shares["temperature"] == pytest.approx(shares["kd_weight"])
    figure = figures.importance_figure(frame).to_figure()
    heat, stars = figure.data
    assert heat.z[0] == pytest.approx([round(shares[name], 1) for name in shares])
    sure = frame["p"].to_numpy() < 0.05
    assert list(stars.x) == np.flatnonzero(sure).tolist()
    assert sure.any()
    assert "layer_weight" in next(p.alt for p in block(evidence).panels if "importance" in p.alt)


def test_all_methods_are_judged_by_ranks(scribe: Any) -> None:
    low = [(score - 0.4, own) for score, own in plane(20, 1)]
    evidence = search(scribe, alp=plane(20), finetune=low)
    frame = trials.importance_frame(trials.read_space(evidence, "rte"))
    assert frame["method"].unique().tolist() == [trials.ALL_METHODS]
    assert frame["trials"].unique().tolist() == [40]
    largest = frame.loc[frame["percent"].idxmax()]
    assert (largest["hyper_parameter"], largest["p"] < 0.05) == ("layer_weight", True)


def test_equal_scores_have_no_importances(scribe: Any) -> None:
    evidence = search(scribe, alp=[(0.7, own) for _, own in plane(40)])
    assert trials.importance_frame(trials.read_space(evidence, "rte")).empty


def test_without_optuna_that_is_said(scribe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = search(scribe, alp=plane(40))
    monkeypatch.setitem(sys.modules, "optuna", None)
    shown = block(evidence)
    assert "Optuna computes them, and it was not installed" in shown.notes[0]
    assert len(shown.panels) == 2


def test_a_surface_is_exact_where_scores_are_a_plane(scribe: Any) -> None:
    searched = trials.read_space(search(scribe, alp=plane(20)), "rte")
    assert surfaces.no_surface(searched, "alp") is None
    found = surfaces.surface(searched, "alp")
    x, y = np.meshgrid((found.x - 1) / 9, np.log(found.y) / np.log(100))
    inside = np.isfinite(found.points)
    assert 0.2 < inside.mean() < 1
    assert found.points[inside] == pytest.approx((50 + 20 * y + 10 * x)[inside])
    assert len(found.trials) == 20
    figure = figures.surface_figure(found, (False, True)).to_figure()
    contour, dots = figure.data
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("linear", "log")
    assert np.array(contour.z, dtype=float)[inside] == pytest.approx(
        found.points[inside], abs=0.005
    )
    assert list(dots.marker.color) == pytest.approx(found.trials["points"].tolist())


def test_contours_need_trials_that_are_not_on_a_line(scribe: Any) -> None:
    line = [(0.5 + at / 100, setting(at / 25, at / 25)) for at in range(25)]
    searched = trials.read_space(search(scribe, alp=line, finetune=plane(19)), "rte")
    assert surfaces.no_surface(searched, "alp") == "too few different trials"
    assert surfaces.no_surface(searched, "finetune") == "too few trials"
    bare = trials.SearchSpace(searched.trials, {"alp": {"temperature": Scale(1, 10)}})
    assert surfaces.no_surface(bare, "alp") == "no ranges of both were searched"


def test_the_weight_is_the_methods_own() -> None:
    kd, own, share = "kd_weight", "attention_weight", "layer_share"
    assert surfaces.weight_name({kd: Scale(), own: Scale()}) == own
    assert surfaces.weight_name({kd: Scale(), share: Scale()}) == share
    assert surfaces.weight_name({kd: Scale()}) == kd
    assert surfaces.weight_name({own: Scale(choices=("a",)), "x": Scale()}) is None


def test_each_trial_is_a_line_across_the_axes(scribe: Any) -> None:
    own = [(0.6, setting(0.0, 0.5)), (0.8, setting(1.0, 0.25)), (0.7, setting(0.5, 1.0))]
    evidence = search(scribe, alp=own, finetune=[(0.7, {"temperature": 10.0})])
    searched = trials.read_space(evidence, "rte")
    figure = figures.parallel_figure(
        searched.trials, trials.joint_scales(searched), "accuracy"
    ).to_figure()
    *bands, scores = figure.data
    drawn = [
        tuple(band.y[start : start + 5]) for band in bands for start in range(0, len(band.y), 6)
    ]
    # Method, kd_weight, layer_weight, temperature, score; the baseline is on top.
    assert sorted(drawn, key=str) == sorted(
        [
            (1.0, None, None, 1.0, 0.5),
            (0.0, 0.5, 0.0, 0.5, 0.0),
            (0.0, 0.25, 1.0, 0.25, 1.0),
            (0.0, 1.0, 0.5, 1.0, 0.5),
        ],
        key=str,
    )
    assert list(scores.y) == [0.5, 0.0, 1.0, 0.5]
    # Worst, best and middle of three; the only one of one is in the middle.
    assert [band.line.color for band in bands] == [figures.BANDS[at] for at in (0, 2, 4)]
    assert list(figure.layout.yaxis.ticktext) == ["finetune", "alp"]
    texts = [note.text for note in figure.layout.annotations]
    assert texts == ["0.1", "0.9", "1", "100", "1", "10", "60", "80"]


def test_one_method_needs_no_axis(scribe: Any) -> None:
    searched = trials.read_space(search(scribe, alp=plane(3)), "rte")
    figure = figures.parallel_figure(
        searched.trials, trials.joint_scales(searched), "accuracy"
    ).to_figure()
    assert len(figure.layout.xaxis.ticktext) == 4
    assert not figure.layout.yaxis.visible


def test_names_are_texts(scribe: Any) -> None:
    name = "<b>weight</b>"
    kinds = "CategoricalDistribution(choices=('<i>', 'b'))"
    own = [(0.1 * at, {name: 1.0 + at, "kind": "<i>"}) for at in range(5)]
    evidence = search(scribe, {name: SPACE["temperature"], "kind": kinds}, alp=own)
    searched = trials.read_space(evidence, "rte")
    figure = figures.parallel_figure(
        searched.trials, trials.joint_scales(searched), "<u>"
    ).to_figure()
    escaped = ["&lt;b&gt;weight&lt;/b&gt;", "kind", "selection<br>&lt;u&gt;"]
    assert list(figure.layout.xaxis.ticktext) == escaped
    assert [note.text for note in figure.layout.annotations][2:4] == ["&lt;i&gt;", "b"]


def test_contours_are_capped_and_the_rest_is_named(scribe: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(blocks, "MOST_SURFACES", 1)
    high = [(score + 0.1, own) for score, own in plane(20, 1)]
    shown = block(search(scribe, alp=plane(20), finetune=high))
    assert [panel.caption for panel in shown.panels if "over temperature" in panel.caption] == [
        "finetune: selection accuracy over temperature and layer_weight"
    ]
    assert shown.notes[-1] == (
        "Contours are drawn for the 1 methods with the highest selection scores, not for alp."
    )


@pytest.mark.parametrize("score", [None, math.nan])
def test_without_a_complete_trial_there_is_nothing(scribe: Any, score: float | None) -> None:
    asked = [] if score is None else [(score, setting(0.5))] * 2
    assert block(search(scribe, alp=asked)).is_empty


def test_one_trial_is_drawn(scribe: Any) -> None:
    shown = block(search(scribe, alp=[(0.5, setting(0.5))]))
    assert len(shown.panels) == 1
    assert "the highest score is 50.00 points, in trial 0 of alp" in shown.panels[0].alt


def test_a_space_that_cannot_be_read_costs_its_method_only(scribe: Any) -> None:
    spaces = {"alp": {"temperature": "Float(1"}, "finetune": SPACE}
    evidence = search(scribe, alp=plane(3), finetune=plane(3))
    read = replace(evidence, spaces={("rte", method): own for method, own in spaces.items()})
    shown = block(read)
    assert shown.warnings == (
        "alp is left out: the ledger's search space 'Float(1' is not a distribution.",
    )
    assert shown.panels[0].numbers.frame["method"].unique().tolist() == ["finetune"]
    alone = replace(evidence, spaces=dict.fromkeys(read.spaces, spaces["alp"]))
    assert [len(block(alone).warnings), len(block(alone).panels)] == [2, 0]


def test_ledgers_without_spaces_have_no_block(scribe: Any) -> None:
    assert block(search(scribe, {}, alp=plane(3))).is_empty


def test_the_only_hyper_parameter_has_all_the_importance(scribe: Any) -> None:
    evidence = search(scribe, {"temperature": SPACE["temperature"]}, alp=plane(40))
    assert trials.importance_frame(trials.read_space(evidence, "rte")).empty
