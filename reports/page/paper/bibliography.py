"""The papers of methods, as BibTeX: `methods.bib` has an entry for each paper that a card names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from harness.storage.manifest import MethodCard

_ENTRY = re.compile(r"^@\w+\{([^,]+),\n.*?^\}\n", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"^  title = \{(.*?)[:}]", re.MULTILINE)
_EPRINT = re.compile(r"^  eprint = \{(.*)\}", re.MULTILINE)
NO_PAPER = ("", "-", "control")
"""Texts of cards that name no paper."""


@cache
def entries() -> Mapping[str, str]:
    """The BibTeX of each entry by its key."""
    text = files("reports.page.paper").joinpath("methods.bib").read_text(encoding="utf-8")
    return {match[1]: match[0] for match in _ENTRY.finditer(text)}


@cache
def _names() -> Mapping[str, str]:
    """Each entry's key by the name that cards give: `arXiv NUMBER`, or a title up to its colon."""
    names = {}
    for key, entry in entries().items():
        eprint, title = _EPRINT.search(entry), _TITLE.search(entry)
        assert title is not None, key
        name = re.sub(r"[{}]", "", title[1]) if eprint is None else f"arXiv {eprint[1]}"
        names[name] = key
    return names


def keys_of(card: MethodCard) -> tuple[str, ...]:
    """The keys of the papers that a card names; empty if `methods.bib` has none of them."""
    return tuple(key for name, key in _names().items() if name in card.paper)


def bibtex(keys: Iterable[str]) -> str:
    """The entries with these keys, each once, in order."""
    return "\n".join(entries()[key] for key in dict.fromkeys(keys))
