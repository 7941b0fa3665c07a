import json
import re

import pytest

from harness.errors import StorageError
from reports import build
from reports.kit.files import write_whole
from reports.page import index
from reports.report import build_index, build_report


def entries_of(text):
    return re.findall(r'<a href="([^"]*)">', text.partition("<tbody")[2])


def test_the_index_links_reports_and_names_what_has_none(scribe, tmp_path):
    scribe.finished()
    for name in ("a b & <c>", "made by hand", "without"):
        scribe.write(name=name)
    for name in ("alp-rte", "a b & <c>"):
        build_report(scribe.ledger, name, tmp_path / name / "report.html")
    (tmp_path / "made by hand").mkdir()
    (tmp_path / "made by hand" / "report.html").write_text("<h1>old</h1>")
    path = build_index(scribe.ledger, tmp_path)
    assert path == tmp_path / "index.html"
    text = path.read_text()
    links = entries_of(text)
    assert links == ["alp-rte/report.html", "a%20b%20%26%20%3Cc%3E/report.html"]
    assert "a b &amp; &lt;c&gt;" in text
    assert "<li>made by hand</li>" in text
    assert "<li>without</li>" in text
    assert "○ alp not decided against finetune on rte: +16.67 points" in text
    assert "DEMO DATA: made up" in text
    assert '<a href="alp-rte/report.html">alp and finetune on RTE, demo</a>' in text
    assert not [left for left in tmp_path.iterdir() if left.name.startswith(".index")]


def test_the_summary_in_a_report_survives_hostile_names(scribe, tmp_path):
    name = "</script><script>alert(1)</script>\u2028"
    scribe.manifest |= {"banners": [name], "family": [["rte", name, "finetune"]]}
    scribe.manifest["studies"]["rte"] = {name: "s-alp", "finetune": "s-finetune"}
    scribe.finished()
    build_report(scribe.ledger, "alp-rte", tmp_path / "alp-rte" / "report.html")
    (entry,) = index.entries(tmp_path, ["alp-rte"]).values()
    assert entry.banners == [name]
    assert entry.methods == ["finetune", name]
    assert "<script>alert" not in index.render_index(tmp_path, {"alp-rte": entry}, [])


def test_a_report_that_comes_while_the_index_is_written_is_in_it(scribe, tmp_path, monkeypatch):
    scribe.finished()
    scribe.write(name="late")
    build_report(scribe.ledger, "alp-rte", tmp_path / "alp-rte" / "report.html")
    rendered = []

    def render(runs, found, compared):
        if not rendered:
            build_report(scribe.ledger, "late", tmp_path / "late" / "report.html")
        rendered.append(found)
        return index.render_index(runs, found, compared)

    monkeypatch.setattr("reports.report.render_index", render)
    text = build_index(scribe.ledger, tmp_path).read_text()
    assert entries_of(text) == ["alp-rte/report.html", "late/report.html"]
    assert len(rendered) == 2


def test_pages_of_two_ablations_are_linked_by_what_they_say_of_themselves(scribe, tmp_path):
    scribe.finished()
    for name in ("alp <&>", "b-and-c"):
        scribe.write(name=name)
    assert build.main([str(tmp_path), "--compare", "alp <&>", "b-and-c"]) == 0
    (tmp_path / "a-and-b.html").write_text("<h1>made by hand</h1>")
    (tmp_path / "x-and-y.html").mkdir()
    build_report(scribe.ledger, "alp-rte", tmp_path / "this-and-that.html")
    (page,) = index.comparisons(tmp_path)
    assert page.names == ["alp <&>", "b-and-c"]
    assert page.href == "alp%20%3C%26%3E-and-b-and-c.html"
    text = build_index(scribe.ledger, tmp_path).read_text().partition("side by side")[2]
    assert '<a href="alp%20%3C%26%3E-and-b-and-c.html">alp &lt;&amp;&gt; and b-and-c</a>' in text
    assert "NOT PLANNED: " in text
    assert "DEMO DATA: made up" in text


def test_only_folders_of_the_runs_folder_are_linked(scribe, tmp_path):
    scribe.manifest["name"] = "../escape"
    scribe.begin()
    runs = tmp_path / "runs"
    build_report(scribe.ledger, "../escape", tmp_path / "escape" / "report.html")
    assert entries_of(build_index(scribe.ledger, runs).read_text()) == []


def test_an_index_that_cannot_be_written_is_an_error(scribe, tmp_path):
    scribe.begin()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        build_index(scribe.ledger, tmp_path / "file")


def test_one_report_written_elsewhere_makes_no_index(scribe, tmp_path):
    scribe.finished()
    assert build.main([str(tmp_path), "--out", str(tmp_path / "x" / "one.html")]) == 0
    assert not (tmp_path / "index.html").exists()
    found = (tmp_path / "x" / "one.html").read_text()
    assert json.loads(found.partition('id="summary">')[2].partition("</script>")[0])["failed"] == 0


@pytest.mark.parametrize(("position", "is_found"), [(0, True), (300_000, True), (2**20, False)])
def test_a_summary_is_found_within_the_first_bytes_of_a_page(tmp_path, position, is_found):
    page = tmp_path / "a-and-b.html"
    summary = json.dumps({"names": ["a", "b"], "banners": ["x" * 100_000]})
    script = f'<script type="application/json" id="summary">{summary}</script>'
    page.write_text("." * position + script)
    pages = index.comparisons(tmp_path)
    assert [found.names for found in pages] == ([["a", "b"]] if is_found else [])


def test_a_page_that_is_written_again_has_another_state(tmp_path):
    report = tmp_path / "one" / "report.html"
    write_whole(report, "first")
    write_whole(tmp_path / "a-and-b.html", "pair")
    states = index.page_states(tmp_path, ["one", "none"])
    assert index.page_states(tmp_path, ["one", "none"]) == states
    assert states[1] is None
    write_whole(report, "later")
    later = index.page_states(tmp_path, ["one", "none"])
    assert [a == b for a, b in zip(states, later, strict=True)] == [False, True, True]


def test_new_reports_come_first_and_parts_after_their_joint_report() -> None:
    def entry(name: str, last: float | None, *parts: str) -> index.Entry:
        return index.Entry(
            "", name, name, last, "", list(parts), "demo", [], [], {}, [], [], 0, 0, []
        )  # fmt: skip

    entries = [
        entry("r0", 5.0), entry("old", 1.0), entry("joint", 6.0, "r0", "r1", "gone"),
        entry("r1", 6.0), entry("none", None), entry("new", 9.0),
    ]  # fmt: skip
    names = [found.name for found in index.in_order(entries)]
    assert names == ["new", "joint", "r0", "r1", "old", "none"]


def test_a_page_of_another_version_is_named_and_not_linked(scribe, tmp_path):
    scribe.finished()
    path = tmp_path / "alp-rte" / "report.html"
    build_report(scribe.ledger, "alp-rte", path)
    path.write_text(path.read_text().replace('"warnings"', '"other"', 1))
    assert index.entries(tmp_path, ["alp-rte"]) == {"alp-rte": None}
