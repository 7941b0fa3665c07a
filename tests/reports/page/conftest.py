"""Chromium without a network, and reports to open in it."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Download, Locator, Page, sync_playwright

from benchmarks.synthetic import Size, write_ledger
from harness.storage.ledger import Ledger
from reports import build
from tests.reports.conftest import Scribe

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
IN_CHROMIUM = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium"),
]
"""The marks of a module whose tests need Chromium."""
DESK = 1440


@dataclass
class Opened:
    """A page with all it said, asked for and raised."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def table(self, label: str) -> Locator:
        return self.page.locator(".table", has=self.page.locator(f".label:has-text('{label}')"))

    def column(self, table: Locator, heading: str) -> list[str]:
        names = [text.rstrip("↕↑↓\xa0 ") for text in table.locator("thead th").all_inner_texts()]
        index = names.index(heading) + 1
        return table.locator(f"tbody :is(th, td):nth-child({index})").all_inner_texts()

    def tool(self, place: Locator, name: str) -> Locator:
        """A control in the menu of a table or figure, which is opened."""
        place.locator(".tools").first.evaluate("menu => { menu.open = true; }")
        return place.locator(".tools").first.get_by_role("button", name=name)

    def open_appendix(self) -> None:
        self.page.locator("#appendix").evaluate_all("all => all.forEach(e => { e.open = true; })")

    def saved(self, press: Locator) -> Download:
        with self.page.expect_download() as waiting:
            press.click()
        return waiting.value

    def text(self, press: Locator) -> str:
        return Path(self.saved(press).path()).read_text(encoding="utf-8")

    def draw_all(self) -> list[Locator]:
        self.open_appendix()
        plots = self.page.locator(".plot").all()
        for plot in plots:
            plot.scroll_into_view_if_needed()
            self.page.wait_for_function(
                "plot => plot.dataset.drawn === 'done'", arg=plot.element_handle()
            )
        return plots


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


Open = Callable[..., Opened]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    contexts = []

    def opener(path: Path, fragment: str = "", width: int = DESK, **options: Any) -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, offline=True, **options
        )
        context.set_default_timeout(10_000)
        contexts.append((context, opened := Opened(context.new_page(), path.as_uri())))
        page = opened.page
        page.on("request", lambda request: opened.requests.append(request.url))
        page.on("pageerror", lambda error: opened.troubles.append(str(error)))
        page.on("dialog", lambda dialog: opened.troubles.append(dialog.message))
        page.on(
            "console",
            lambda said: opened.troubles.append(said.text) if said.type != "log" else None,
        )
        page.goto(opened.url + fragment)
        return opened

    yield opener
    for context, opened in contexts:
        context.close()
        assert opened.troubles == []
        assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [
            opened.url + opened.requests[0].removeprefix(opened.url)
        ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scribe]:
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('finished') / 'ledger.db'}")
    scribe = Scribe(ledger)
    scribe.texts = [(f"The cat sat {id} times.", "A <b>CAT</b> sat.") for id in range(10)]
    scribe.finished()
    yield scribe
    ledger.close()


@pytest.fixture(scope="module")
def report(finished: Scribe) -> Path:
    runs = Path(finished.ledger.url.removeprefix("sqlite:///")).parent
    assert build.main([str(runs)]) == 0
    return runs / "alp-rte" / "report.html"


@pytest.fixture(scope="module")
def large_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 4 methods and 2 tasks with 40 trials: enough for every kind of figure."""
    runs = tmp_path_factory.mktemp("large")
    name = write_ledger(runs, Size(methods=4, tasks=2, seeds=3, trials=40, epochs=2))
    assert build.main([str(runs)]) == 0
    return runs / name / "report.html"
