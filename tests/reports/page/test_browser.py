"""Reports in a headless Chromium, from a file and without a network."""

import csv
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from reports import build
from reports.evidence import read_evidence
from reports.page.scores import verdict_table
from tests.reports.conftest import Scribe
from tests.reports.page.conftest import DESK, IN_CHROMIUM, Open

pytestmark = IN_CHROMIUM
PHONE, PAPER = 390, 718
HOSTILE = (
    """</script><script>alert(1)</script><img src=x onerror=alert(2)>"'&$_%#{}~^\\|=😀\u202eאב"""
)
MARKS = ".js-line, .point, .points path, .heatmaplayer image, .shapelayer path"
DATA_MARKS = ".js-line, .point, .heatmaplayer image"
"""Marks that stand for numbers; reference lines are not among them."""
IN_SIGHT = """
marks => marks.filter(mark => {
    const box = mark.getBoundingClientRect();
    const plot = mark.closest(".plot").getBoundingClientRect();
    return Math.max(box.width, box.height) > 3 && box.left >= plot.left - 1
        && box.right <= plot.right + 1 && box.top >= plot.top - 1 && box.bottom <= plot.bottom + 1;
}).length
"""
CUT = """
() => [...document.querySelectorAll("main *")].filter(e => e.checkVisibility()
    && !e.closest("svg, caption, .numbers")
    && (e.getBoundingClientRect().right > innerWidth + 1
        || (getComputedStyle(e).overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1)))
    .map(e => e.outerHTML.slice(0, 200))
"""

BROKEN_WORDS = """
() => [...document.querySelectorAll("main :is(h1, h2, h3, h4, h5, thead th)")].flatMap(heading => {
    const texts = document.createTreeWalker(heading, NodeFilter.SHOW_TEXT);
    const broken = [];
    while (texts.nextNode()) {
        for (const word of texts.currentNode.data.matchAll(/[\\p{L}\\d]+/gu)) {
            const range = document.createRange();
            range.setStart(texts.currentNode, word.index);
            range.setEnd(texts.currentNode, word.index + word[0].length);
            const tops = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
            if (tops.size > 1) broken.push(word[0]);
        }
    }
    return broken;
})
"""


