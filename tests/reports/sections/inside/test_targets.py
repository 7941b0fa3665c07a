from reports.kit.palette import method_styles
from reports.sections.inside.coverage import NOT_RECORDED
from reports.sections.inside.targets import targets_block
from tests.reports.conftest import ATTENTION, looked_inside, section_blocks

STYLES = method_styles(["finetune", "alp"])
KEY = ("rte", "alp")


def test_a_heat_map_has_a_state_per_epoch_and_begins_with_the_last(evidence):
    (panel, entropy), (table,) = (
        getattr(targets_block(evidence, "rte", STYLES), name) for name in ("panels", "tables")
    )
    assert panel.choice is not None
    assert (panel.choice.options, panel.choice.first, panel.choice.slider) == (
        ("0", "1", "2"),
        2,
        True,
    )
    assert panel.caption == "alp: mean weights, 10 examples of validation, 3 runs"
    assert (
        "After epoch 2: student layer 1 has its largest weight on teacher layer 1; student"
        in panel.alt
    )
    assert "between runs by a standard deviation of at most 0.000." in panel.alt
    (heat,) = panel.figure.to_figure().data
    assert heat.z == ([0.75, 0.25, 0.0], [0.0, 0.5, 0.5])
    assert (heat.x0, heat.y0, heat.zmin, heat.zmax) == (1, 1, 0, 0.75)
    frames = panel.figure.to_figure().to_plotly_json()["frames"]
    assert frames[0]["data"] == [{"type": "heatmap", "z": [[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]}]
    assert frames[1]["data"] == frames[2]["data"] == [{"type": "heatmap"}]
    assert entropy.choice is not None
    assert entropy.choice.options == ("mean of all", "1", "2")
    band, line = entropy.figure.to_figure().data
    assert (line.x, line.y) == ((0, 1, 2), (90.0, 70.0, 60.0))
    assert band.y == (90.0, 70.0, 60.0, 60.0, 70.0, 90.0)
    assert entropy.figure.to_figure().frames[1].data[1].y == (90.0, 60.0, 50.0)
    assert "alp goes from 90.0 to 60.0 %" in entropy.alt
    assert [cell.text for cell in table.rows[0]] == [
        "alp", "1", "50.0 (sd 0.0, 50.0 to 50.0)", "2.000", "20.00", "10", "3",
    ]  # fmt: skip


def test_runs_whose_looks_failed_have_the_last_epoch_and_say_what_was_not_recorded(scribe):
    scribe.begin()
    flat = ATTENTION | {"map": [[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]]}
    found = looked_inside(scribe, {"targets": ATTENTION}, {"targets": flat})
    (panel,) = targets_block(found, "rte", STYLES).panels
    assert panel.choice is None
    assert panel.figure.to_figure().data[0].z == ([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])
    assert not panel.figure.to_figure().frames
    mixture = found.internals.targets[KEY].mixture
    assert mixture is not None
    assert mixture.epochs == (2,)
    for anchor in ("similarity", "states", "angles"):
        (block,) = section_blocks(found, anchor)
        assert block.notes == (NOT_RECORDED,)


def test_targets_without_mixtures_have_no_entropy(scribe):
    scribe.begin()
    plain = {name: value for name, value in ATTENTION.items() if name not in ("map", "entropy")}
    found = looked_inside(scribe, {"targets": plain})
    block = targets_block(found, "rte", STYLES)
    assert not block.panels
    assert [[cell.text for cell in row] for row in block.tables[0].rows] == [
        ["alp", "1", "–", "2.000", "20.00", "10", "1"],
        ["alp", "2", "–", "3.000", "10.00", "10", "1"],
    ]
