"""The LaTeX table of a paper: its rows by hand, and compiled where LaTeX is installed."""

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness.stats import Interval
from reports.evidence import Evidence, read_evidence
from reports.page.paper.latex import escape
from reports.page.paper.parts import paper_parts
from reports.page.paper.table import _digits, latex_tables
from tests.reports.conftest import Scribe

HOSTILE = r"a_b&c%d$e#f{g}h~i^j\k<l>m|n[o]p\"q--r"
LONG_NAMES = ("all-to-one-matching", "random-projection", "forward-matching")
COLUMN = "219pt"
"""The width of a column of the narrowest usual style, 3.03 inches."""

with_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")


def deciding(evidence: Evidence, low: float, high: float) -> Evidence:
    """The evidence with other ends of the first interval that decides."""
    first, *others = evidence.result.comparisons
    shown = replace(first.deciding, interval=Interval(low, high))
    comparisons = (replace(first, deciding=shown), *others)
    return replace(evidence, result=replace(evidence.result, comparisons=comparisons))


def rows(text: str) -> list[str]:
    return [
        line.removesuffix(r"\\").rstrip() for line in text.splitlines() if line.count(" & ") == 3
    ]


def test_rows_have_score_difference_interval_and_mark(evidence: Evidence) -> None:
    table = latex_tables(deciding(evidence, 0.021, math.inf))
    assert rows(table) == [
        r"Method & Score & $\Delta$ [interval] &",
        "teacher & $95.0$ &  &",
        r"alp & $86.7${$\pm$}$5.8$ & $+16.7$ {[}$+2.1$,\,$+\infty${]} & $\circ$",
        r"finetune & $70.0${$\pm$}$10.0$ &  &",
        "constant prediction & $50.0$ &  &",
    ]
    assert r"\emph{Textual entailment (rte), accuracy}" in table


def test_the_caption_has_level_unit_and_number(evidence: Evidence) -> None:
    caption = latex_tables(evidence).partition(r"\caption{")[2]
    assert "DEMO DATA: made up" in caption
    assert r"(level 5\%, one comparison)" in caption
    assert "Unit of replication: paired seeds, n = 3." in caption
    assert "A verdict is about two settings, not about methods." in caption
    assert r"$\approx$ equivalent within 1 point" in caption


@pytest.mark.parametrize(
    ("ends", "digits"),
    [((0.21, 1.49), 1), ((0.04, 2.0), 2), ((-0.98, 0.2), 2), ((-1.0, 0.0), 1)],
)
def test_an_end_is_not_rounded_onto_zero_or_a_margin(
    ends: tuple[float, float], digits: int
) -> None:
    frame = pd.DataFrame([{"low": ends[0], "high": ends[1], "margin": 1.0}])
    assert _digits(frame) == digits


def test_all_tasks_share_a_table_until_it_is_long(
    two_tasks: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert latex_tables(two_tasks).count(r"\begin{table}") == 1
    monkeypatch.setattr("reports.page.paper.table.MOST_ROWS", 7)
    assert latex_tables(two_tasks).count(r"\begin{table}") == 2


def test_names_are_escaped() -> None:
    assert escape("a_b & 5%") == r"a\_b \& 5\%"
    assert escape("--x [1]") == "-{}-x {[}1{]}"
    assert escape("\\~^") == r"\textbackslash{}\textasciitilde{}\textasciicircum{}"


def test_an_unfinished_study_has_no_table(scribe: Scribe) -> None:
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7)
    parts = paper_parts(read_evidence(scribe.ledger, "alp-rte"))
    assert [part.text for part in parts[:2]] == ["% UNFINISHED: 1 of 10 runs have ended.\n"] * 2


def compiled(evidence: Evidence, folder: Path) -> str:
    """LaTeX's log of the table in a paper with the paragraph and the references."""
    for part in paper_parts(evidence):
        (folder / part.file).write_text(part.text, encoding="utf-8")
    (folder / "paper.tex").write_text(
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,amssymb}"
        rf"\setlength{{\textwidth}}{{{COLUMN}}}"
        "\n\\begin{document}\\sloppy\n\\input{paper-table.tex}\n\\input{paper-methods.tex}\n"
        "\\bibliographystyle{plain}\\bibliography{paper}\n\\end{document}\n"
    )
    for command in (["pdflatex", "-interaction=nonstopmode", "-halt-on-error"], ["bibtex"]):
        done = subprocess.run(
            [*command, "paper"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]
    log = (folder / "paper.log").read_text(encoding="latin-1")
    return log.partition("paper-table.tex")[2].partition("paper-methods.tex")[0]


@with_latex
def test_table_and_paragraph_compile_with_any_text(scribe: Scribe, tmp_path: Path) -> None:
    scribe.manifest["studies"]["rte"] = {HOSTILE: "s-alp", "finetune": "s-finetune"}
    scribe.manifest["family"] = [["rte", HOSTILE, "finetune"]]
    scribe.manifest["methods"] = {
        HOSTILE: {"name": HOSTILE, "summary": HOSTILE, "paper": HOSTILE, "hyper_parameters": {}}
    }
    scribe.manifest["tasks"]["rte"]["title"] = HOSTILE
    scribe.manifest["banners"] = [HOSTILE]
    scribe.manifest["refused"] = {"wnli": HOSTILE}
    scribe.finished()
    log = compiled(read_evidence(scribe.ledger, "alp-rte"), tmp_path)
    assert "Overfull" in log  # forty letters that cannot be broken: the log tells


@with_latex
def test_the_widest_rows_fit_into_a_column(scribe: Scribe, tmp_path: Path) -> None:
    scribe.manifest["studies"]["rte"] = dict.fromkeys(LONG_NAMES, "s-alp")
    scribe.manifest["studies"]["rte"]["finetune"] = "s-finetune"
    scribe.manifest["family"] = [["rte", name, "finetune"] for name in LONG_NAMES]
    scribe.manifest["tasks"]["rte"]["title"] = "QNLI (question answering as inference)"
    scribe.finished()
    evidence = read_evidence(scribe.ledger, "alp-rte")
    wide = deciding(evidence, -0.12345, 0.00004)  # two decimals, or an end would be zero
    assert r"$+16.67$ {[}$-12.35$,\,$+0.00${]}" in latex_tables(wide)
    assert "Overfull" not in compiled(wide, tmp_path)
