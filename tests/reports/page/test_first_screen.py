"""The first screen in Chromium: on a phone and a desk, without scripts, on plain http, and on paper."""

import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from reports import build
from tests.reports.conftest import Scribe

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium"),
]
WIDTHS = {390: 844, 768: 1024, 1440: 900}


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture
def report(scribe: Scribe, tmp_path: Path) -> Path:
    scribe.finished()
    assert build.main([str(tmp_path)]) == 0
    return tmp_path / "alp-rte" / "report.html"


def inside(page: Page, selector: str) -> bool:
    """Whether an element lies within the window whole."""
    box, size = page.locator(selector).bounding_box(), page.viewport_size
    assert box is not None
    assert size is not None
    return (
        box["x"] >= 0
        and box["y"] >= 0
        and box["x"] + box["width"] <= size["width"]
        and box["y"] + box["height"] <= size["height"]
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scripts", [True, False])
def test_verdict_and_table_are_on_the_first_screen(
    report: Path, browser: Browser, width: int, scripts: bool
) -> None:
    size = {"width": width, "height": WIDTHS[width]}
    page = browser.new_context(viewport=size, java_script_enabled=scripts).new_page()
    page.goto(report.as_uri())
    assert page.locator(".finding").all_inner_texts() == [
        "○ Whether alp is better or worse than finetune on rte is not decided."
    ]
    assert inside(page, ".finding")
    assert inside(page, "#result tbody tr:has-text('alp') > :nth-child(5) svg.bar-cell")
    for column in (1, 2, 3, 4):
        cell = f"#result tbody tr:has-text('alp') > :nth-child({column})"
        assert inside(page, cell)
        assert page.locator(cell).evaluate("cell => cell.scrollWidth <= cell.clientWidth")
    status = page.locator(".status").inner_text()
    assert status.startswith("10 of 10 runs have ended, 0 failed.")
    note = page.locator("main noscript")
    assert note.is_visible() != scripts
    row = page.locator("#result").get_by_role("row").filter(has_text="finetune")
    assert row.get_by_role("rowheader").inner_text().endswith("finetune")


def test_a_bar_is_as_long_as_its_interval(report: Path, browser: Browser) -> None:
    """The interval of three seeds is unbounded, so the bar reaches both ends of its cell."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(report.as_uri())
    cell = page.locator("#result tbody tr:has-text('alp') svg.bar-cell").bounding_box()
    bar = page.locator("#result tbody tr:has-text('alp') .range").bounding_box()
    assert cell is not None
    assert bar is not None
    # A line's box has half its width on each side.
    assert bar["x"] == pytest.approx(cell["x"], abs=3)
    assert bar["width"] == pytest.approx(cell["width"], abs=6)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_copy_works_without_a_clipboard_object(report: Path, browser: Browser) -> None:
    """As on plain http, where browsers give a page no clipboard."""
    handler = functools.partial(_Quiet, directory=str(report.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page()
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.goto(f"http://127.0.0.1:{server.server_port}/report.html")
    page.locator("#result .tools > summary").first.click()
    page.get_by_role("button", name="Copy Scores on rte").click()
    page.wait_for_function("() => document.querySelector('.said').textContent.includes('Copied')")
    page.evaluate("document.body.prepend(document.createElement('textarea'))")
    page.locator("textarea").focus()
    page.keyboard.press("Control+V")
    assert "alp\t86.67 ± 5.77\t○ not decided" in page.locator("textarea").input_value()
    server.shutdown()
    server.server_close()


def test_two_methods_take_at_most_five_pages_of_paper(report: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    page.wait_for_function("() => window.Plotly !== undefined")
    page.emulate_media(media="print")
    page.wait_for_function(
        "() => [...document.querySelectorAll('#evidence .plot')].every(p => p.dataset.drawn === 'done')"
    )
    pdf = page.pdf(format="A4")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 5


@pytest.mark.parametrize("width", WIDTHS)
def test_names_of_regions_differ(
    scribe: Scribe, tmp_path: Path, browser: Browser, width: int
) -> None:
    scribe.manifest["tasks"]["qnli"] = dict(scribe.manifest["tasks"]["rte"])
    for part in ("studies", "teachers"):
        scribe.manifest[part]["qnli"] = dict(scribe.manifest[part]["rte"])
    scribe.finished()
    assert build.main([str(tmp_path)]) == 0
    page = browser.new_page(viewport={"width": width, "height": WIDTHS[width]})
    page.goto((tmp_path / "alp-rte" / "report.html").as_uri())
    names = page.locator("[role=region]").evaluate_all(
        "regions => regions.map(region => region.getAttribute('aria-label'))"
    )
    assert len(names) == len(set(names)) > 3


def many_methods(scribe: Scribe) -> None:
    """22 methods on two tasks with three seeds, which cannot decide 42 comparisons."""
    names = ["alp", *(f"method-{number}" for number in range(20))]
    scribe.manifest["studies"]["rte"] = dict.fromkeys(names, "s-alp") | {"finetune": "s-finetune"}
    scribe.manifest["tasks"]["qnli"] = dict(scribe.manifest["tasks"]["rte"])
    for part in ("studies", "teachers"):
        scribe.manifest[part]["qnli"] = dict(scribe.manifest[part]["rte"])
    family = [[task, name, "finetune"] for task in ("rte", "qnli") for name in names]
    scribe.manifest["family"] = family
    scribe.manifest["banners"] = [
        "DEMO DATA: procedural tasks that only share GLUE's schemas. Nothing here is a GLUE result."
    ]
    scribe.finished()


def test_two_rows_of_a_large_study_are_on_a_phone_s_first_screen(
    scribe: Scribe, tmp_path: Path, browser: Browser
) -> None:
    many_methods(scribe)
    assert build.main([str(tmp_path)]) == 0
    page = browser.new_page(viewport={"width": 390, "height": WIDTHS[390]})
    page.goto((tmp_path / "alp-rte" / "report.html").as_uri())
    notice = page.locator("details.banner")
    summary = "UNDERPOWERED: 3 paired seeds, at least 11 can decide."
    assert notice.locator("summary").inner_text() == summary
    assert "3 cannot decide 42 comparisons at level 0.05" not in notice.inner_text()
    assert inside(page, "#task-1 tbody tr:nth-child(2)")
    notice.locator("summary").click()
    assert "3 cannot decide 42 comparisons at level 0.05" in notice.inner_text()


@pytest.mark.parametrize("methods", [2, 22])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_word_of_the_bar_is_cut(
    scribe: Scribe, tmp_path: Path, browser: Browser, methods: int, width: int
) -> None:
    many_methods(scribe) if methods > 2 else scribe.finished()
    assert build.main([str(tmp_path)]) == 0
    page = browser.new_page(viewport={"width": width, "height": WIDTHS[width]})
    page.goto((tmp_path / "alp-rte" / "report.html").as_uri())
    page.wait_for_function("() => !document.getElementById('theme').hidden")
    for part in page.locator(".bar > :is(.home, .pill, #theme, #picker)").all():
        if part.is_visible():
            assert part.evaluate("part => part.scrollWidth <= part.clientWidth"), part.inner_text()
    assert "DEMO DATA" in page.locator(".pill").inner_text()
    assert page.locator("body").evaluate("body => body.scrollWidth <= innerWidth")
    themes = page.get_by_role("button", name="Dark theme")
    assert inside(page, "#theme")
    themes.click()
    assert page.get_by_role("button", name="Light theme").is_visible()
