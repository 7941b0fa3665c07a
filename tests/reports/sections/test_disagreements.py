"""Where methods disagree: the ledger made by hand, `disagreements.csv`, and what the page shows."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analysis.disagreements import Disagreements, Side
from harness.storage.ledger import Ledger
from reports import build
from reports.evidence import Evidence, read_evidence
from reports.export.disagreements import COLUMNS, disagreements_csv
from reports.kit.blocks import Block
from reports.kit.display import Table
from reports.kit.palette import method_styles
from reports.report import build_report
from reports.sections.disagreements import (
    CHARACTERS,
    LEAST_TEXT,
    MOST_EXAMPLES,
    MOST_TEXT,
    ROWS,
    disagreements_block,
    list_limits,
    shorten,
)
from tests.reports.conftest import Scribe, section_blocks

HOSTILE = (
    "</script><script>alert(1)</script>",
    "=1+1, \"a\" 'b' \r\n | 😀",
    "\u202eאב\ra carriage return alone\N{ZERO WIDTH JOINER}",
    "x" * 10_000,
)


def told(scribe: Any, rows: list[tuple[str, ...]] | None = None) -> Evidence:
    """The disagreements of the finished ledger, with those texts."""
    scribe.texts = rows or scribe.texts
    scribe.finished()
    return read_evidence(scribe.ledger, scribe.manifest["name"])


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('told') / 'ledger.db'}")
    yield told(Scribe(ledger))
    ledger.close()


def block(evidence: Evidence) -> tuple[Block, ...]:
    found = disagreements_block(evidence, "rte", method_styles(evidence.methods))
    return () if found.is_empty else (found,)


def cells(table: Table) -> list[dict[str, str]]:
    names = [cell.text for cell in table.headings]
    return [dict(zip(names, [cell.text for cell in row], strict=True)) for row in table.rows]


def read(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), keep_default_na=False)


def made(advantages: list[float], method: str = "alp", *, scored: bool = False) -> Disagreements:
    """Three seeds that all agree, on one example for each advantage, which is 1 or -1 for classes."""
    count = len(advantages)
    lead = np.array(advantages)
    ours, theirs = np.maximum(-lead, 0), np.maximum(lead, 0)
    votes = None if scored else np.full(count, 3)
    return Disagreements(
        task="rte",
        method=method,
        baseline="finetune",
        seeds=(1, 2, 3),
        examples=1000,
        is_regression=scored,
        ids=np.arange(count),
        labels=np.ones(count),
        advantage=lead,
        method_side=Side(1 - ours, votes, ours, 3 * (lead > 0)),
        baseline_side=Side(1 - theirs, votes, theirs, 3 * (lead < 0)),
    )


def test_the_numbers_worked_out_by_hand(evidence):
    """Runs are right on the first 9, 8 and 9 examples, those of the baseline on the first 8, 7 and 6.

    So with example 7 alp is right in all and the baseline in one; with 8 alp in two, the baseline in
    none; with 6 in three and two.
    """
    frame = read(disagreements_csv(evidence))
    assert tuple(frame.columns) == COLUMNS
    pair = ["alp-rte", "demo", "rte", "alp", "finetune"]
    assert frame.drop(columns=["method_error", "baseline_error"]).to_numpy().tolist() == [
        [*pair, 7, 3, 2, 0, "yes", "yes", 3, "no", 2, "premise 7", "guess 7"],
        [*pair, 8, 3, 2, 0, "no", "no", 2, "yes", 3, "premise 8", "guess 8"],
        [*pair, 6, 3, 1, 0, "no", "no", 3, "no", 2, "premise 6", "guess 6"],
    ]
    assert list(frame["method_error"]) == pytest.approx([0, 1 / 3, 0])
    assert list(frame["baseline_error"]) == pytest.approx([2 / 3, 1, 1 / 3])


def test_the_page_shows_what_most_seeds_agree_on(evidence):
    (found,) = section_blocks(evidence, "disagreements")
    counts, listed = found.tables
    assert cells(counts) == [
        {
            "method": "alp",
            "against": "finetune",
            "examples": "10",
            "method alone right in most seeds": "2",
            "other method alone right in most seeds": "0",
            "neither in most seeds": "1",
        }
    ]
    assert (counts.searchable, listed.searchable) == (False, True)
    assert [row["example"] for row in cells(listed)] == ["7", "8"]
    assert cells(listed)[0] == {
        "method": "alp",
        "against": "finetune",
        "text 1": "premise 7",
        "text 2": "guess 7",
        "label": "yes",
        "method's answer": "yes (3)",
        "other method's answer": "no (2)",
        "seeds with method alone right": "2",
        "seeds with other method alone right": "0",
        "seeds": "3",
        "example": "7",
    }
    assert found.notes == ("The list has at most 40 examples for each side of each comparison.",)


def test_scores_are_compared_by_their_errors(evidence):
    changed = replace(evidence, disagreements=(made([0.25, -2.0], scored=True),))
    (found,) = block(changed)
    listed = cells(found.tables[1])
    assert [row["method's answer"] for row in listed] == ["1.00", "−1.00"]
    assert [row["method's error"] for row in listed] == ["0.00", "2.00"]
    assert [row["other method's error"] for row in listed] == ["0.25", "0.00"]
    assert [row["seeds with method closer"] for row in listed] == ["3", "0"]
    frame = read(disagreements_csv(changed))
    assert frame["baseline_answer"].tolist() == [0.75, 1.0]
    assert frame["method_votes"].tolist() == ["", ""]


def test_a_task_of_scores_leaves_the_counts_of_others_whole(evidence):
    changed = replace(evidence, disagreements=(made([1.0], scored=True), made([1.0])))
    frame = read(disagreements_csv(changed))
    assert frame["method_votes"].tolist() == ["", "3"]
    assert frame["label"].tolist() == ["1", "yes"]


def test_a_single_sentence_has_one_column(scribe):
    (found,) = block(told(scribe, [(f"sentence {id}",) for id in range(10)]))
    (first, _) = cells(found.tables[1])
    assert first["text 1"] == "sentence 7"
    assert "text 2" not in first


def test_half_a_pair_of_surrogates_is_a_question_mark(evidence):
    halves = {id: (f"half \ud83d {id}", "guess") for id in evidence.texts["rte"]}
    frame = read(disagreements_csv(replace(evidence, texts={"rte": halves})))
    assert frame["text_1"].tolist() == ["half ? 7", "half ? 8", "half ? 6"]


def test_missing_predictions_are_told(scribe):
    scribe.begin()
    for method in ("alp", "finetune"):
        for trial in (0, 1):
            scribe.run(method, "search", trial, 0, 0.7 - trial / 10)
        scribe.run(method, "report", 0, 100, 0.8, predicted=method == "alp")
    evidence = read_evidence(scribe.ledger, scribe.manifest["name"])
    (found,) = block(evidence)
    assert found.notes == ("finetune: not all runs have stored predictions.",)
    assert not found.tables
    assert read(disagreements_csv(evidence)).to_dict("list") == {name: [] for name in COLUMNS}


def test_an_unfinished_study_has_no_block(scribe):
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7)
    evidence = read_evidence(scribe.ledger, scribe.manifest["name"])
    assert block(evidence) == ()
    assert read(disagreements_csv(evidence)).to_dict("list") == {name: [] for name in COLUMNS}


def test_models_that_agree_have_counts_alone(evidence):
    (found,) = block(replace(evidence, disagreements=(made([]),)))
    (counts,) = found.tables
    assert cells(counts)[0]["neither in most seeds"] == "0"


def test_hostile_texts_are_whole_in_the_file_and_texts_on_the_page(scribe, tmp_path: Path):
    rows = [("", "")] * 7 + [HOSTILE[:2], HOSTILE[2:], ("", "")]
    told(scribe, rows)
    assert build.main([str(tmp_path)]) == 0
    path = tmp_path / "alp-rte" / "disagreements.csv"
    frame = pd.read_csv(path, keep_default_na=False)
    assert frame["text_1"].tolist() == [HOSTILE[0], HOSTILE[2], ""]
    assert frame["text_2"].tolist() == [HOSTILE[1], HOSTILE[3], ""]
    page = (tmp_path / "alp-rte" / "report.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "x" * (MOST_TEXT + 1) not in page


@pytest.mark.parametrize(
    ("comparisons", "expected"), [(1, (40, 600)), (2, (40, 600)), (21, (16, 150)), (168, (2, 150))]
)
def test_many_comparisons_show_fewer_rows_and_shorter_texts(comparisons, expected):
    assert list_limits(comparisons) == expected
    for most, characters in [list_limits(count) for count in range(1, 400)]:
        assert 1 <= most <= MOST_EXAMPLES
        assert LEAST_TEXT <= characters <= MOST_TEXT


def test_the_rows_of_many_comparisons_stay_within_their_share(scribe):
    long = [("x" * 5000, "y" * 5000)] * 100
    evidence = told(scribe, long)
    pairs = tuple(made([1.0] * 50 + [-1.0] * 50, f"m{place}") for place in range(168))
    (found,) = block(replace(evidence, disagreements=pairs))
    rows = cells(found.tables[1])
    assert len(rows) == 168 * 4 <= ROWS
    assert [row["method"] for row in rows[:5]] == ["m0"] * 4 + ["m1"]
    assert [row["seeds with method alone right"] for row in rows[:4]] == ["3", "3", "0", "0"]
    assert sum(len(row["text 1"] + row["text 2"]) for row in rows) <= 1.05 * CHARACTERS


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("abcdefgh", "abcdefgh"), ("abcd…", "abcd…")),
        (("abc", "abcdefgh"), ("abc", "abcdef…")),
        (("abcdefghij", ""), ("abcdefghij", "")),
        (("abcdefghijk",), ("abcdefghi…",)),
        (("abcde", "abcde"), ("abcde", "abcde")),
        ((), ()),
    ],
)
def test_texts_share_ten_characters(given, expected):
    assert shorten(given, 10) == expected


def test_methods_have_their_colours(evidence):
    (found,) = block(evidence)
    assert found.tables[1].rows[0][0].style == method_styles(evidence.methods)["alp"]


def test_the_file_lies_beside_the_report(scribe, tmp_path: Path):
    expected = disagreements_csv(told(scribe))
    build_report(scribe.ledger, "alp-rte", tmp_path / "shown.html")
    assert (tmp_path / "shown-disagreements.csv").read_bytes() == expected


def test_every_column_is_documented():
    document = Path(__file__).parents[3] / "docs" / "files.md"
    section = document.read_text().split("## disagreements.csv")[1].split("\n## ")[0]
    for name in (*COLUMNS, "text_1", "text_2"):
        assert f"`{name}`" in section, name
