from typing import Any

import pytest

from reports.evidence import read_evidence
from reports.kit.palette import method_styles
from reports.sections.cost import bars, timeline
from reports.sections.cost.bars import Pause

STYLES = method_styles(["finetune", "alp"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The ledger's clock, in seconds after some day."""
    now = {"now": 0.0}
    monkeypatch.setattr("harness.storage.ledger.time.time", lambda: 1.7e9 + now["now"])
    return now


NO_MACHINE = {"processor": "", "machine": "", "cores": None}


def trained(scribe: Any, clock: dict[str, float], at: float, *runs: Any, **facts: Any) -> None:
    """Runs trained together and written at that time: 2 seconds each, 3 in trial 1."""
    clock["now"] = at
    names = ["-".join(map(str, run)) for run in runs]
    for method, role, trial, seed in runs:
        scribe.run(
            method,
            role,
            trial,
            seed,
            0.8,
            provenance={"population": names, **NO_MACHINE, **facts},
            predicted=False,
        )


def read(scribe: Any) -> Any:
    return read_evidence(scribe.ledger, "alp-rte")


def rows(scribe: Any) -> list[tuple[Any, ...]]:
    frame = bars.bars(read(scribe))
    shown = ["worker", "method", "role", "start", "end", "runs"]
    return [
        (*row[:3], pytest.approx(row[3], abs=1e-6), pytest.approx(row[4], abs=1e-6), row[5])
        for row in frame[shown].itertuples(index=False, name=None)
    ]


TOGETHER = (
    ("alp", "search", 0, 0),
    ("alp", "search", 0, 1),
    ("finetune", "search", 0, 0),
)


def test_a_population_is_one_bar_in_shares(scribe: Any, clock: Any) -> None:
    scribe.begin()
    trained(scribe, clock, 100, *TOGETHER)
    # Three runs of two seconds each end at 100, and so began at 94, which is where time begins.
    assert rows(scribe) == [
        (0, "alp", "search", 0, 4, 2),
        (0, "finetune", "search", 4, 6, 1),
    ]


def test_a_part_of_a_population_keeps_its_length(scribe: Any, clock: Any) -> None:
    scribe.begin()
    trained(scribe, clock, 100, *TOGETHER)
    trained(scribe, clock, 110, ("alp", "report", 0, 100))
    scribe.manifest["studies"]["rte"] = {"alp": "s-alp"}
    scribe.manifest["family"] = []
    scribe.begin()
    # The population began at 94, also where one of its methods belongs to another ablation.
    assert rows(scribe) == [(0, "alp", "search", 0, 4, 2), (0, "alp", "report", 14, 16, 1)]


def test_bars_that_overlap_have_workers_of_their_own(scribe: Any, clock: Any) -> None:
    scribe.begin()
    trained(scribe, clock, 100, *TOGETHER)
    trained(scribe, clock, 101, ("finetune", "search", 1, 0))
    trained(scribe, clock, 103, ("alp", "search", 1, 0))
    trained(scribe, clock, 99, ("alp", "report", 0, 100), processor="another", cores=4)
    found = bars.bars(read(scribe))
    assert [(row.machine, row.worker, row.start, row.end) for row in found.itertuples()] == [
        ("unknown processor", 0, pytest.approx(0), pytest.approx(4)),
        ("another, 4 cores", 0, pytest.approx(3), pytest.approx(5)),
        ("unknown processor", 0, pytest.approx(4), pytest.approx(6)),
        ("unknown processor", 1, pytest.approx(4), pytest.approx(7)),
        ("unknown processor", 0, pytest.approx(6), pytest.approx(9)),
    ]
    machines = bars.machine_table(found)
    assert machines["machine"].tolist() == ["another, 4 cores", "unknown processor"]
    assert machines["workers"].tolist() == [1, 2]
    assert machines["runs"].tolist() == [1, 5]
    assert machines["hours"].tolist() == pytest.approx([2 / 3600, 12 / 3600])
    figure = timeline.timeline_figure(found, STYLES).to_figure()
    assert list(figure.layout.yaxis.ticktext) == [
        "machine 1, worker 1", "machine 2, worker 1", "machine 2, worker 2",
    ]  # fmt: skip


def test_runs_of_a_kind_in_a_row_are_one_bar(scribe: Any, clock: Any) -> None:
    scribe.begin()
    for seed in range(10):
        trained(scribe, clock, 100 + 2 * seed, ("alp", "search", 0, seed))
    trained(scribe, clock, 120, ("finetune", "search", 0, 0))
    trained(scribe, clock, 122, ("alp", "search", 0, 10))
    trained(scribe, clock, 130, ("alp", "search", 0, 11))
    assert rows(scribe) == [
        (0, "alp", "search", 0, 20, 10),
        (0, "finetune", "search", 20, 22, 1),
        (0, "alp", "search", 22, 24, 1),
        (0, "alp", "search", 30, 32, 1),
    ]


def test_a_run_that_two_trials_share_is_one_run(scribe: Any, clock: Any) -> None:
    scribe.begin()
    trained(scribe, clock, 100, ("alp", "search", 0, 0))
    scribe.ledger.use_run("s-alp", "search", 1, 0, "alp-search-0-0")
    assert rows(scribe) == [(0, "alp", "search", 0, 2, 1)]


def test_long_pauses_are_cut_out(scribe: Any, clock: Any) -> None:
    scribe.begin()
    trained(scribe, clock, 102, ("alp", "search", 0, 0))
    trained(scribe, clock, 155, ("alp", "search", 0, 1))  # 51 seconds later: not a minute
    trained(scribe, clock, 1157, ("alp", "report", 0, 100))
    frame = bars.bars(read(scribe))
    (cut,) = bars.pauses(frame)
    assert (cut.start, cut.end) == (pytest.approx(55), pytest.approx(1055))
    assert bars.shown_time(55, [cut], 5) == pytest.approx(55)
    assert bars.shown_time(1056, [cut], 5) == pytest.approx(61)
    figure = timeline.timeline_figure(frame, STYLES).to_figure()
    search, report = figure.data
    # The whole is 57 seconds without the pause, which takes 1.5 % of that.
    assert list(search.base) == pytest.approx([0, 53], abs=1e-3)
    assert list(report.base) == pytest.approx([55 + 0.015 * 57], abs=1e-3)
    assert list(report.x) == pytest.approx([2], abs=1e-3)
    assert (search.marker.opacity, report.marker.opacity) == (0.45, 1)
    assert search.marker.color == STYLES["alp"].colour
    assert timeline.timeline_block(read(scribe), STYLES).notes == (
        "Times without runs are cut out at the dotted lines: 1 in number, 16.7 minutes in all, the "
        "longest 16.7 minutes.",
    )


def test_pauses_of_one_worker_are_none_while_another_trains() -> None:
    import pandas as pd

    frame = pd.DataFrame({"start": [0.0, 900.0, 50.0], "end": [100.0, 1000.0, 880.0]})
    assert bars.pauses(frame) == []
    assert bars.pauses(frame[:2]) == [Pause(100.0, 900.0)]


def test_failed_runs_are_counted(scribe: Any, clock: Any) -> None:
    scribe.begin()
    clock["now"] = 10
    scribe.run("alp", "search", 0, 0, 0.0, status="failed", reason="loss is NaN")
    block = timeline.timeline_block(read(scribe), STYLES)
    (panel,) = block.panels
    assert "1 runs in 2 seconds" in panel.alt
    assert panel.alt.endswith("runs that failed: 1.")
    assert panel.figure.to_figure().data[0].hovertext == (
        "alp, rte, search: 1 run, 1 failed<br>2 seconds, from 0 seconds",
    )


def test_before_the_first_run_there_is_nothing(scribe: Any) -> None:
    scribe.begin()
    assert timeline.timeline_block(read(scribe), STYLES).is_empty


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.21, "3.21 seconds"), (600, "10 minutes"), (9000, "2.5 hours"), (864000, "10 days")],
)
def test_times_are_in_fitting_units(seconds: float, words: str) -> None:
    assert timeline._span(seconds) == words
