"""What a paper takes from a page: texts to copy and save, and figures at the width of a column."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from reports.evidence import read_evidence
from reports.page.paper.parts import paper_parts
from tests.reports.conftest import Scribe
from tests.reports.page.conftest import IN_CHROMIUM, Open

pytestmark = IN_CHROMIUM
SVG = "{http://www.w3.org/2000/svg}"


def test_texts_for_a_paper_are_shown_saved_and_lie_beside_the_page(
    report: Path, finished: Scribe, open_page: Open
) -> None:
    opened = open_page(report)
    opened.page.locator("#paper > summary").click()
    parts = paper_parts(read_evidence(finished.ledger, "alp-rte"))
    for part in parts:
        assert report.with_name(part.file).read_text(encoding="utf-8") == part.text
        save = opened.page.get_by_role("button", name=f"Save {part.label}")
        assert opened.saved(save).suggested_filename == part.file
        assert opened.text(save) == part.text


def test_figures_have_the_width_of_a_column_and_text_of_eight_points(
    large_report: Path, open_page: Open
) -> None:
    opened = open_page(large_report)
    opened.open_appendix()
    figures = opened.page.locator("figure")
    captions = [text or "" for text in figures.locator("figcaption").all_text_contents()]
    assert len(set(captions)) > 12
    for caption in dict.fromkeys(captions):
        # Each kind once, in turns at both widths.
        place = captions.index(caption)
        inches = (3.3, 6.8)[place % 2]
        plot = figures.nth(place).locator(".plot")
        script = "(plot, inches) => paperDrawing(plot, inches).then(drawing => drawing.text)"
        drawing = ET.fromstring(plot.evaluate(script, inches))
        assert drawing.get("width") == f"{inches}in"
        left, top, width, height = map(float, (drawing.get("viewBox") or "").split())
        assert (left, top, width) == (0, 0, pytest.approx(96 * inches))
        assert drawing.get("height") == f"{height / 96}in"
        styles = [text.get("style") or "" for text in drawing.iter(f"{SVG}text")]
        sizes = {
            float(size) for style in styles for size in re.findall(r"font-size: ([\d.]+)px", style)
        }
        assert sizes, caption
        points = [72 / 96 * size for size in sizes]
        assert points == pytest.approx([8] * len(sizes), abs=0.01), caption


def test_lines_of_a_saved_figure_differ_in_grey(large_report: Path, open_page: Open) -> None:
    opened = open_page(large_report)
    opened.open_appendix()
    figure = opened.page.locator("figure", has_text="Selection score by trial").first
    drawing = ET.fromstring(opened.text(opened.tool(figure, "as SVG, 3.3 inches")))
    lines = [path for path in drawing.iter(f"{SVG}path") if path.get("class") == "js-line"]
    styles = [path.get("style") or "" for path in lines]
    dashes = {tuple(re.findall(r"stroke-dasharray: ([^;]*);", style)) for style in styles}
    assert len(dashes) >= 4


@pytest.mark.parametrize("inches", [3.3, 6.8])
def test_a_figure_is_printed_alone_on_a_page_of_its_size(
    report: Path, open_page: Open, inches: float
) -> None:
    opened = open_page(report)
    opened.page.evaluate("window.print = () => { window.asked = document.title; }")
    figure = opened.page.locator("figure", has_text="Paired scores, one line per seed")
    opened.tool(figure, f"as PDF, {inches} inches").click()
    opened.page.wait_for_function("() => window.asked")
    assert opened.page.evaluate("window.asked").startswith("alp-rte-")
    printed = opened.page.pdf(prefer_css_page_size=True)
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)
    assert len(boxes) == 1
    assert float(boxes[0][0]) == pytest.approx(72 * inches, abs=0.5)
    assert b"/Font" in printed  # text stays text
    assert b"/Subtype /Image" not in printed
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.page.locator("body > .sheet").count() == 0
    assert opened.page.title().startswith("alp and finetune on RTE")
