import base64
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.offline
import pytest

from harness.errors import StorageError
from harness.runtime.output import LEFT_OUT
from harness.storage.database import host
from reports import build
from reports.page.document import pack
from reports.report import build_report
from tests.requirements import missing_with

HOSTILE = """</script><script>alert(1)</script>"'&😀\u2028<!--"""
OUTSIDE = re.compile(
    r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//|@import|\burl\(""", re.I
)
FILES = {
    "report.html", "results.csv", "comparisons.csv", "disagreements.csv", "paper-table.tex",
    "paper-methods.tex", "paper.bib",
}  # fmt: skip
BLOCKED = """
import runpy, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(name + " is blocked")

blocked = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Blocker())
sys.argv = ["reports.build", *sys.argv[2:]]
runpy.run_module("reports.build", run_name="__main__")
"""


class Outline(HTMLParser):
    """Collects the ids, links, headings, scripts, policy and figure labels of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.labels, self.headings = [], [], [], []
        self.scripts: list[str] = []
        self.data, self.runs, self.policy = 0, False, ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if tag == "a" else []
        self.runs = tag == "script" and "type" not in values
        self.scripts += [""] if self.runs else []
        self.data += tag == "script" and not self.runs
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""
        self.labels += [values["aria-label"]] if values.get("role") == "img" else []
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data: str) -> None:
        if self.runs:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.runs = False


def page(scribe: Any, tmp_path: Path) -> str:
    path = tmp_path / "out" / "report.html"
    build_report(scribe.ledger, scribe.manifest["name"], path)
    assert {found.name for found in path.parent.iterdir()} == FILES
    return path.read_text()


def own(text: str) -> str:
    """The page without Plotly's script."""
    return text.replace(pack(plotly.offline.get_plotlyjs()), "")


def unpacked(text: str, name: str) -> str:
    """The packed values of a page."""
    (found,) = re.findall(rf'id="packed-{name}">([^<]+)<', text)
    return gzip.decompress(base64.b64decode(found)).decode()


def test_a_finished_page_says_the_verdicts_and_the_banner(scribe, tmp_path):
    scribe.finished()
    text = page(scribe, tmp_path)
    result = build_report(scribe.ledger, "alp-rte", tmp_path / "again.html")
    assert result.comparisons
    for comparison in result.comparisons:
        assert escape(comparison.verdict.sentence) in text
    assert "DEMO DATA: made up" in text
    assert "energy of layer 1 varies" in text
    assert "python -m harness.study --method alp --task rte" in text
    assert "Missing and failed" not in text


def test_the_page_is_self_contained_and_well_formed(scribe, tmp_path):
    scribe.finished()
    text = page(scribe, tmp_path)
    assert unpacked(text, "library") == plotly.offline.get_plotlyjs()
    assert text.count("plotly.js v") == 0
    assert OUTSIDE.search(own(text)) is None
    assert "default-src 'none'" in text
    outline = Outline(text)
    assert len(outline.ids) == len(set(outline.ids))
    places = {link.removeprefix("#") for link in outline.links if link.startswith("#")}
    assert places <= set(outline.ids)
    files = {link for link in outline.links if not link.startswith("#")}
    assert files == {"results.csv", "comparisons.csv", "disagreements.csv"}
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    steps = zip(outline.headings, outline.headings[1:], strict=False)
    assert all(after - before <= 1 for before, after in steps)
    assert all(outline.labels)
    scripts = [*outline.scripts, plotly.offline.get_plotlyjs()]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()) for s in scripts]
    allowed = re.findall(r"'sha256-([^']+)'", outline.policy)
    assert allowed == [found.decode() for found in hashes]
    assert len(allowed) == 6
    assert outline.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in outline.policy.partition("style-src")[0]
    assert "unsafe-eval" not in outline.policy
    assert outline.data == 3
    figures = unpacked(text, "data")
    assert OUTSIDE.search(figures) is None
    assert len(figures.split("\n")) == len(outline.labels)
    panels = [json.loads(line) for line in figures.split("\n")]
    assert all(go.Figure(panel["figure"]).data for panel in panels)
    assert all(len(panel["numbers"].splitlines()) > 1 for panel in panels)


def test_hostile_names_are_escaped(scribe, tmp_path):
    scribe.manifest["tasks"]["rte"]["title"] = HOSTILE
    scribe.manifest["banners"] = [HOSTILE]
    scribe.manifest["refused"] = {HOSTILE: HOSTILE}
    scribe.manifest["command"] = HOSTILE
    scribe.manifest["config"] = {"task_files": {HOSTILE: HOSTILE}}
    scribe.finished()
    scribe.run("alp", "search", 0, 1, 0.0, status="failed", reason=HOSTILE)
    scribe.run("finetune", "search", 1, 1, 0.7, setting={HOSTILE: HOSTILE})
    text = own(page(scribe, tmp_path))
    assert "<script>alert" not in text
    assert "\u2028<" not in text
    assert text.lower().count("<script") == text.lower().count("</script") > 2
    assert escape(HOSTILE, quote=False).partition('"')[0] in text
    assert "😀" in text


