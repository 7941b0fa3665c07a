from reports.kit.palette import method_styles
from reports.sections.inside.angles import angle_frame, angles_block
from reports.sections.inside.coverage import of_task
from tests.reports.conftest import layers, looked_inside

STYLES = method_styles(["finetune", "alp"])
KEY = ("rte", "alp")


def test_angles_are_summed_up_over_pairs_of_teacher_layers(evidence):
    frame = angle_frame(of_task(evidence.internals.likeness, "rte", STYLES))
    assert frame.iloc[:4].to_numpy().tolist() == [
        ["finetune", 1, "before", 3, 30, 40, 60, 100],
        ["finetune", 2, "before", 3, 50, 60, 95, 66.7],
        ["finetune", 1, "after", 3, 20, 30, 50, 100],
        ["finetune", 2, "after", 3, 45, 70, 80, 100],
    ]
    block = angles_block(evidence, "rte", STYLES)
    assert block.notes == (
        "After training, all mean angles are acute in 2 of 2 methods. The widest mean is 80° (finetune, "
        "student layer 2).",
    )
    (panel,) = block.panels
    assert panel.choice is not None
    assert (panel.choice.options, panel.choice.first) == (("1", "2"), 1)
    before, after = panel.figure.to_figure().data
    assert (before.x, after.x) == ((60.0, 60.0), (70.0, 70.0))
    assert (after.error_x.array, after.error_x.arrayminus) == ((10.0, 10.0), (25.0, 25.0))
    assert panel.figure.to_figure().frames[0].data[1].x == (30.0, 30.0)


def test_an_angle_that_is_missing_or_obtuse_is_told(scribe):
    scribe.begin()
    after = [[[0, 100, 60], [100, 0, 40], [60, 40, 0]], [[0, None, 95], [None, 0, 60], [95, 60, 0]]]
    found = looked_inside(scribe, layers([[0.5] * 3] * 2, angles={"before": after, "after": after}))
    frame = angle_frame({"alp": found.internals.likeness[KEY]})
    assert frame["acute"].tolist()[:1] == [66.7]
    assert frame[["lowest", "median", "highest", "acute"]].iloc[1].isna().all()
    (panel,) = angles_block(found, "rte", STYLES).panels
    assert "acute in 0 of 1 methods. The widest mean is 100° (alp, student layer 1)" in panel.alt
    assert panel.figure.to_figure().data[1].x == (None,)
