from dataclasses import replace
from typing import Any

import pytest

from reports.evidence import read_evidence
from reports.kit.palette import method_styles
from reports.sections import cost

METHODS = ["finetune", "alp", "kd", "emd"]
STYLES = method_styles(METHODS)
MIB = 2**20


def measured(
    scribe: Any, method: str, points: float, seconds: float, memory: float, *with_: str
) -> Any:
    """A method's result with two report runs of that mean score and cost."""
    scribe.manifest["studies"]["rte"].setdefault(method, f"s-{method}")
    scribe.begin()
    names = [f"{method}-report-0-{seed}" for seed in (100, 101)]
    scribe.run(method, "search", 0, 0, 0.8)
    for seed, less in ((100, 0.01), (101, -0.01)):
        scribe.run(
            method, "report", 0, seed, points / 100 + less, predicted=False,
            provenance={"population": [*names, *with_]},
        )  # fmt: skip
    result = read_evidence(scribe.ledger, "alp-rte").result.result("rte", method)
    shares = (seconds - 1, seconds + 1)
    return replace(
        result,
        report=tuple(
            replace(run, record=replace(run.record, seconds=own, peak_memory=memory * MIB))
            for run, own in zip(result.report, shares, strict=True)
        ),
    )


def test_the_front_is_what_nothing_surpasses(scribe: Any) -> None:
    frame = cost.quality_frame(
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
    figure = cost.quality_figure(frame, "seconds", STYLES, "accuracy").checked()
    steps, rings, *points = figure.data
    assert (list(steps.x), list(steps.y)) == ([10, 15], pytest.approx([60, 80]))
    assert steps.line.shape == "hv"
    assert list(rings.x) == [10, 15]
    assert [point.marker.symbol for point in points] == [STYLES[name].symbol for name in METHODS]


def test_methods_that_share_populations_are_open(scribe: Any) -> None:
    frame = cost.quality_frame(
        [
            measured(scribe, "alp", 80, 20, 200, "kd-report-0-100"),
            measured(scribe, "kd", 70, 20, 200, "alp-report-0-100"),
            measured(scribe, "emd", 60, 20, 200, "a-run-of-another-ablation"),
        ]
    )
    assert frame["shared"].tolist() == [True, True, False]
    assert frame["seconds_front"].tolist() == [False, False, True]
    *_, alp, kd, emd = cost.quality_figure(frame, "memory", STYLES, "accuracy").checked().data
    assert alp.marker.symbol.endswith("-open")
    assert kd.marker.symbol.endswith("-open")
    assert emd.marker.symbol == STYLES["emd"].symbol


def test_the_blocks_of_a_finished_ablation(scribe: Any) -> None:
    scribe.finished()
    evidence = read_evidence(scribe.ledger, "alp-rte")
    time, task = cost.cost_blocks(evidence, STYLES)
    assert time.title == "Timeline"
    assert [panel.caption for panel in task.panels] == ["Mean accuracy against seconds per run"]
    # alp's best trial is the second one, whose runs train three seconds, not two.
    assert (
        "Not surpassed: finetune, 70.00 points at 2; alp, 86.67 points at 3" in task.panels[0].alt
    )
    (table,) = task.tables
    assert [[cell.text for cell in row] for row in table.rows][:2] == [
        ["finetune", "search", "2", "2.5", "5.0", "50", "3"],
        ["finetune", "report", "3", "2.0", "6.0", "50", "3"],
    ]


def test_memory_is_a_methods_own_on_a_gpu_only(scribe: Any) -> None:
    result = measured(scribe, "alp", 80, 20, 200)
    assert cost._costs([result]) == ["seconds"]
    on_gpu = tuple(
        replace(run, record=replace(run.record, inputs=run.record.inputs | {"device": "cuda"}))
        for run in result.report
    )
    assert cost._costs([replace(result, report=on_gpu)]) == ["seconds", "memory"]


def test_what_was_trained_together_is_said(scribe: Any) -> None:
    names = [f"{method}-report-0-100" for method in ("alp", "finetune")]
    scribe.begin()
    for method in ("alp", "finetune"):
        scribe.run(method, "search", 0, 0, 0.8)
        scribe.run(method, "report", 0, 100, 0.8, provenance={"population": names}, predicted=False)
    _, task = cost.cost_blocks(read_evidence(scribe.ledger, "alp-rte"), STYLES)
    assert task.notes == (
        "Trained together with other methods, so that each has an equal share of one cost, which is "
        "none of its own: all methods.",
    )


def test_one_method_is_compared_with_none(scribe: Any) -> None:
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.8)
    scribe.run("alp", "report", 0, 100, 0.8, predicted=False)
    _, task = cost.cost_blocks(read_evidence(scribe.ledger, "alp-rte"), STYLES)
    assert task.panels == ()
    assert len(task.tables[0].rows) == 2


def test_failed_runs_have_no_cost(scribe: Any) -> None:
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.0, status="failed", reason="loss is NaN")
    time, task = cost.cost_blocks(read_evidence(scribe.ledger, "alp-rte"), STYLES)
    assert not time.empty
    assert task.empty


def test_an_empty_ledger_has_no_block(scribe: Any) -> None:
    scribe.begin()
    blocks = cost.cost_blocks(read_evidence(scribe.ledger, "alp-rte"), STYLES)
    assert all(block.empty for block in blocks)
