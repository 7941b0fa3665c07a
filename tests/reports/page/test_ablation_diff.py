"""The page of two ablations side by side, and the command that builds it."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import sync_playwright

from harness.analysis.ablation_diff import read_ablation_diff
from reports import build
from reports.page.ablation_diff import differences
from tests.reports.conftest import Scribe

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = """</script><script>alert(1)</script>"'&😀"""


@pytest.fixture
def two(scribe: Scribe) -> Scribe:
    """Beside the finished ablation one of another protocol, two points better in every run of alp."""
    scribe.finished()
    other = Scribe(scribe.ledger)
    other.manifest |= {"name": "other", "protocol": "paper", "studies": {"rte": {"alp": "s-new"}}}
    other.manifest |= {"family": [], "trials": 1, "banners": ["PROTOCOL paper: optimistic."]}
    other.manifest["config"] = {
        "training": {"epochs": 2, "precision": "bf16"},
        "task_files": {"note": HOSTILE},
    }
    other.begin()
    other.run("new", "search", 0, 0, 0.7)
    for seed, score in {100: 0.92, 101: 0.82, 102: 0.92}.items():
        other.run("new", "report", 0, seed, score)
    return scribe


def test_the_table_has_both_means_and_their_difference_in_points(two: Scribe) -> None:
    (row,) = differences(read_ablation_diff(two.ledger, "alp-rte", "other")).to_dict("records")
    assert (row["task"], row["method"], row["metric"], row["pairs"]) == (
        "rte",
        "alp",
        "accuracy",
        3,
    )
    assert row["first"] == pytest.approx(100 * (0.9 + 0.8 + 0.9) / 3)
    assert row["second"] == pytest.approx(row["first"] + 2)
    assert row["first_sd"] == pytest.approx(10 / 3**0.5)
    assert row["difference"] == pytest.approx(2)
    assert (row["low"], row["high"]) == (float("-inf"), float("inf"))  # three seeds
    assert row["p"] == row["holm_p"] == 0.25
    assert row["remark"] == ""


def test_a_reason_stands_where_there_is_no_difference(two: Scribe) -> None:
    other = replace(two.ledger.manifest("other"), report_seeds=(100, 7), name="third")
    two.ledger.write_ablation(other)
    (row,) = differences(read_ablation_diff(two.ledger, "alp-rte", "third")).to_dict("records")
    assert row["remark"] == "seeds of one side only are left out: 101, 102"
    # What is left out is in neither mean: beside a difference stands what it is of.
    assert (row["pairs"], row["first_seeds"], row["second_seeds"]) == (1, 1, 1)
    assert (row["first"], row["second"]) == (pytest.approx(90), pytest.approx(92))
    assert pd.isna(row["first_sd"])
    two.ledger.write_ablation(replace(other, report_seeds=(7,), name="fourth"))
    (row,) = differences(read_ablation_diff(two.ledger, "alp-rte", "fourth")).to_dict("records")
    assert pd.isna(row["difference"])
    assert (row["first_seeds"], row["first"]) == (3, pytest.approx(100 * (0.9 + 0.8 + 0.9) / 3))
    assert row["remark"] == "fourth has no finished report run"


def test_the_page_says_what_differs_and_that_nobody_planned_it(
    two: Scribe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main([str(tmp_path), "--compare", "alp-rte", "other"]) == 0
    path = tmp_path / "alp-rte-and-other.html"
    index = tmp_path / "index.html"
    assert capsys.readouterr().out == f"{path}\n{index}\n"
    assert '<a href="alp-rte-and-other.html">alp-rte and other</a>' in index.read_text("utf-8")
    text = path.read_text(encoding="utf-8")
    for banner in ("NOT PLANNED: ", "DEMO DATA: made up", "PROTOCOL paper: optimistic."):
        assert f"<strong>{banner}" in text
    rows = re.findall(r'<th scope="row">training\.precision</th><td>(\w+)</td><td>(\w+)</td>', text)
    assert rows == [("fp32", "bf16")]
    assert "finetune on rte is in alp-rte only" in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert {found.name for found in tmp_path.glob("*.html")} == {path.name, index.name}


def test_a_page_goes_where_it_is_asked_to(two: Scribe, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "page.html"
    assert build.main([str(tmp_path), "--compare", "other", "alp-rte", "--out", str(out)]) == 0
    assert out.read_text().count("<figure ") == 1
    assert list(tmp_path.glob("*.html")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["alp-rt", "other"],
            "--compare alp-rt: not in the ledger; the nearest are alp-rte, other",
        ),
        (["other", "other"], "--compare other: both names are the same"),
        (["other", "alp-rte", "--ablation", "other"], "--compare names two ablations: leave"),
    ],
)
def test_bad_names_are_told_in_one_line(
    arguments: list[str],
    message: str,
    two: Scribe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert build.main([str(tmp_path), "--compare", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"error: {message}")
    assert told.err.count("\n") == 1


def test_nothing_in_common_leaves_a_page(two: Scribe, tmp_path: Path) -> None:
    empty = replace(two.ledger.manifest("other"), name="empty", studies={}, teachers={})
    two.ledger.write_ablation(empty)
    assert build.main([str(tmp_path), "--compare", "alp-rte", "empty"]) == 0
    text = (tmp_path / "alp-rte-and-empty.html").read_text(encoding="utf-8")
    assert "The two ablations have no method on a common task." in text


@pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium")
@pytest.mark.parametrize("width", [390, 1440])
def test_it_opens_and_its_figure_is_drawn(two: Scribe, tmp_path: Path, width: int) -> None:
    assert build.main([str(tmp_path), "--compare", "alp-rte", "other"]) == 0
    troubles: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": width, "height": 900}, offline=True)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.goto((tmp_path / "alp-rte-and-other.html").as_uri())
        page.locator(".plot").scroll_into_view_if_needed()
        page.wait_for_function("() => document.querySelector('.plot').dataset.drawn === 'done'")
        assert page.locator(".plot .point").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") == width
        anchors = page.locator("nav a, a.anchor").all()
        assert all(page.locator(a.get_attribute("href") or "").count() == 1 for a in anchors)
        browser.close()
    assert troubles == []
