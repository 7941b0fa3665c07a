"""The BibTeX of methods' papers, against the cards."""

import re

import pytest

from harness.registry.cards import card
from harness.registry.discovery import registry
from harness.storage.manifest import MethodCard
from reports.page.paper.bibliography import NO_PAPER, bibtex, entries, keys_of

CARDS = [
    card(method)
    for method in registry().methods.values()
    if method.__module__.startswith("methods.")
]


@pytest.mark.parametrize("shown", CARDS, ids=lambda shown: shown.name)
def test_every_paper_of_a_card_has_an_entry(shown: MethodCard) -> None:
    keys = keys_of(shown)
    if shown.paper in NO_PAPER:
        assert keys == ()
        return
    numbers = re.findall(r"\d{4}\.\d{5}", shown.paper)
    assert len(keys) == max(len(numbers), 1)
    for key in keys:
        entry = entries()[key]
        year = int(re.findall(r"year = \{(\d+)\}", entry)[0])
        years = [int(found) for found in re.findall(r"\b20\d\d\b(?!\.)", shown.paper)]
        # A card may name the year of the printed version.
        assert not years or min(abs(year - other) for other in years) <= 1
    authors = re.findall(r"([A-Z]\w+)(?: et al\.|, \w+ 20)", shown.paper)
    firsts = {re.findall(r"author = \{(\w+)", entries()[key])[0] for key in keys}
    assert not authors or firsts == set(authors)


def test_entries_are_whole() -> None:
    assert len(entries()) == 24
    for key, entry in entries().items():
        assert entry.count("{") == entry.count("}"), key
        assert {"title", "author", "year"} <= set(re.findall(r"^  (\w+) = ", entry, re.MULTILINE))


def test_an_entry_stands_once_in_order() -> None:
    text = bibtex(["holm1979simple", "passban2021alp", "holm1979simple"])
    assert re.findall(r"^@\w+\{(.*),", text, re.MULTILINE) == ["holm1979simple", "passban2021alp"]
