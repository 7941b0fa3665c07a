"""The page of a study that runs or was stopped, and the words on how far a study is."""

import copy
import os
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from reports.evidence import read_evidence
from reports.page import running, status
from reports.running import RunningPage
from tests.reports.conftest import Scribe

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def half(scribe: Scribe) -> None:
    """Three of ten runs: two trials of alp, of which one failed, and one of the baseline."""
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7)
    scribe.run("alp", "search", 1, 0, 0.0, status="failed", reason="loss is NaN")
    scribe.run("finetune", "search", 0, 0, 0.6)


def read(scribe: Scribe) -> Any:
    return read_evidence(scribe.ledger, "alp-rte")


def test_a_running_study_says_how_far_it_is(scribe: Scribe) -> None:
    half(scribe)
    evidence = read(scribe)
    text = running.render_running(
        evidence.manifest,
        evidence.result.results,
        is_running=True,
        seconds_left=840.0,
        now=datetime(2026, 11, 30, 12, 3, 10, tzinfo=UTC),
    )
    assert "Running: 3 of 10 runs, 14 min left" in text
    assert '<meta http-equiv="refresh" content="10">' in text
    assert "Page written 30 November 2026, 12:03:10 UTC" in text
    assert "2 of 5" in text
    assert "70.00" in text
    assert "alp on rte, search run, trial 1, seed 0: loss is NaN" in text
    assert not re.search("▲|▼|≈|○", text.partition("<script>")[0])


def test_a_stopped_study_does_not_load_again(scribe: Scribe) -> None:
    half(scribe)
    evidence = read(scribe)
    text = running.render_running(evidence.manifest, evidence.result.results, is_running=False)
    assert "Stopped: 3 of 10 runs" in text
    assert "refresh" not in text.partition("</head>")[0]
    assert "The same command goes on where it stopped" in text


def test_no_reported_score_is_on_the_page(scribe: Scribe) -> None:
    """The reported scores are 90 and 80 points, the selection scores 80 and 60."""
    scribe.finished()
    evidence = read(scribe)
    text = running.render_running(evidence.manifest, evidence.result.results, is_running=True)
    page = text.partition("<tbody>")[2].partition("</tbody>")[0]
    assert "80.00" in page
    for score in ("86.67", "90.00", "70.00"):
        assert score not in page


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (61, "61 s"), (840, "14 min"), (3600, "1 h 0 min"), (7384, "2 h 3 min")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert running.duration_text(seconds) == words


def test_dots_lie_at_their_heights() -> None:
    drawing = str(running.dots([50.0, 75.0, 100.0], 50.0, 100.0, 3))
    assert re.findall(r'cx="([\d.]+)%" cy="([\d.]+)"', drawing) == [
        ("16.67", "15.0"), ("50.0", "9.0"), ("83.33", "3.0"),
    ]  # fmt: skip


def test_the_page_is_written_while_runs_are_missing(scribe: Scribe, tmp_path: Path) -> None:
    half(scribe)
    page = RunningPage(scribe.ledger, tmp_path, print)
    path = tmp_path / "alp-rte" / "report.html"
    page.update("alp-rte")
    assert "Running: 3 of 10 runs" in path.read_text()
    index = (tmp_path / "index.html").read_text()
    assert "Running: 3 of 10 runs." in index
    assert '<a href="alp-rte/report.html">' in index
    page.stop("alp-rte")
    assert "Stopped: 3 of 10 runs" in path.read_text()


def test_the_page_says_what_share_of_the_runs_is_trained(scribe: Scribe, tmp_path: Path) -> None:
    """All runs of a population end at once, so they are counted by their steps."""
    half(scribe)
    page = RunningPage(scribe.ledger, tmp_path, print)
    path = tmp_path / "alp-rte" / "report.html"
    page.update("alp-rte")
    assert "trained" not in path.read_text()
    page._next = 0.0
    for _ in range(4):
        page.advance(0.5)
        page._next = 0.0
    headline = re.search(r"Running: 3 of 10 runs, (\d+) % trained, \d+ s left", path.read_text())
    assert headline is not None
    assert headline[1] == "50"


def test_the_page_waits_in_proportion_to_its_cost(scribe: Scribe, tmp_path: Path) -> None:
    half(scribe)
    page = RunningPage(scribe.ledger, tmp_path, print)
    page.update("alp-rte")
    (tmp_path / "alp-rte" / "report.html").unlink()
    page.update("alp-rte")
    assert not (tmp_path / "alp-rte" / "report.html").exists()


def test_a_finished_study_leaves_the_page_to_the_report(scribe: Scribe, tmp_path: Path) -> None:
    scribe.finished()
    page = RunningPage(scribe.ledger, tmp_path, print)
    page.update("alp-rte")
    page.stop("alp-rte")
    assert not (tmp_path / "alp-rte").exists()


