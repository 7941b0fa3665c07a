from typing import Any

import pytest

from reports.kit.palette import method_styles
from reports.sections.cost.quality import quality_figure, quality_frame
from tests.reports.conftest import measured

METHODS = ["finetune", "alp", "kd", "emd"]
STYLES = method_styles(METHODS)


def test_the_front_is_what_nothing_surpasses(scribe: Any) -> None:
    frame = quality_frame(
        [
            measured(scribe, "finetune", 60, 10, 300),
            measured(scribe, "alp", 80, 20, 200),
            measured(scribe, "kd", 80, 15, 200),
            measured(scribe, "emd", 70, 18, 100),
        ]
    )
    assert frame["method"].tolist() == METHODS
    assert frame["points"].tolist() == pytest.approx([60, 80, 80, 70])
    assert frame["seconds"].tolist() == pytest.approx([10, 20, 15, 18])
    assert frame["memory"].tolist() == pytest.approx([300, 200, 200, 100])
    # alp scores as kd does and takes longer; emd takes longer than kd and scores less.
    assert frame["seconds_front"].tolist() == [True, False, True, False]
    # Equals surpass neither one another nor themselves.
    assert frame["memory_front"].tolist() == [False, True, True, True]
    figure = quality_figure(frame, "seconds", STYLES, "accuracy").to_figure()
    steps, rings, *points = figure.data
    assert (list(steps.x), list(steps.y)) == ([10, 15], pytest.approx([60, 80]))
    assert steps.line.shape == "hv"
    assert list(rings.x) == [10, 15]
    assert [point.marker.symbol for point in points] == [STYLES[name].symbol for name in METHODS]


def test_methods_that_share_populations_are_open(scribe: Any) -> None:
    frame = quality_frame(
        [
            measured(scribe, "alp", 80, 20, 200, "kd-report-0-100"),
            measured(scribe, "kd", 70, 20, 200, "alp-report-0-100"),
            measured(scribe, "emd", 60, 20, 200, "a-run-of-another-ablation"),
        ]
    )
    assert frame["shared"].tolist() == [True, True, False]
    assert frame["seconds_front"].tolist() == [False, False, True]
    *_, alp, kd, emd = quality_figure(frame, "memory", STYLES, "accuracy").to_figure().data
    assert alp.marker.symbol.endswith("-open")
    assert kd.marker.symbol.endswith("-open")
    assert emd.marker.symbol == STYLES["emd"].symbol
