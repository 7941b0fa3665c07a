"""Negative numbers of the page's text have a minus sign."""

import re
from html.parser import HTMLParser

from reports.evidence import read_evidence
from reports.page.page import render
from tests.reports.conftest import Scribe

HYPHEN = re.compile(r"(?<![\w-])-\d[\d.]*")
FILES = {"script", "style", "pre"}
"""Elements whose text is a file's or a program's."""


class Texts(HTMLParser):
    """The texts that a reader sees or hears."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._inside = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside += tag in FILES
        self.texts += [text or "" for name, text in attrs if name in ("aria-label", "title")]

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag in FILES

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.texts.append(data)


def test_no_hyphen_stands_for_a_minus(scribe: Scribe) -> None:
    scribe.manifest["studies"]["rte"] = {"alp": "s-finetune", "finetune": "s-alp"}
    scribe.finished()
    page = render(read_evidence(scribe.ledger, "alp-rte"))
    texts = Texts(page).texts
    assert [text for text in texts if HYPHEN.search(text)] == []
    assert any("−16.67 points of accuracy" in text for text in texts)
