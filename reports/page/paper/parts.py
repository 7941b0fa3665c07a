"""The texts for a paper, each with its name on the page and its file."""

from __future__ import annotations

from dataclasses import dataclass

from reports.evidence import Evidence
from reports.page import status
from reports.page.paper.latex import comment
from reports.page.paper.protocol import methods_paragraph, references
from reports.page.paper.table import latex_tables


@dataclass(frozen=True)
class PaperPart:
    """A text for a paper; `file` is its file's name beside the report."""

    label: str
    file: str
    text: str


def paper_parts(evidence: Evidence) -> tuple[PaperPart, ...]:
    """The table, the methods paragraph and the references.

    Before all planned runs have ended, and without a task, the first two are a comment that says so.
    """
    state = status.evidence_progress(evidence)
    if not evidence.tasks:
        table = paragraph = comment("No task could be studied.")
    elif state.is_finished:
        table = latex_tables(evidence) or comment("No comparison, so no table.")
        paragraph = methods_paragraph(evidence)
    else:
        table = paragraph = comment(
            f"UNFINISHED: {state.ended} of {state.planned} runs have ended."
        )
    return (
        PaperPart("Table, LaTeX", "paper-table.tex", table),
        PaperPart("Methods paragraph, LaTeX", "paper-methods.tex", paragraph),
        PaperPart("References, BibTeX", "paper.bib", references(evidence)),
    )
