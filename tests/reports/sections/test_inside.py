import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.analysis.inside import Inside, Likeness, Seen
from reports.evidence import Evidence, read_evidence
from reports.kit.palette import method_styles
from reports.page.contents import sections
from reports.sections.inside import blocks, figures, numbers, states
from tests.reports.conftest import ATTENTION, EPOCHS, LAYERS, PROJECTION, TOLD, Scribe

STYLES = method_styles(["finetune", "alp"])
KEY = ("rte", "alp")
SECTIONS = ("targets", "similarity", "states", "angles")


def report(scribe: Scribe, *seen: dict[str, Any], method: str = "alp") -> Evidence:
    """Report runs of one method, in which that was looked at."""
    scribe.run(method, "search", 0, 0, 0.7)
    for seed, own in enumerate(seen, start=100):
        scribe.run(method, "report", 0, seed, 0.7, seen=own)
    return read_evidence(scribe.ledger, "alp-rte")


def layers(cka: list[Any], **changes: Any) -> dict[str, Any]:
    return {"layers": LAYERS | {"cka": {"before": cka, "after": cka}} | changes}


@pytest.fixture
def evidence(scribe: Scribe) -> Evidence:
    scribe.finished()
    return read_evidence(scribe.ledger, "alp-rte")


def likeness(evidence: Evidence) -> dict[str, Likeness]:
    return {method: evidence.inside.likeness["rte", method] for method in ("finetune", "alp")}


def test_spread_is_over_the_first_axis():
    found = numbers.spread(np.array([[1.0, 2.0], [3.0, 2.0]]))
    assert found.mean.tolist() == [2, 2]
    assert found.sd.tolist() == pytest.approx([math.sqrt(2), 0])
    assert (found.low.tolist(), found.high.tolist()) == ([1, 2], [3, 2])
    assert np.isnan(numbers.spread(np.ones((1, 2))).sd).all()


def test_weights_and_entropy_of_every_epoch_with_their_spread_between_seeds(scribe):
    scribe.begin()
    other = EPOCHS | {
        "map": [*EPOCHS["map"][:2], [[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]]],
        "entropy": [[0.9, 0.9], [0.6, 0.8], [0.7, 0.9]],
    }
    found = report(
        scribe, *({"targets": ATTENTION, "epochs": own} for own in (EPOCHS, other))
    ).inside.targets[KEY]
    assert found.mixture is not None
    assert (found.mixture.epochs, found.mixture.seen) == (
        (0, 1, 2),
        Seen("validation", 10, 2),
    )
    frame = numbers.weights_frame(found.mixture)
    assert frame.columns.tolist() == [
        "epoch", "statistic", "student_layer", "teacher 1", "teacher 2", "teacher 3",
    ]  # fmt: skip
    rows = {(e, name, layer): values for e, name, layer, *values in frame.to_numpy().tolist()}
    assert len(rows) == len(frame) == 2 * (3 + 3)
    assert rows[0, "mean", 1] == [0.5, 0.25, 0.25]
    assert rows[2, "mean", 1] == [0.5, 0.5, 0]
    assert rows[2, "sd", 1] == [0.354, 0.354, 0]
    assert rows[2, "lowest", 1] == [0.25, 0.25, 0]
    assert rows[2, "highest", 1] == [0.75, 0.75, 0]
    assert rows[2, "sd", 2] == [0, 0, 0]
    entropy = numbers.entropy_frame({"alp": found.mixture})
    shown = entropy.set_index(["student_layer", "epoch"])[["mean", "sd", "low", "high"]]
    assert shown.loc[("1", 2)].tolist() == [60, 14.1, 50, 70]
    assert shown.loc[("2", 1)].tolist() == [80, 0, 80, 80]
    assert shown.loc[("all", 2)].tolist() == [70, 14.1, 60, 80]
    assert entropy["seeds"].unique().tolist() == [2]