def test_a_page_that_cannot_be_written_stops_nothing(
    scribe: Scribe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half(scribe)
    (tmp_path / "alp-rte").write_text("a file where the folder should be")
    RunningPage(scribe.ledger, tmp_path, print).update("alp-rte")
    assert "the page of the running study is not written" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium")
def test_the_browser_loads_the_page_again(
    scribe: Scribe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "RELOAD_SECONDS", 1)
    half(scribe)
    page_writer = RunningPage(scribe.ledger, tmp_path, print)
    page_writer.update("alp-rte")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": 390, "height": 844}, offline=True)
        page.goto((tmp_path / "alp-rte" / "report.html").as_uri())
        assert "Running: 3 of 10 runs" in page.locator(".finding").inner_text()
        scribe.run("finetune", "search", 1, 0, 0.6)
        page_writer.stop("alp-rte")
        page.get_by_text("Stopped: 4 of 10 runs").wait_for(timeout=20_000)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        browser.close()


def banners(scribe: Scribe) -> list[str]:
    evidence = read(scribe)
    notices = status.notices(evidence, status.evidence_progress(evidence))
    return [notice.sentences for notice in notices]


def test_a_report_of_an_unfinished_study_says_so(scribe: Scribe) -> None:
    half(scribe)
    assert banners(scribe) == [
        "UNFINISHED: 3 of 10 runs have ended. 1 of 1 planned comparisons have no verdict.",
        "FAILED: 1 of 3 runs failed.",
    ]


@pytest.mark.parametrize("tasks", [("rte",), ("rte", "qnli")])
def test_repeats_may_have_different_tasks(
    scribe: Scribe, tmp_path: Path, tasks: tuple[str, ...]
) -> None:
    """The first repeat has rte alone, the second qnli too, and a third is to come; five runs a study.

    The joint ablation has the tasks of the first repeat, or of another version's.
    """
    half(scribe)
    for part in ("tasks", "studies", "teachers"):
        scribe.manifest[part]["qnli"] = copy.deepcopy(scribe.manifest[part]["rte"])
    scribe.write(name="r1")
    studies = {task: scribe.manifest["studies"][task] for task in tasks}
    protocol = {"unit": "settings", "seeds": 3, "repeats": 3}
    config = {**scribe.manifest["config"], "search": {"trials": 2}, "protocol": protocol}
    scribe.write(name="both", studies=studies, config=config, repeats=["alp-rte", "r1"])
    page = RunningPage(scribe.ledger, tmp_path, print)
    page.update("both")
    text = (tmp_path / "both" / "report.html").read_text()
    assert f"Running: 9 of {10 + 20 + 10 * len(tasks)} runs" in text
    assert "qnli, accuracy on the selection split, in points" in text


def test_a_method_whose_runs_all_failed_is_named(scribe: Scribe) -> None:
    scribe.begin()
    for trial in (0, 1):
        scribe.run("alp", "search", trial, 0, 0.0, status="failed", reason="loss is NaN")
        scribe.run("finetune", "search", trial, 0, 0.6)
    for seed in (100, 101, 102):
        scribe.run("finetune", "report", 0, seed, 0.6)
    assert banners(scribe) == [
        "FAILED: every run of alp on rte failed. 1 of 1 planned comparisons have no verdict."
    ]


def test_few_seeds_for_many_comparisons_are_said_to_be_few(scribe: Scribe) -> None:
    """Three seeds have a least p of .25; 2 / 2⁶ is the first below .05."""
    scribe.finished()
    assert banners(scribe) == [
        "UNDERPOWERED: 3 paired seeds, at least 6 can decide. 3 cannot decide one comparison at level "
        "0.05, however large a difference is."
    ]
    evidence = read(scribe)
    words = status.reach(evidence)
    assert words.startswith("Could find a difference of 1 point: no, that takes ")
    needed = re.search(r"takes (?:more than )?(\d+) paired seeds", words)
    assert needed is not None


@pytest.mark.parametrize(
    ("needed", "words"),
    [
        (
            [2, 2, 30],
            "2 of 3 comparisons. It takes 2 paired seeds for half of them, and 30 for the others.",
        ),
        (
            [2, 30, 5000],
            "1 of 3 comparisons. It takes 30 paired seeds for half of them, and more than 1000 for ",
        ),
        (
            [2, 2228, 5000],
            "1 of 3 comparisons. It takes more than 1000 paired seeds for half of them.",
        ),
        ([30, 30, 30], "0 of 3 comparisons. It takes 30 paired seeds for all of them."),
        ([2, 30, 30], "1 of 3 comparisons. It takes 30 paired seeds for all of them."),
        (
            [2, None, 30],
            "1 of 3 comparisons. It takes 2 paired seeds for half of the 2 with a spread, and ",
        ),
        (
            [None, None, 30],
            "0 of 3 comparisons. It takes 30 paired seeds for the only one with a spread.",
        ),
    ],
)
def test_what_several_comparisons_take(
    scribe: Scribe, monkeypatch: pytest.MonkeyPatch, needed: list[int | None], words: str
) -> None:
    scribe.finished()
    evidence = read(scribe)
    comparisons = tuple(evidence.result.comparisons) * 3
    several = replace(evidence, result=replace(evidence.result, comparisons=comparisons))
    counts = iter(needed)
    monkeypatch.setattr(status, "_needed", lambda comparison, manifest: next(counts))
    assert words in status.reach(several)