def test_hostile_method_names_reach_figures_as_text(scribe, tmp_path):
    name = "<img src=x onerror=alert(1)></script>"
    scribe.manifest["studies"]["rte"] = {name: "s-alp", "finetune": "s-finetune"}
    scribe.manifest["family"] = [["rte", name, "finetune"]]
    scribe.finished()
    text = own(page(scribe, tmp_path))
    assert "<img" not in text
    figures = [json.loads(line)["figure"] for line in unpacked(text, "data").split("\n")]
    assert "&lt;img src=x" in json.dumps(figures)
    assert "<img" not in json.dumps(figures)


def test_an_empty_ledger_says_so(scribe, tmp_path):
    scribe.begin()
    text = page(scribe, tmp_path)
    assert "No run has finished yet." in text
    assert "alp against finetune on rte: no pair of finished report runs" in text
    assert "0 of 2 search trials are finished" in text
    assert [label.split(".")[0] for label in Outline(text).labels] == [
        "Share of energy that varies between examples"
    ]


def test_a_half_finished_ledger_names_the_missing_seeds(scribe, tmp_path):
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7)
    scribe.run("alp", "report", 0, 100, 0.8, predicted=False)
    text = page(scribe, tmp_path)
    assert "alp on rte: 1 of 2 search trials are finished." in text
    assert "2 of 3 report seeds have no finished run (seeds 101, 102)" in text
    assert "Scores, one point per seed" in text


def test_one_method_and_one_seed_need_no_comparison(scribe, tmp_path):
    scribe.manifest["studies"] = {"rte": {"alp": "s-alp"}}
    scribe.manifest |= {"family": [], "baseline": None, "trials": 1, "report_seeds": [100]}
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7)
    scribe.run("alp", "report", 0, 100, 0.8)
    text = page(scribe, tmp_path)
    assert "No comparison was planned: there is no baseline." in text
    assert "80.00</td>" in text
    assert "highest</td>" not in text


def test_comparisons_without_predictions_or_partners_are_told(scribe, tmp_path):
    scribe.begin()
    for method in ("alp", "finetune"):
        for trial in (0, 1):
            scribe.run(method, "search", trial, 0, 0.7)
        for seed in (100, 101, 102):
            status = "failed" if (method, seed) == ("alp", 101) else "complete"
            scribe.run(method, "report", 0, seed, 0.8, predicted=False, status=status)
    text = page(scribe, tmp_path)
    assert "seeds without a partner are left out: 101." in text
    assert "no predictions stored" in unpacked(text, "data")
    assert "unbounded" in text


def test_a_method_without_a_pair_is_named(scribe, tmp_path):
    scribe.manifest["studies"]["rte"]["kd"] = "s-kd"
    scribe.finished()
    scribe.run("kd", "search", 0, 0, 0.7)
    scribe.run("kd", "report", 0, 100, 0.8)
    assert "Not drawn, because no comparison has them: kd." in page(scribe, tmp_path)


def test_failed_runs_are_listed_with_their_reasons(scribe, tmp_path):
    scribe.begin()
    for method in ("alp", "finetune"):
        for trial in (0, 1):
            scribe.run(method, "search", trial, 0, 0.0, status="failed", reason="loss is NaN")
    text = page(scribe, tmp_path)
    assert "alp on rte, search run, trial 1, seed 0: loss is NaN" in text
    assert "alp on rte: none of the search trials is complete" in text


def test_tasks_that_were_refused_leave_a_page(scribe, tmp_path):
    scribe.manifest |= {"studies": {}, "family": [], "teachers": {}}
    scribe.manifest["refused"] = {"wnli": "the teacher is weak"}
    scribe.begin()
    assert "Refused: wnli: the teacher is weak" in page(scribe, tmp_path)


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(scribe, tmp_path):
    scribe.begin()
    code = "import os; print(os.getpid())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    out = tmp_path / "out"
    build_report(scribe.ledger, scribe.manifest["name"], out / "report.html")
    kind = f".report.html-{hashlib.sha256(host().encode()).hexdigest()[:8]}-"
    for pid in (done.stdout.strip(), os.getppid()):
        (out / f"{kind}{pid}").write_text("half")
    build_report(scribe.ledger, scribe.manifest["name"], out / "report.html")
    found = {path.name for path in out.iterdir()}
    assert found == {*FILES, f"{kind}{os.getppid()}"}


