from dataclasses import replace

import numpy as np
import pytest

from harness.analysis.inspections import Inspections
from reports.evidence import read_evidence
from reports.kit.palette import method_styles
from reports.sections.inside import plane
from reports.sections.inside.similarity import likeness_block
from reports.sections.inside.states import states_block
from tests.reports.conftest import ATTENTION, LAYERS, PROJECTION, looked_inside, section_blocks

STYLES = method_styles(["finetune", "alp"])
KEY = ("rte", "alp")


def test_failed_and_missing_runs_leave_nothing(scribe):
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7)
    scribe.run("alp", "report", 0, 100, 0.0, status="failed", reason="loss is NaN")
    found = read_evidence(scribe.ledger, "alp-rte")
    assert found.internals == Inspections(frozenset(), {}, {}, {})
    for anchor in ("targets", "similarity", "states", "angles"):
        assert section_blocks(found, anchor) == ()


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
    one = evidence.internals.projections[KEY]
    shown = plane.shown_layers(
        replace(one, student=places[:students], teacher=places[:teachers], targets=None)
    )
    assert {kind: list(layers) for kind, layers in shown.items()} == {
        "teacher": theirs, "student": own,
    }  # fmt: skip


def test_states_are_drawn_by_label_from_the_first_report_seed(evidence):
    task = replace(evidence.manifest.tasks["rte"], labels=("<yes>", "no"))
    named = replace(evidence.manifest, tasks={"rte": task})
    evidence = replace(evidence, result=replace(evidence.result, manifest=named))
    block = states_block(evidence, "rte", STYLES)
    (panel,) = block.panels
    assert block.notes == (
        "Drawn: finetune, seed 100 (75 %, no mixture); alp, seed 100 (75 %). In brackets: the share of "
        "the variance that the two components show, of all states together.",
    )
    assert [name for name, _ in panel.key] == ["<yes>", "no"]
    assert panel.choice is not None
    assert (panel.choice.options, panel.choice.first) == (("finetune", "alp"), 1)
    titles = [note.text for note in panel.figure.to_figure().layout.annotations]
    assert titles == [
        "teacher 2",
        "teacher 3",
        "target of 1",
        "target of 2",
        "student 1",
        "student 2",
    ]
    traces = panel.figure.to_figure().data
    assert len(traces) == 6
    assert (traces[0].x, traces[0].y) == ((1, 1, -1, -1), (-1.5, -0.5, 0.5, 1.5))
    assert traces[2].x == (-0.75, -0.25, 0.25, 0.75)
    assert traces[5].x == (4.2, -17.1, 5.9, 6.9)  # three digits of 17.1
    (_, yes), (_, no) = panel.key
    colours = panel.figure.to_figure().layout.coloraxis
    assert traces[0].marker.color == (0, 1, 0, 1)
    assert traces[0].marker.symbol == (yes.symbol, no.symbol) * 2
    assert (colours.cmin, colours.cmax) == (-0.5, 1.5)
    assert colours.colorscale == (
        (0, yes.colour), (0.5, yes.colour), (0.5, no.colour), (1, no.colour),
    )  # fmt: skip
    assert panel.figure.to_figure().frames[0].data[2].x == ()
    frame = plane.states_frame({"alp": evidence.internals.projections[KEY]})
    assert frame["student 2 x"].tolist() == [4.2, -17.1, 5.9, 6.9]
    assert frame.columns[:4].tolist() == ["method", "label", "teacher 2 x", "teacher 2 y"]


def test_scores_have_a_scale_and_planes_of_their_own_are_told(scribe):
    scribe.begin()
    shown = PROJECTION | {
        "joint": False, "labels": [0.0, 2.5, 5.0, 1.0], "fused": None,
        "explained": {"student": [0.5, 0.25], "teacher": [0.3, 0.1]},
    }  # fmt: skip
    block = states_block(looked_inside(scribe, {"projection": shown}), "rte", STYLES)
    assert "alp, seed 100 (75 % and 40 %, no mixture)" in block.notes[0]
    assert block.notes[0].endswith("each in a plane of its own.")
    (panel,) = block.panels
    assert panel.key == ()
    assert panel.choice is None
    assert panel.figure.to_figure().data[0].marker.color == (0.0, 2.5, 5.0, 1.0)
    assert panel.figure.to_figure().layout.coloraxis.colorbar.title.text == "label"


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
    assert [method for _, method in found.internals.projections] == ["finetune", "pkd"]
    block = states_block(found, "rte", method_styles(["finetune", *names]))
    assert block.notes[0].startswith("Drawn, of 5 methods: ")


def test_states_without_any_angle_or_variance_are_drawn(scribe):
    scribe.begin()
    nothing = {"before": [[None] * 3] * 2, "after": [[None] * 3] * 2}
    flat = PROJECTION | {"explained": {"student": [None, None], "teacher": [0.5, 0.25]}}
    found = looked_inside(scribe, {"layers": LAYERS | {"cosine": nothing}, "projection": flat})
    (panel,) = likeness_block(found, "rte", STYLES).panels
    assert panel.figure.to_figure().layout.coloraxis.cmin == 0
    assert "alp, seed 100 (no variance" in states_block(found, "rte", STYLES).notes[0]