def test_every_figure_has_marks_and_a_reading(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    plots = opened.draw_all()
    assert len(plots) >= 8
    for plot in plots:
        boxes = [mark.bounding_box() for mark in plot.locator(MARKS).all()]
        assert any(box and max(box["width"], box["height"]) > 3 for box in boxes)
        assert plot.get_attribute("role") == "img"
        assert len(plot.get_attribute("aria-label") or "") > 20
    sections = opened.page.locator("main section:has(.plot)").count()
    assert sections >= 6


def test_a_large_report_has_every_section_and_every_kind_of_figure(
    large_report: Path, open_page: Open
) -> None:
    opened = open_page(large_report)
    anchors = "sections => sections.map(section => section.id)"
    assert sorted(opened.page.locator("main section:has(.plot)").evaluate_all(anchors)) == [
        "across", "angles", "cost", "differences", "evidence", "examples", "losses", "search", "seeds",
        "similarity", "states", "targets", "teacher",
    ]  # fmt: skip
    assert sorted(opened.page.locator("main section:not(:has(.plot))").evaluate_all(anchors)) == [
        "configuration", "disagreements", "result", "tuning",
    ]  # fmt: skip
    for plot in opened.draw_all():
        assert plot.locator(DATA_MARKS).evaluate_all(IN_SIGHT) > 0, plot.get_attribute("aria-label")

    def counts(caption: str, marks: str) -> list[int]:
        figures = opened.page.locator("figure").filter(
            has=opened.page.locator("figcaption", has_text=caption)
        )
        return [figure.locator(marks).evaluate_all(IN_SIGHT) for figure in figures.all()]

    # Of the critical-difference diagram: its four methods, and a bar at least.
    (points,) = counts("Critical difference", ".point")
    (bars,) = counts("Critical difference", ".js-line")
    assert bars >= 1
    assert points == 4 + 2 * bars
    # Of the forest: a bar of each of three methods, and its mark with those of two tasks.
    assert counts("Mean differences over tasks", ".js-line") == [3]
    assert counts("Mean differences over tasks", ".point") == [3 * (1 + 2)]


def test_the_policy_lets_no_other_script_and_no_request_through(
    report: Path, open_page: Open
) -> None:
    opened = open_page(report)
    refused = opened.page.evaluate(
        """async () => {
            const seen = [];
            addEventListener("securitypolicyviolation", event => seen.push(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            const button = document.createElement("button");
            button.setAttribute("onclick", "window.ran = true");
            document.body.append(button);
            button.click();
            await fetch("https://example.org").catch(() => seen.push("fetch"));
            const image = new Image();
            image.src = "https://example.org/x.png";
            await new Promise(resolve => image.onerror = resolve);
            // Only after a pause: a debugger's own call may use eval.
            await new Promise(resolve => setTimeout(() => {
                try { (0, eval)("window.ran = true"); } catch (error) { seen.push(error.name); }
                resolve();
            }));
            return [window.ran === undefined, seen];
        }"""
    )
    assert refused[0]
    assert {"script-src-elem", "script-src-attr", "EvalError", "connect-src", "img-src"} <= set(
        refused[1]
    )
    assert len(opened.troubles) >= 4
    opened.troubles.clear()
    opened.requests[1:] = []


def test_columns_are_sorted_by_value_and_back(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    table = opened.table("Scores on rte")
    heading = table.locator("th", has_text="score ± sd")
    original = opened.column(table, "score ± sd")
    assert original == ["95.00", "86.67 ± 5.77", "70.00 ± 10.00", "50.00"]
    assert heading.get_attribute("aria-sort") == "none"
    heading.get_by_role("button").focus()
    opened.page.keyboard.press("Enter")
    assert opened.column(table, "score ± sd") == original[::-1]
    assert heading.get_attribute("aria-sort") == "ascending"
    opened.page.keyboard.press("Enter")
    assert opened.column(table, "score ± sd") == original
    assert heading.get_attribute("aria-sort") == "descending"
    opened.page.keyboard.press("Enter")
    assert opened.column(table, "score ± sd") == original
    table.locator("th", has_text="verdict").get_by_role("button").click()
    assert opened.column(table, "verdict") == ["baseline", "○ not decided", "", ""]
    assert heading.get_attribute("aria-sort") == "none"
    table.locator("th", has_text="method").get_by_role("button").click()
    assert [text.strip("●■ ") for text in opened.column(table, "method")] == [
        "alp", "constant prediction", "finetune", "teacher",
    ]  # fmt: skip


def test_a_search_leaves_the_rows_with_all_its_words(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    table = opened.table("Clearest examples")
    shown = table.locator("tbody tr:visible td:last-child")
    assert shown.all_text_contents() == ["7", "8"]
    table.get_by_role("searchbox", name="Search Clearest examples").focus()
    opened.page.keyboard.type(" 8 <b>cat")
    assert shown.all_text_contents() == ["8"]
    assert table.get_by_role("status").inner_text() == "1 of 2 rows"
    table.locator("th", has_text="example").get_by_role("button").click()
    assert shown.all_text_contents() == ["8"]
    rows = list(csv.reader(io.StringIO(opened.text(opened.tool(table, "CSV")))))
    assert [row[2:4] for row in rows[1:]] == [["The cat sat 8 times.", "A <b>CAT</b> sat."]]
    markdown = opened.text(opened.tool(table, "Markdown"))
    assert "sat 8 times" in markdown
    assert "sat 7 times" not in markdown
    table.get_by_role("searchbox").fill("dog")
    assert shown.count() == 0
    table.get_by_role("searchbox").fill("")
    assert len(shown.all()) == 2
    assert table.get_by_role("status").inner_text() == ""
    other = opened.table("Scores on rte")
    assert other.get_by_role("searchbox").count() == 0


def test_a_table_is_copied_as_text_and_as_a_table(report: Path, open_page: Open) -> None:
    opened = open_page(report, permissions=["clipboard-read", "clipboard-write"])
    opened.tool(opened.table("Scores on rte"), "Copy").click()
    opened.page.wait_for_function(
        "() => document.querySelector('.said').textContent.includes('Copied')"
    )
    kinds = opened.page.evaluate(
        """async () => {
            const [item] = await navigator.clipboard.read();
            return Promise.all(["text/plain", "text/html"].map(
                async kind => (await item.getType(kind)).text()));
        }"""
    )
    rows = [line.split("\t") for line in kinds[0].splitlines()]
    assert [row[:2] for row in rows] == [
        ["method", "score ± sd"], ["teacher", "95.00"], ["alp", "86.67 ± 5.77"],
        ["finetune", "70.00 ± 10.00"], ["constant prediction", "50.00"],
    ]  # fmt: skip
    cells = """html => [...new DOMParser().parseFromString(html, "text/html")
        .querySelectorAll("tr")].map(row => [...row.cells].map(cell => cell.textContent))"""
    assert opened.page.evaluate(cells, kinds[1]) == rows


def test_a_table_is_saved_as_csv_with_full_values(
    report: Path, open_page: Open, finished: Scribe
) -> None:
    opened = open_page(report)
    table = opened.table("Scores on rte")
    press = opened.tool(table, "CSV")
    assert opened.saved(press).suggested_filename == (
        "alp-rte-result-scores-on-rte-accuracy-in-points-against-finetune.csv"
    )
    shown = pd.read_csv(io.StringIO(opened.text(press)))
    frame = verdict_table(read_evidence(finished.ledger, "alp-rte"), "rte")
    for heading, name in {
        "score ± sd: mean": "mean", "score ± sd: sd": "sd", "Δ": "difference",
        "interval: low": "low", "interval: high": "high",
    }.items():  # fmt: skip
        expected = frame[name].astype(float).tolist()
        assert shown[heading].tolist() == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert shown["verdict"].tolist()[1] == "not decided"
    assert shown["method"].tolist() == frame["method"].tolist()


def test_a_table_is_saved_as_markdown_and_latex(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    table = opened.table("Scores on rte")
    lines = opened.text(opened.tool(table, "Markdown")).splitlines()
    assert lines[0] == "| method | score ± sd | verdict | Δ | interval |"
    assert lines[1] == "| --- | ---: | --- | ---: | ---: |"
    assert lines[3] == "| **alp** | 86.67 ± 5.77 | **○ not decided** | +16.67 | unbounded |"
    assert lines[-1] == "DEMO DATA: made up, says nothing about GLUE."
    latex = opened.text(opened.tool(table, "LaTeX")).splitlines()
    assert latex[1] == "% DEMO DATA: made up, says nothing about GLUE."
    begin = latex.index("\\begin{tabular}{lrlrr}")
    assert latex[begin + 1] == "\\toprule"
    assert latex[begin + 3] == "\\midrule"
    assert latex[begin + 5] == (
        "\\textbf{alp} & 86.67 $\\pm$ 5.77 & \\textbf{$\\circ$ not decided} & +16.67 & unbounded \\\\"
    )
    assert latex[-2:] == ["\\bottomrule", "\\end{tabular}"]


def test_a_figures_numbers_and_pictures_are_saved(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    figure = opened.page.locator("figure", has_text="Paired scores, one line per seed")
    shown = pd.read_csv(io.StringIO(opened.text(opened.tool(figure, "CSV"))))
    assert shown["method points"].tolist() == [90, 80, 90]
    assert shown["difference"].tolist() == [10, 10, 30]
    picture = opened.saved(opened.tool(figure, "PNG"))
    assert picture.suggested_filename.endswith("-paired-scores-one-line-per-seed.png")
    assert Path(picture.path()).read_bytes().startswith(b"\x89PNG")
    opened.open_appendix()
    figure = opened.page.locator("figure", has_text="Selection score by trial")
    drawing = ET.fromstring(opened.text(opened.tool(figure, "SVG, 6.8 inches")))
    texts = ["".join(text.itertext()) for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"alp", "finetune", "DEMO DATA: made up, says nothing about GLUE."} <= set(texts)


def test_a_figures_numbers_become_a_sorted_table(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    numbers = opened.page.locator("figure", has_text="Paired scores").locator(".numbers")
    numbers.locator("summary").click()
    assert [
        text.strip() for text in numbers.locator("tbody tr").first.locator("td").all_inner_texts()
    ] == ["alp", "finetune", "100", "90", "80", "10"]
    numbers.locator("th", has_text="method points").get_by_role("button").click()
    assert numbers.locator("tbody td:nth-child(4)").all_inner_texts() == ["80", "90", "90"]


def test_regions_of_several_tasks_have_names_of_their_own(
    large_report: Path, open_page: Open
) -> None:
    opened = open_page(large_report)
    opened.open_appendix()
    numbers = opened.page.locator("figure", has_text="Selection score by trial").locator(".numbers")
    assert numbers.count() == 2
    for place in range(2):
        numbers.nth(place).locator("summary").click()
    numbers.locator("table").nth(1).wait_for()
    names = opened.page.locator("[role=region]").evaluate_all("all => all.map(e => e.ariaLabel)")
    assert len(names) == len(set(names))


def test_a_slider_and_a_list_choose_what_a_figure_shows(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    opened.open_appendix()
    weights = opened.page.locator("figure", has_text="alp: mean weights")
    slider = weights.get_by_role("slider", name="epoch")
    weights.scroll_into_view_if_needed()
    shown = "plot => plot.data[0].z"
    image = weights.locator(".heatmaplayer image")
    plot = weights.locator(".plot")
    opened.page.wait_for_function(
        "plot => plot.dataset.drawn === 'done'", arg=plot.element_handle()
    )
    assert plot.evaluate(shown) == [[0.75, 0.25, 0], [0, 0.5, 0.5]]
    last = image.get_attribute("href")
    slider.focus()
    opened.page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "0"
    assert weights.locator("output").inner_text() == "0"
    assert plot.evaluate(shown) == [[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]
    assert image.get_attribute("href") != last
    drawing = ET.fromstring(opened.text(opened.tool(weights, "SVG, 6.8 inches")))
    texts = ["".join(text.itertext()) for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert "epoch: 0" in texts
    slider.focus()
    opened.page.keyboard.press("End")
    assert plot.evaluate(shown) == [[0.75, 0.25, 0], [0, 0.5, 0.5]]
    states = opened.page.locator("#states figure")
    states.scroll_into_view_if_needed()
    plot = states.locator(".plot")
    opened.page.wait_for_function(
        "plot => plot.dataset.drawn === 'done'", arg=plot.element_handle()
    )
    points = plot.locator(".scatterlayer .point")
    assert points.count() == 6 * 4
    states.get_by_role("combobox", name="method").select_option("finetune")
    assert points.count() == 4 * 4  # it is matched to nothing


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_follows_the_system_and_the_button(
    report: Path, open_page: Open, system: str
) -> None:
    opened = open_page(report, color_scheme=system)
    opened.draw_all()
    colours = """() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector(".plot .xtick text")).fill]"""
    light = ["rgb(255, 255, 255)", "rgb(27, 31, 36)"]
    dark = ["rgb(20, 23, 27)", "rgb(230, 233, 237)"]
    first, second = (light, dark) if system == "light" else (dark, light)
    assert opened.page.evaluate(colours) == first
    opened.page.get_by_role("button", name="theme").click()
    assert opened.page.evaluate(colours) == second
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate(colours) == light


def test_a_deep_link_shows_its_section(report: Path, open_page: Open) -> None:
    opened = open_page(report, "#teacher")
    opened.page.wait_for_function(
        "() => document.querySelectorAll('#teacher .main-svg').length > 0"
    )
    box = opened.page.locator("#teacher").bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 200
    for anchor in opened.page.locator("a.anchor, nav a").all():
        assert opened.page.locator(anchor.get_attribute("href") or "").count() == 1


def test_the_keyboard_reaches_content_and_controls(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    opened.page.keyboard.press("Enter")
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.closest('main') !== null")
    unreachable = "e => e.tabIndex < 0 || !e.checkVisibility()"
    closed = ":not(details:not([open]) > :not(summary) *):not(details:not([open]) > :not(summary))"
    controls = opened.page.locator(f":is(button, a, summary){closed}").element_handles()
    assert len(controls) > 30
    hidden = [e.evaluate("e => e.outerHTML") for e in controls if e.evaluate(unreachable)]
    assert hidden == []
    menu = opened.table("Scores on rte").locator(".tools")
    menu.locator("summary").focus()
    opened.page.keyboard.press("Enter")
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Copy"
    opened.page.keyboard.press("Escape")
    assert menu.get_attribute("open") is None


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_overflows_sideways(report: Path, open_page: Open, width: int) -> None:
    opened = open_page(report, width=width)
    opened.draw_all()
    for numbers in opened.page.locator(".numbers summary").all():
        numbers.click()
    inner, outer = opened.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert inner <= outer == width


def test_twenty_rows_of_what_a_search_has_left_are_printed(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    rows = opened.table("Clearest examples").locator("tbody tr")
    rows.first.evaluate(
        "row => { for (let i = 0; i < 40; i += 1) row.before(row.cloneNode(true)); }"
    )
    rows.evaluate_all("rows => rows.slice(0, 10).forEach(row => { row.hidden = true; })")
    assert rows.locator("visible=true").count() == 32
    opened.page.emulate_media(media="print")
    visible = [row.is_visible() for row in rows.all()]
    assert visible == [False] * 10 + [True] * 20 + [False] * 12
    heading = opened.table("Clearest examples").locator("th").first
    assert heading.evaluate("e => getComputedStyle(e).position") == "static"


def test_nothing_is_cut_on_paper(report: Path, open_page: Open) -> None:
    opened = open_page(report, width=PAPER)
    opened.open_appendix()
    assert opened.page.evaluate(CUT) != []  # on a screen, wide tables scroll
    opened.page.emulate_media(media="print")
    opened.page.wait_for_function(
        "() => [...document.querySelectorAll('.plot')].every(plot => plot.dataset.drawn === 'done')"
    )
    assert opened.page.evaluate(CUT) == []
    assert opened.page.evaluate(BROKEN_WORDS) == []
    for drawing in opened.page.locator(".plot .main-svg").all():
        box = drawing.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= PAPER + 1
    tools = opened.page.locator(".tools, #theme")
    assert tools.count() > 15
    assert not [tool for tool in tools.all() if tool.is_visible()]
    assert opened.page.locator(".banner").first.is_visible()


def test_all_figures_are_drawn_before_a_print_begins(report: Path, open_page: Open) -> None:
    opened = open_page(report)
    opened.page.wait_for_function("() => window.Plotly !== undefined")
    opened.open_appendix()
    drawn = "[...document.querySelectorAll('.plot')].map(plot => plot.matches(':has(.main-svg)'))"
    assert not all(opened.page.evaluate(drawn))  # what is far away waits
    # Printing waits for no promise: the drawings must be there when the event's handlers return.
    now = opened.page.evaluate(f"(dispatchEvent(new Event('beforeprint')), {drawn})")
    assert len(now) >= 8
    assert all(now)


def test_hostile_names_and_texts_are_shown_and_run_nothing(
    scribe: Scribe, tmp_path: Path, open_page: Open
) -> None:
    long = "x" * 10_000
    name = HOSTILE
    scribe.manifest["studies"]["rte"] = {name: "s-alp", "finetune": "s-finetune"}
    scribe.manifest["family"] = [["rte", name, "finetune"]]
    scribe.manifest["tasks"]["rte"]["title"] = HOSTILE
    scribe.manifest["banners"] = [HOSTILE]
    scribe.manifest["config"] = {"task_files": {HOSTILE: long}}
    scribe.manifest["methods"] = {name: {"summary": long, "hyper_parameters": {HOSTILE: HOSTILE}}}
    scribe.finished()
    scribe.run("alp", "search", 0, 1, 0.0, status="failed", reason=HOSTILE + long)
    scribe.run("finetune", "search", 1, 1, 0.7, setting={HOSTILE: HOSTILE})
    assert build.main([str(tmp_path)]) == 0
    opened = open_page(tmp_path / "alp-rte" / "report.html", width=PHONE)
    opened.draw_all()
    assert HOSTILE in (opened.page.locator("#result").text_content() or "")
    ticks = opened.page.locator("#seeds .plot text").all_text_contents()
    assert any("<script>alert(1)</script>" in text for text in ticks)
    assert opened.page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    table = opened.table("Scores on rte")
    rows = list(csv.reader(io.StringIO(opened.text(opened.tool(table, "CSV")))))
    assert HOSTILE in [row[0] for row in rows]
    latex = opened.text(opened.tool(table, "LaTeX"))
    assert (
        "onerror=alert(2)\\textgreater{}\\textquotedbl{}'\\&\\$\\_\\%\\#\\{\\}\\textasciitilde{}"
        "\\textasciicircum{}\\textbackslash{}\\textbar{}=😀\u202eאב"
    ) in latex
    numbers = opened.page.locator("#seeds .numbers").first
    numbers.locator("summary").click()
    assert numbers.locator("tbody td").first.text_content() == HOSTILE
    open_page(tmp_path / "index.html", width=PHONE)


def test_hostile_examples_are_shown_as_texts_and_run_nothing(
    scribe: Scribe, tmp_path: Path, open_page: Open
) -> None:
    quotes = (
        """<script>alert("3")</script> "a" 'b' `c` &lt; <!-- 😀👩\u200d👧 \u202eאב שלום مرحبا"""
    )
    sentence = (f"{HOSTILE} " * 200)[:10_000]
    word = "x" * 10_000
    scribe.manifest["tasks"]["rte"]["labels"] = [HOSTILE, "yes"]
    scribe.texts = [("", "")] * 7 + [(HOSTILE, quotes), (sentence, word), ("", "")]
    scribe.finished()
    assert build.main([str(tmp_path)]) == 0
    opened = open_page(tmp_path / "alp-rte" / "report.html", width=PHONE)
    opened.draw_all()
    table = opened.table("Clearest examples")
    rows = table.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    # Two texts share 600 characters.
    cut = [f"{text[:299]}…" for text in (sentence, word)]
    assert [row[2:6] for row in rows] == [
        [HOSTILE, quotes, "yes", "yes (3)"],
        [*cut, HOSTILE, f"{HOSTILE} (2)"],
    ]
    assert opened.page.locator("main :is(script, img)").count() == 0
    assert opened.page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    table.get_by_role("searchbox").fill("""<script>alert("3")</script> 'b'""")
    assert table.locator("tbody tr:visible td:last-child").all_text_contents() == ["7"]
    (_, saved) = csv.reader(io.StringIO(opened.text(opened.tool(table, "CSV"))))
    assert saved[2:4] == [HOSTILE, quotes]
    markdown = opened.text(opened.tool(table, "Markdown"))
    assert "alert" in markdown
    assert "<" not in markdown


def nothing(scribe: Scribe) -> None:
    scribe.begin()


def half(scribe: Scribe) -> None:
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7)
    scribe.run("alp", "report", 0, 100, 0.8, predicted=False)


def one_method_and_seed(scribe: Scribe) -> None:
    scribe.manifest["studies"] = {"rte": {"alp": "s-alp"}}
    scribe.manifest |= {"family": [], "baseline": None, "trials": 1, "report_seeds": [100]}
    half(scribe)


def all_failed(scribe: Scribe) -> None:
    scribe.begin()
    for method in ("alp", "finetune"):
        for trial in (0, 1):
            scribe.run(method, "search", trial, 0, 0.0, status="failed", reason="loss is NaN")


def refused(scribe: Scribe) -> None:
    scribe.manifest |= {"studies": {}, "family": [], "teachers": {}}
    scribe.manifest["refused"] = {"wnli": "the teacher is weak"}
    scribe.begin()


@pytest.mark.parametrize("begin", [nothing, half, one_method_and_seed, all_failed, refused])
def test_unfinished_ablations_open_and_say_what_is_missing(
    begin: Callable[[Scribe], None], scribe: Scribe, tmp_path: Path, open_page: Open
) -> None:
    begin(scribe)
    assert build.main([str(tmp_path)]) == 0
    opened = open_page(tmp_path / "alp-rte" / "report.html", "#gaps")
    opened.draw_all()
    planned = opened.page.locator(".about", has_text="No comparison was planned").count() == 0
    assert (opened.page.locator("#gaps li:visible").count() > 0) == planned


def test_the_index_leads_to_every_report(scribe: Scribe, tmp_path: Path, open_page: Open) -> None:
    scribe.finished()
    scribe.write(name="other & more?")
    assert build.main([str(tmp_path)]) == 0
    opened = open_page(tmp_path / "index.html")
    links = opened.page.locator("main tbody th a")
    assert links.all_inner_texts() == ["alp and finetune on RTE, demo"] * 2
    assert opened.page.locator("tbody small").all_inner_texts()[::2] == ["alp-rte", "other & more?"]
    assert "○ alp not decided" in opened.page.locator("tbody td").nth(1).inner_text()
    links.nth(1).click()
    assert "other & more?" in (opened.page.locator("#configuration").text_content() or "")
    opened.requests[1:] = []