def test_mixed_code_revisions_are_told(scribe, tmp_path):
    scribe.begin()
    scribe.run("alp", "search", 0, 0, 0.7, revision="one")
    scribe.run("alp", "search", 1, 0, 0.7, revision="two")
    assert "more than one code revision: one; two." in page(scribe, tmp_path)


def test_an_unwritable_place_is_an_error(scribe, tmp_path):
    scribe.begin()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        build_report(scribe.ledger, "alp-rte", tmp_path / "file" / "report.html")


def test_the_command_runs_where_only_its_own_requirements_are(scribe, tmp_path):
    scribe.finished()
    blocked = ",".join(missing_with("requirements-report.txt"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED, blocked, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(build.__file__).parents[1],
    )
    assert done.stderr == ""
    assert done.returncode == 0
    path = tmp_path / "alp-rte" / "report.html"
    assert done.stdout.split() == [str(path), str(tmp_path / "index.html")]
    assert path.is_file()


def test_the_command_writes_one_chosen_report(scribe, tmp_path, capsys):
    scribe.finished()
    scribe.write(name="other")
    out = tmp_path / "one.html"
    assert build.main([str(tmp_path), "--out", str(out), "--ablation", "other"]) == 0
    assert capsys.readouterr().out.split() == [str(out)]
    assert build.main([str(tmp_path), "--out", str(out)]) == 2
    assert "has 2 ablations (alp-rte, other); choose one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{0}/none"], "no such folder"),
        (["{0}/empty"], "has no ledger.db"),
        (["{0}/damaged"], "not a database"),
        (["{0}", "--out", "{0}/one.html"], "has no ablation yet"),
        (["{0}", "--ablation", "one"], "not in the ledger, which has none yet"),
        (["{0}", "--storage", "nonsense"], "not a database URL"),
        (["{0}", "--storage", "sqlite:///{0}/empty/other.db"], "no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, ledger, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "ledger.db").write_text("not a database at all " * 100)
    given = [argument.format(tmp_path) for argument in arguments]
    assert build.main(given) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not list((tmp_path / "empty").iterdir())


def test_a_ledger_without_ablations_has_a_page_that_says_so(ledger, tmp_path, capsys):
    assert build.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'index.html'}\n"
    assert "No report yet." in (tmp_path / "index.html").read_text()


def test_prunings_are_told_with_their_reasons(scribe, tmp_path):
    scribe.begin()
    for trial, reason in (
        (0, None),
        (1, "after epoch 1"),
        (2, "after epoch 2"),
        (3, "after epoch 1"),
    ):
        status = "complete" if reason is None else "pruned"
        scribe.run("alp", "search", trial, 0, 0.5, status=status, reason=reason)
    scribe.manifest["trials"] = 4
    scribe.begin()
    text = page(scribe, tmp_path)
    reasons = "after epoch 1: trials 1, 3; after epoch 2: trial 2"
    assert f"alp on rte: 3 of 4 search trials were pruned ({reasons})." in text


def test_the_page_says_what_students_start_from_and_the_hashes_of_the_data(scribe, tmp_path):
    scribe.manifest["students"] = "3-layer students (skip layers of the fine-tuned teacher)"
    scribe.manifest["tasks"]["rte"]["sha256"] = {"train": "f00d" * 16}
    scribe.finished()
    text = page(scribe, tmp_path)
    assert "3-layer students (skip layers of the fine-tuned teacher)" in text
    assert "f00d" * 16 in text


def test_an_unknown_ablation_is_named(scribe, tmp_path, capsys):
    scribe.begin()
    assert build.main([str(tmp_path), "--ablation", "nope"]) == 2
    assert "--ablation nope: not in the ledger, which has alp-rte" in capsys.readouterr().err


def test_a_damaged_manifest_leaves_the_other_reports(scribe, tmp_path, capsys):
    scribe.begin()
    scribe.write(name="other")
    for damage in ("x", "{}"):
        with scribe.ledger.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE harness_ablations SET manifest = ? WHERE name = 'other'", (damage,)
            )
        assert build.main([str(tmp_path)]) == LEFT_OUT
        out, err = capsys.readouterr()
        assert out.split() == [
            str(tmp_path / scribe.manifest["name"] / "report.html"),
            str(tmp_path / "index.html"),
        ]
        assert re.search("left out: other .*the manifest of the ablation 'other'", err)
        assert build.main([str(tmp_path), "--ablation", "other"]) == 2


def test_an_ablation_cannot_leave_the_runs_folder(scribe, tmp_path, capsys):
    scribe.manifest["name"] = "../escape"
    scribe.begin()
    assert build.main([str(tmp_path)]) == 2
    assert "cannot name a folder" in capsys.readouterr().err
    assert not (tmp_path.parent / "escape").exists()