def test_a_heat_map_has_a_state_per_epoch_and_begins_with_the_last(evidence):
    (panel, entropy), (table,) = (
        getattr(blocks.targets_block(evidence, "rte", STYLES), name)
        for name in ("panels", "tables")
    )
    assert panel.choice is not None
    assert (panel.choice.options, panel.choice.first, panel.choice.ordered) == (
        ("0", "1", "2"),
        2,
        True,
    )
    assert panel.caption == "alp: mean weights, 10 examples of validation, 3 seeds"
    assert (
        "After epoch 2: student layer 1 looks most at teacher layer 1; student layer 2" in panel.alt
    )
    assert "between seeds by a standard deviation of at most 0.000." in panel.alt
    (heat,) = panel.figure.checked().data
    assert heat.z == ([0.75, 0.25, 0.0], [0.0, 0.5, 0.5])
    assert (heat.x0, heat.y0, heat.zmin, heat.zmax) == (1, 1, 0, 0.75)
    frames = panel.figure.checked().to_plotly_json()["frames"]
    assert frames[0]["data"] == [{"type": "heatmap", "z": [[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]}]
    assert frames[1]["data"] == frames[2]["data"] == [{"type": "heatmap"}]
    assert entropy.choice is not None
    assert entropy.choice.options == ("all, their mean", "1", "2")
    band, line = entropy.figure.checked().data
    assert (line.x, line.y) == ((0, 1, 2), (90.0, 70.0, 60.0))
    assert band.y == (90.0, 70.0, 60.0, 60.0, 70.0, 90.0)
    assert entropy.figure.checked().frames[1].data[1].y == (90.0, 60.0, 50.0)
    assert "alp goes from 90.0 to 60.0 %" in entropy.alt
    assert [cell.text for cell in table.rows[0]] == [
        "alp", "1", "50.0 (sd 0.0, 50.0 to 50.0)", "2.000", "20.00", "10", "3",
    ]  # fmt: skip


def test_only_epochs_that_every_run_was_looked_at_after_count(scribe):
    scribe.begin()
    less = EPOCHS | {name: EPOCHS[name][1:] for name in ("epochs", "map", "entropy")}
    found = report(scribe, *({"targets": ATTENTION, "epochs": own} for own in (EPOCHS, less)))
    mixture = found.inside.targets[KEY].mixture
    assert mixture is not None
    assert mixture.epochs == (1, 2)
    assert mixture.entropy.tolist() == [[[0.6, 0.8], [0.5, 0.7]]] * 2


@pytest.mark.parametrize("name", ["targets", "attention"])
def test_ledgers_of_earlier_versions_have_the_last_epoch_and_say_what_was_not_recorded(
    scribe, name
):
    scribe.begin()
    flat = ATTENTION | {"map": [[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]]}
    found = report(scribe, {name: ATTENTION}, {name: flat})
    (panel,) = blocks.targets_block(found, "rte", STYLES).panels
    assert panel.choice is None
    assert panel.figure.checked().data[0].z == ([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])
    assert not panel.figure.checked().frames
    mixture = found.inside.targets[KEY].mixture
    assert mixture is not None
    assert mixture.epochs == (2,)
    for anchor in SECTIONS[1:]:
        (section,) = (part for part in sections(found) if part.anchor == anchor)
        (block,) = section.blocks
        assert block.notes == (blocks.NOT_RECORDED,)


def test_targets_without_mixtures_have_no_entropy(scribe):
    scribe.begin()
    plain = {name: value for name, value in ATTENTION.items() if name not in ("map", "entropy")}
    found = report(scribe, {"targets": plain})
    block = blocks.targets_block(found, "rte", STYLES)
    assert not block.panels
    assert [[cell.text for cell in row] for row in block.tables[0].rows] == [
        ["alp", "1", "–", "2.000", "20.00", "10", "1"],
        ["alp", "2", "–", "3.000", "10.00", "10", "1"],
    ]


def test_failed_and_missing_runs_leave_nothing(scribe):
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7)
    scribe.run("alp", "report", 0, 100, 0.0, status="failed", reason="loss is NaN")
    found = read_evidence(scribe.ledger, "alp-rte")
    assert found.inside == Inside(frozenset(), {}, {}, {})
    shown = [part for part in sections(found) if part.anchor in SECTIONS]
    assert [part.blocks for part in shown] == [()] * 4


