"""A report's links: index, tables and repeats, where the report lies in its folder."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from reports import build
from reports.report import build_report
from tests.manifests import manifest
from tests.reports.conftest import Scribe


class Links(HTMLParser):
    """The addresses that a page links outside of itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, Any]]) -> None:
        address = dict(attributes).get("href") if tag == "a" else None
        if address and not address.startswith("#"):
            self.found.append(address)


def links(path: Path) -> list[str]:
    return Links(path.read_text(encoding="utf-8")).found


def test_a_report_in_its_folder_links_the_index_and_its_tables(
    scribe: Scribe, tmp_path: Path
) -> None:
    scribe.finished()
    assert build.main([str(tmp_path)]) == 0
    path = tmp_path / "alp-rte" / "report.html"
    assert links(path)[0] == "../index.html"
    assert len(links(path)) == 4
    assert all((path.parent / address).is_file() for address in links(path))


def test_a_joint_report_links_its_repeats(scribe: Scribe, tmp_path: Path) -> None:
    scribe.finished()
    joint = scribe.manifest | {
        "name": "joint",
        "studies": {"rte": {"alp": "", "finetune": ""}},
        "repeats": ["alp-rte", None],
        "report_seeds": [0, 1],
        "replication": "teachers, searches and seeds",
        "config": scribe.manifest["config"] | {"protocol": {"repeats": 2}},
    }
    scribe.ledger.write_ablation(manifest(**joint))
    assert build.main([str(tmp_path)]) == 0
    path = tmp_path / "joint" / "report.html"
    assert links(path)[4:] == ["../alp-rte/report.html"]
    text = path.read_text()
    assert "repeat 1</a>" in text
    assert '<th scope="row" class="n">1</th>' in text
    assert '<section id="disagreements">' not in text
    assert all((path.parent / address).is_file() for address in links(path))


def test_a_report_elsewhere_links_the_tables_beside_it(scribe: Scribe, tmp_path: Path) -> None:
    scribe.finished()
    path = tmp_path / "a b.html"
    build_report(scribe.ledger, "alp-rte", path)
    assert links(path) == ["a%20b-results.csv", "a%20b-comparisons.csv", "a%20b-disagreements.csv"]


def test_each_task_has_a_place_of_its_own(two_tasks: Any, scribe: Scribe, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    build_report(scribe.ledger, "alp-rte", path)
    text = path.read_text(encoding="utf-8")
    for number in (1, 2):
        assert text.count(f'<div id="task-{number}">') == 1
        assert text.count(f'href="#task-{number}"') == 1
    assert (
        "Design: 4-layer students (skip layers of the fine-tuned teacher); trials of each search: 2"
        in text
    )
