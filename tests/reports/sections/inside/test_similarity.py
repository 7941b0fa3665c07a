import numpy as np
import pytest

from reports.kit.palette import method_styles
from reports.sections.inside.angles import angles_block
from reports.sections.inside.coverage import of_task
from reports.sections.inside.similarity import (
    likeness_block,
    likeness_figure,
    likeness_frame,
    likeness_summary,
    scale_ends,
)
from tests.reports.conftest import LAYERS, TOLD, layers, looked_inside

STYLES = method_styles(["finetune", "alp"])
KEY = ("rte", "alp")


def test_similarities_are_means_over_seeds(scribe):
    scribe.begin()
    found = looked_inside(
        scribe, layers([[0.2, 0.4, 0.9]], cosine=None, angles=None),
        layers([[0.4, 0.4, None]], cosine=None, angles=None), {},
    ).internals.likeness[KEY]  # fmt: skip
    assert (found.coverage.seeds, found.pooling, found.cosine, found.angles) == (
        2,
        "cls",
        None,
        None,
    )
    assert found.cka.end[0, :2].tolist() == pytest.approx([0.3, 0.4])
    assert np.isnan(found.cka.end[0, 2])  # one run has none
    figure = likeness_figure({"alp": found}, "alp", scale_ends([found])).to_figure()
    assert [trace.z for trace in figure.data] == [
        ([0.3, 0.4, None],), ([0.3, 0.4, None],), ([0.0, 0.0, None],),
    ]  # fmt: skip
    assert likeness_summary({"alp": found})["nearest"].tolist() == ["?"]


def test_widths_that_differ_leave_out_cosines_and_angles(scribe):
    scribe.begin()
    found = looked_inside(scribe, {"layers": LAYERS | {"cosine": None, "angles": None}})
    block = likeness_block(found, "rte", STYLES)
    assert [cell.text for cell in block.tables[0].rows[0]] == [
        "alp",
        "0.550",
        "0.800",
        "2, 3",
        "–",
        "–",
    ]
    assert block.panels[0].choice is None
    assert "equal widths" in angles_block(found, "rte", STYLES).notes[0]


def test_similarity_maps_before_after_and_their_change(evidence):
    (panel,), (table,) = (
        getattr(likeness_block(evidence, "rte", STYLES), name) for name in ("panels", "tables")
    )
    assert panel.choice is not None
    assert (panel.choice.options, panel.choice.first) == (("finetune", "alp"), 1)
    zs = [trace.z for trace in panel.figure.to_figure().data]
    assert zs[0] == ([0.2, 0.6, 0.4], [0.1, 0.3, 0.5])
    assert zs[2] == ([0.3, 0.9, 0.5], [0.2, 0.4, 0.7])
    assert zs[4] == ([0.1, 0.3, 0.1], [0.1, 0.1, 0.2])
    assert zs[5] == ([0.0, 0.5, 0.4], [0.1, 0.0, 0.4])
    titles = [note.text for note in panel.figure.to_figure().layout.annotations]
    assert titles[:2] == ["linear CKA, before", "cosine, before"]
    assert (
        panel.figure.to_figure().layout.coloraxis.cmin,
        panel.figure.to_figure().layout.coloraxis2.cmax,
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
    frame = likeness_frame(of_task(evidence.internals.likeness, "rte", STYLES))
    assert len(frame) == 2 * 2 * 2 * 2
    assert frame.iloc[-1].tolist() == ["alp", "cosine", "after", 2, 0.1, 0.2, 0.8]


def test_mean_pooled_states_are_called_so(scribe):
    scribe.begin()
    found = looked_inside(scribe, {"layers": LAYERS | TOLD | {"pooling": "mean"}})
    (panel,) = likeness_block(found, "rte", STYLES).panels
    assert panel.caption == (
        "Similarity of layers, mean-pooled states of 10 examples of validation, 1 run"
    )


def test_methods_that_were_looked_at_unequally_are_told(scribe):
    scribe.begin()
    looked_inside(scribe, {"layers": LAYERS}, {"layers": LAYERS}, method="finetune")
    found = looked_inside(scribe, {"layers": LAYERS | {"examples": 7}})
    (panel,) = likeness_block(found, "rte", STYLES).panels
    assert panel.caption.endswith("states of 7 to 10 examples of validation, 1 to 2 runs")
