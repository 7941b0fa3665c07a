"""The section on axes: its numbers by hand, for pages with cells alone."""

import io
from itertools import product

import numpy as np
import pandas as pd
import pytest

from harness.storage.ledger import Ledger
from reports.evidence import Evidence, read_evidence
from reports.export.results import results_csv, results_table
from reports.kit.palette import method_styles
from reports.page.contents import sections
from reports.page.page import render
from reports.sections.axes import along_frame, axes_blocks, cells_frame
from tests.grids import write_grid, write_seeds

CELLS = [
    {"student.layers": layers, "pooling": pooling}
    for layers, pooling in product((6, 2), ("cls", "mean"))
]
MEANS = {
    (cell, method): 0.9 - 0.1 * (cell // 2) - 0.02 * (cell % 2) + 0.01 * (method == "alp")
    for cell in range(4)
    for method in ("alp", "kd")
}


@pytest.fixture
def grid(ledger: Ledger) -> Evidence:
    keys = [("rte", cell, method) for cell in range(4) for method in ("alp", "kd")]
    teachers = dict.fromkeys(range(4), 0.95)
    seeds = list(range(1, 9))
    studies = write_grid(
        ledger, CELLS, keys, {"search": {"trials": 1}}, teachers=teachers, report_seeds=seeds
    )
    for (_, cell, method), study in studies.items():
        scores = {seed: MEANS[cell, method] + 0.001 * (seed - 4.5) for seed in seeds}
        write_seeds(ledger, study, scores)
    ledger.write_texts("sha", np.arange(40), [(f"text {id}",) for id in range(40)])
    return read_evidence(ledger, "ablation")


def test_a_row_for_each_method_in_each_cell(grid: Evidence) -> None:
    frame = cells_frame(grid)
    assert list(frame.columns[:4]) == ["task", "student.layers", "pooling", "method"]
    keys = frame[["student.layers", "pooling", "method"]].itertuples(index=False, name=None)
    assert list(keys) == [
        (cell["student.layers"], cell["pooling"], method)
        for cell in CELLS
        for method in ("alp", "kd")
    ]
    means = [100 * MEANS[cell, method] for cell in range(4) for method in ("alp", "kd")]
    assert frame["points"].tolist() == pytest.approx(means)
    half = 2.364624 * np.std([0.1 * n for n in range(8)], ddof=1) / np.sqrt(8)  # t, 7 degrees
    assert (frame["points"] - frame["low"]).tolist() == pytest.approx([half] * 8, rel=1e-5)
    assert (frame["high"] - frame["points"]).tolist() == pytest.approx([half] * 8, rel=1e-5)
    assert frame["teacher"].tolist() == pytest.approx([95.0] * 8)
    methods = frame[frame["method"] == "alp"]
    assert methods["difference"].tolist() == pytest.approx([1.0] * 4)
    assert methods["adjusted_p"].tolist() == pytest.approx([4 * 2 / 2**8] * 4)
    assert set(methods["outcome"]) == {"better"}
    assert frame[frame["method"] == "kd"]["difference"].isna().all()


def test_the_differences_along_axes(grid: Evidence) -> None:
    frame = along_frame(grid)
    assert len(frame) == 2 * 4
    layers = frame[frame["axis"] == "student.layers"]
    assert list(layers["task"]) == ["rte (pooling=cls)"] * 2 + ["rte (pooling=mean)"] * 2
    assert set(zip(layers["value"], layers["reference"], strict=True)) == {("2", "6")}
    assert layers["difference"].tolist() == pytest.approx([-10.0] * 4)
    pooling = frame[frame["axis"] == "pooling"]
    assert set(zip(pooling["value"], pooling["reference"], strict=True)) == {("mean", "cls")}
    assert pooling["difference"].tolist() == pytest.approx([-2.0] * 4)
    assert frame["adjusted_p"].tolist() == pytest.approx([8 * 2 / 2**8] * 8)


def test_a_figure_for_each_axis_of_numbers_with_intervals_and_the_teacher(grid: Evidence) -> None:
    blocks = list(axes_blocks(grid, method_styles(grid.methods)))
    assert [block.title for block in blocks] == ["All cells", "rte", "Differences along the axes"]
    captions = [panel.caption for panel in blocks[1].panels]
    assert captions == [
        "Score by student.layers, pooling=cls",
        "Score by student.layers, pooling=mean",
    ]
    figure = blocks[1].panels[0].figure.to_figure()
    teacher, *methods = figure.data
    assert list(teacher.y) == pytest.approx([95.0, 95.0])
    for trace, method in zip(methods, ("alp", "kd"), strict=True):
        assert list(trace.y) == pytest.approx([100 * MEANS[2, method], 100 * MEANS[0, method]])
        assert list(trace.x) == pytest.approx([2, 6], abs=0.1)
        frame = cells_frame(grid)
        rows = frame[(frame["method"] == method) & (frame["pooling"] == "cls")][::-1]
        assert list(trace.error_y.array) == pytest.approx(list(rows["high"] - rows["points"]))
        assert list(trace.error_y.arrayminus) == pytest.approx(list(rows["points"] - rows["low"]))


def test_other_sections_stay_within_a_cell_or_away(grid: Evidence) -> None:
    found = {section.anchor: blocks for section, blocks in sections(grid)}
    assert "across" not in found
    labels = [f"rte, layers={c['student.layers']}, pooling={c['pooling']}" for c in CELLS]
    assert [block.title for block in found["seeds"]] == labels
    pairs = found["seeds"][0].panels[0].numbers.frame
    assert pairs["method_points"].mean() == pytest.approx(100 * MEANS[0, "alp"])
    page = render(grid)
    assert "Means by task" not in page
    assert "student.layers=6, 2; pooling=cls, mean" in page


def test_a_page_without_axes_has_no_such_section(evidence: Evidence) -> None:
    assert "axes" not in [section.anchor for section, _ in sections(evidence)]
    assert not any(name.startswith("axis.") for name in results_table(evidence).columns)


def test_the_table_of_runs_has_a_column_for_each_axis(grid: Evidence) -> None:
    table = pd.read_csv(io.StringIO(results_csv(grid)))
    assert set(table["task"]) == {"rte"}
    means = table[table["role"] == "report"].groupby(
        ["axis.student.layers", "axis.pooling", "method"]
    )["score"]
    for (layers, pooling, method), score in means.mean().items():
        cell = CELLS.index({"student.layers": layers, "pooling": pooling})
        assert score == pytest.approx(MEANS[cell, method])