def test_similarities_are_means_over_seeds(scribe):
    scribe.begin()
    found = report(
        scribe, layers([[0.2, 0.4, 0.9]], cosine=None, angles=None),
        layers([[0.4, 0.4, None]], cosine=None, angles=None), {},
    ).inside.likeness[KEY]  # fmt: skip
    assert (found.seen.seeds, found.pooling, found.cosine, found.angles) == (2, "cls", None, None)
    assert found.cka.after[0, :2].tolist() == pytest.approx([0.3, 0.4])
    assert np.isnan(found.cka.after[0, 2])  # one run has none
    figure = figures.likeness_figure({"alp": found}, "alp").checked()
    assert [trace.z for trace in figure.data] == [
        ([0.3, 0.4, None],), ([0.3, 0.4, None],), ([0.0, 0.0, None],),
    ]  # fmt: skip
    assert numbers.likeness_summary({"alp": found})["nearest"].tolist() == ["?"]


def test_widths_that_differ_leave_out_cosines_and_angles(scribe):
    scribe.begin()
    found = report(scribe, {"layers": LAYERS | {"cosine": None, "angles": None}})
    block = blocks.likeness_block(found, "rte", STYLES)
    assert [cell.text for cell in block.tables[0].rows[0]] == [
        "alp",
        "0.550",
        "0.800",
        "2, 3",
        "–",
        "–",
    ]
    assert block.panels[0].choice is None
    assert "equal widths" in blocks.angles_block(found, "rte", STYLES).notes[0]


def test_similarity_maps_before_after_and_their_change(evidence):
    (panel,), (table,) = (
        getattr(blocks.likeness_block(evidence, "rte", STYLES), name)
        for name in ("panels", "tables")
    )
    assert panel.choice is not None
    assert (panel.choice.options, panel.choice.first) == (("finetune", "alp"), 1)
    zs = [trace.z for trace in panel.figure.checked().data]
    assert zs[0] == ([0.2, 0.6, 0.4], [0.1, 0.3, 0.5])
    assert zs[2] == ([0.3, 0.9, 0.5], [0.2, 0.4, 0.7])
    assert zs[4] == ([0.1, 0.3, 0.1], [0.1, 0.1, 0.2])
    assert zs[5] == ([0.0, 0.5, 0.4], [0.1, 0.0, 0.4])
    titles = [note.text for note in panel.figure.checked().layout.annotations]
    assert titles[:2] == ["linear CKA, before", "cosine, before"]
    assert (
        panel.figure.checked().layout.coloraxis.cmin,
        panel.figure.checked().layout.coloraxis2.cmax,
    ) == (-0.2, 0.5)
    assert [cell.text for cell in table.rows[1]] == [
        "alp",
        "0.550",
        "0.800",
        "2, 3",
        "0.450",
        "0.700",
    ]
    assert "alp 0.55 before training, 0.80 after" in panel.alt
    frame = numbers.likeness_frame(likeness(evidence))
    assert len(frame) == 2 * 2 * 2 * 2
    assert frame.iloc[-1].tolist() == ["alp", "cosine", "after", 2, 0.1, 0.2, 0.8]


