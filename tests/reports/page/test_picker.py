"""The picker of methods: one for all figures of a page, with the keyboard and from the keys."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks.synthetic import Size, write_ledger
from harness.storage.ledger import Ledger
from reports import build
from reports.evidence import read_evidence
from reports.page.page import first_methods
from tests.reports.page.conftest import IN_CHROMIUM, Open

pytestmark = IN_CHROMIUM
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a report on eight methods."""
    runs = tmp_path_factory.mktemp("many")
    write_ledger(runs, Size(methods=8, tasks=1, seeds=2, trials=3, epochs=2))
    assert build.main([str(runs)]) == 0
    return runs


@pytest.fixture(scope="module")
def page_path(many: Path) -> Path:
    (path,) = many.glob("*/report.html")
    return path


def test_the_best_methods_and_the_baseline_come_first(many: Path, page_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{many / 'ledger.db'}")
    evidence = read_evidence(ledger, page_path.parent.name)
    ledger.close()
    means = {result.method: result.mean for result in evidence.result.results}
    baseline = means.pop(evidence.manifest.baseline or "")
    assert baseline
    best = sorted(means, key=lambda method: means[method])[-5:]
    assert first_methods(evidence) == {*best, evidence.manifest.baseline}


def test_all_figures_show_the_methods_that_are_picked(page_path: Path, open_page: Open) -> None:
    opened = open_page(page_path)
    opened.open_appendix()
    page = opened.page
    figures = [
        page.locator("figure", has_text=text)
        for text in ("Tuned score by the budget", "Selection score by trial", "Term: total")
    ]
    figures = [figure.first for figure in figures if figure.count()]
    assert len(figures) == 2
    for figure in figures:
        figure.scroll_into_view_if_needed()
        plot = figure.locator(".plot").element_handle()
        page.wait_for_function("plot => plot.dataset.drawn === 'done'", arg=plot)

    def shown(count: int) -> None:
        """Each figure has marks and entries of its key for so many methods, and no other."""
        for figure in figures:
            names = figure.locator(".key [data-method]:visible").all_text_contents()
            groups = "plot => [...new Set(plot.data.map(trace => trace.meta))]"
            assert sorted(figure.locator(".plot").evaluate(groups)) == sorted(
                name.split()[-1] for name in names
            )
            assert len(names) == count

    summary = page.locator("#picker summary")
    assert summary.inner_text() == "Methods: 6 of 8"
    shown(6)
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "All"
    page.keyboard.press("Enter")
    shown(8)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    name = page.evaluate("document.activeElement.value")
    page.keyboard.press("Space")
    shown(7)
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Methods: 7 of 8"
    assert page.locator("#picker").get_attribute("open") is None
    assert page.locator(f"figure[data-method='{name}']:visible").count() == 0
    entry = figures[0].locator(".key [data-method]:visible").first
    gone = entry.get_attribute("data-method")
    entry.click()
    shown(6)
    assert page.locator(".said").inner_text() == "6 of 8 methods in the figures"
    drawing = ET.fromstring(opened.text(opened.tool(figures[0], "as SVG, 6.8 inches")))
    texts = {"".join(text.itertext()) for text in drawing.iter(f"{SVG}text")}
    assert not {gone, name} & texts
    # One method is left at least.
    page.locator("#picker").evaluate(
        "menu => menu.querySelectorAll('input:checked').forEach(x => x.click())"
    )
    shown(1)


def test_the_picker_fits_a_phone(page_path: Path, open_page: Open) -> None:
    page = open_page(page_path, width=390).page
    page.locator("#picker summary").click()
    box = page.locator("#picker > div").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_page_of_two_methods_has_no_picker(report: Path, open_page: Open) -> None:
    assert open_page(report).page.locator("#picker").count() == 0