def test_angles_are_summed_up_over_pairs_of_teacher_layers(evidence):
    frame = numbers.angle_frame(likeness(evidence))
    assert frame.iloc[:4].to_numpy().tolist() == [
        ["finetune", 1, "before", 3, 30, 40, 60, 100],
        ["finetune", 2, "before", 3, 50, 60, 95, 66.7],
        ["finetune", 1, "after", 3, 20, 30, 50, 100],
        ["finetune", 2, "after", 3, 45, 70, 80, 100],
    ]
    block = blocks.angles_block(evidence, "rte", STYLES)
    assert block.notes == (
        "After training all mean angles are acute with 2 of 2 methods; the widest mean is 80° "
        "(finetune, student layer 2).",
    )
    (panel,) = block.panels
    assert panel.choice is not None
    assert (panel.choice.options, panel.choice.first) == (("1", "2"), 1)
    before, after = panel.figure.checked().data
    assert (before.x, after.x) == ((60.0, 60.0), (70.0, 70.0))
    assert (after.error_x.array, after.error_x.arrayminus) == ((10.0, 10.0), (25.0, 25.0))
    assert panel.figure.checked().frames[0].data[1].x == (30.0, 30.0)


def test_an_angle_that_is_missing_or_obtuse_is_told(scribe):
    scribe.begin()
    after = [[[0, 100, 60], [100, 0, 40], [60, 40, 0]], [[0, None, 95], [None, 0, 60], [95, 60, 0]]]
    found = report(scribe, layers([[0.5] * 3] * 2, angles={"before": after, "after": after}))
    frame = numbers.angle_frame({"alp": found.inside.likeness[KEY]})
    assert frame["acute"].tolist()[:1] == [66.7]
    assert frame[["lowest", "median", "highest", "acute"]].iloc[1].isna().all()
    (panel,) = blocks.angles_block(found, "rte", STYLES).panels
    assert "acute with 0 of 1 methods; the widest mean is 100° (alp, student layer 1)" in panel.alt
    assert panel.figure.checked().data[1].x == (None,)


@pytest.mark.parametrize(
    ("students", "teachers", "own", "theirs"),
    [
        (4, 12, [1, 2, 3, 4], [3, 6, 9, 12]),
        (2, 3, [1, 2], [2, 3]),
        (11, 12, [2, 4, 6, 7, 9, 11], [2, 4, 6, 8, 10, 12]),
        (6, 4, [1, 2, 3, 4, 5, 6], [1, 2, 3, 4]),
    ],
)
def test_layers_to_draw_are_spaced_evenly(evidence, students, teachers, own, theirs):
    places = np.zeros((12, 4, 2))
    one = evidence.inside.projections[KEY]
    shown = states.shown_layers(
        replace(one, student=places[:students], teacher=places[:teachers], fused=None)
    )
    assert {kind: list(layers) for kind, layers in shown.items()} == {
        "teacher": theirs, "student": own,
    }  # fmt: skip


def test_states_are_drawn_by_label_from_the_first_report_seed(evidence):
    evidence.manifest["tasks"]["rte"]["labels"] = ["<yes>", "no"]
    block = blocks.states_block(evidence, "rte", STYLES)
    (panel,) = block.panels
    assert block.notes == (
        "Drawn (in brackets the share of the variance of all states together): finetune, seed 100 (75 "
        "%, nothing mixed); alp, seed 100 (75 %).",
    )
    assert [name for name, _ in panel.key] == ["<yes>", "no"]
    assert panel.choice is not None
    assert (panel.choice.options, panel.choice.first) == (("finetune", "alp"), 1)
    titles = [note.text for note in panel.figure.checked().layout.annotations]
    assert titles == [
        "teacher 2",
        "teacher 3",
        "target of 1",
        "target of 2",
        "student 1",
        "student 2",
    ]
    traces = panel.figure.checked().data
    assert len(traces) == 6
    assert (traces[0].x, traces[0].y) == ((2, 2, 0, 0), (1, 2, 3, 4))
    assert traces[2].x == (0.5, 1, 1.5, 2)
    assert traces[5].x == (1.2, -20, 3, 4)  # three digits of 20
    (_, yes), (_, no) = panel.key
    colours = panel.figure.checked().layout.coloraxis
    assert traces[0].marker.color == (0, 1, 0, 1)
    assert traces[0].marker.symbol == (yes.symbol, no.symbol) * 2
    assert (colours.cmin, colours.cmax) == (-0.5, 1.5)
    assert colours.colorscale == (
        (0, yes.colour), (0.5, yes.colour), (0.5, no.colour), (1, no.colour),
    )  # fmt: skip
    assert panel.figure.checked().frames[0].data[2].x == ()
    frame = states.states_frame({"alp": evidence.inside.projections[KEY]})
    assert frame["student 2 x"].tolist() == [1.2, -20, 3, 4]
    assert frame.columns[:4].tolist() == ["method", "label", "teacher 2 x", "teacher 2 y"]


def test_scores_have_a_scale_and_planes_of_their_own_are_told(scribe):
    scribe.begin()
    shown = PROJECTION | {
        "joint": False, "labels": [0.0, 2.5, 5.0, 1.0], "fused": None,
        "explained": {"student": [0.5, 0.25], "teacher": [0.3, 0.1]},
    }  # fmt: skip
    block = blocks.states_block(report(scribe, {"projection": shown}), "rte", STYLES)
    assert (
        "each in a plane of its own): alp, seed 100 (75 % and 40 %, nothing mixed" in block.notes[0]
    )
    (panel,) = block.panels
    assert panel.key == ()
    assert panel.choice is None
    assert panel.figure.checked().data[0].marker.color == (0.0, 2.5, 5.0, 1.0)
    assert panel.figure.checked().layout.coloraxis.colorbar.title.text == "label"


def test_of_many_methods_the_baseline_and_the_best_matched_are_drawn(scribe):
    names = ["alp", "finetune", "kd", "pkd", "ckd"]
    scribe.manifest["studies"]["rte"] = {name: f"s-{name}" for name in names}
    scribe.begin()
    for name, score in zip(names, (0.6, 0.5, 0.9, 0.7, 0.6), strict=True):
        scribe.run(name, "search", 0, 0, 0.7)
        seen = {"projection": PROJECTION}
        if name in ("alp", "pkd"):
            seen |= {"targets": ATTENTION}
        scribe.run(name, "report", 0, 100, score, seen=seen)
    found = read_evidence(scribe.ledger, "alp-rte")
    assert [method for _, method in found.inside.projections] == ["finetune", "pkd"]
    block = blocks.states_block(found, "rte", method_styles(["finetune", *names]))
    assert block.notes[0].startswith("Drawn of 5 methods (")


def test_mean_pooled_states_are_called_so(scribe):
    scribe.begin()
    found = report(scribe, {"layers": LAYERS | TOLD | {"pooling": "mean"}})
    (panel,) = blocks.likeness_block(found, "rte", STYLES).panels
    assert panel.caption == (
        "Similarity of layers, mean-pooled states of 10 examples of validation, 1 seed"
    )


def test_methods_that_were_looked_at_unequally_are_told(scribe):
    scribe.begin()
    report(scribe, {"layers": LAYERS}, {"layers": LAYERS}, method="finetune")
    found = report(scribe, {"layers": LAYERS | {"examples": 7}})
    (panel,) = blocks.likeness_block(found, "rte", STYLES).panels
    assert panel.caption.endswith("states of 7 to 10 examples of validation, 1 to 2 seeds")


def test_states_without_any_angle_or_variance_are_drawn(scribe):
    scribe.begin()
    nothing = {"before": [[None] * 3] * 2, "after": [[None] * 3] * 2}
    flat = PROJECTION | {"explained": {"student": [None, None], "teacher": [0.5, 0.25]}}
    found = report(scribe, {"layers": LAYERS | {"cosine": nothing}, "projection": flat})
    (panel,) = blocks.likeness_block(found, "rte", STYLES).panels
    assert panel.figure.checked().layout.coloraxis.cmin == 0
    assert "alp, seed 100 (no variance" in blocks.states_block(found, "rte", STYLES).notes[0]
