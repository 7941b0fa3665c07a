"""Running and reading from Python gives what the command gives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.analysis.results import score_of
from harness.api.running import _words
from harness.compose import compose_config
from harness.errors import ConfigError, StorageError, UserError
from harness.storage.ledger import Ledger
from harness.storage.record import LABEL_LOSS
from harness.study import main
from tests.conftest import small_pools, text_without_links
from tests.reports.conftest import METHOD_SCORES, Scribe

ROOT = Path(__file__).parents[3]
FEW = {
    "teacher.epochs": 1,
    "training": {"epochs": 1, "batch_size": 64},
    "student.layers": 2,
    "threads": 1,
    "protocol.budget": 2,
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> harness.Ablation:
    return harness.run(
        ["alp"],
        "rte",
        preset="demo",
        out=tmp_path_factory.mktemp("door") / "runs",
        trials=4,
        keep="report",
        allow_weak_teacher=True,
        overrides={**FEW, "teacher.pretrained": tiny_encoder},
    )


@pytest.fixture
def answer(
    ran: harness.Ablation, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """The command's own answer on the same runs."""
    assert main(small_pools(ran.folder, tiny_encoder, "--keep", "report")) == 0
    printed = capsys.readouterr()
    assert "students to keep" not in printed.err
    return dict(json.loads(printed.out))


def test_a_run_is_the_commands(ran: harness.Ablation, answer: dict[str, Any]) -> None:
    assert ran.name == answer["ablation"]
    with harness.open(ran.folder) as runs:
        assert [found.name for found in runs.ablations()] == [ran.name]
        assert len(runs.ablation(ran.name).trials()) == 8  # the command has trained nothing more
    assert ran.manifest.command.startswith("python -m harness.study --method=alp --task=rte --out=")
    assert "training.batch_size=64" in ran.manifest.command


def test_scores_and_their_weights_give_the_methods_scores(
    ran: harness.Ablation, answer: dict[str, Any]
) -> None:
    scores = ran.scores()
    for row in answer["results"]:
        own = scores[scores["method"] == row["method"]]
        assert own["score"].tolist() == row["scores"]
        assert own["number"].tolist() == row["seeds"]
        assert set(own["unit"]) == {"trial"}
        assert (own["score"] * own["weight"]).sum() == pytest.approx(row["mean"], abs=1e-12)
        assert own["weight"].nunique() > 1
    assert scores.set_index("method").loc["kd", "is_baseline"].all()


def test_verdicts_are_the_commands(ran: harness.Ablation, answer: dict[str, Any]) -> None:
    (expected,) = answer["comparisons"]
    (row,) = ran.verdicts().to_dict("records")
    names = {
        "p": "adjusted_p",
        **{name: name for name in ("difference", "margin", "equivalence_p")},
    }
    for name, key in names.items():
        assert row[name] == expected[key]
    for name in ("task", "method", "baseline", "verdict", "sentence", "pairs"):
        assert row[name] == expected[name]
    ends = [end if np.isfinite(end) else None for end in (row["low"], row["high"])]
    assert ends == expected["deciding_interval"]


def test_trials_curves_and_predictions_are_those_of_the_records(ran: harness.Ablation) -> None:
    trials, curves, predictions = ran.trials(), ran.curves(), ran.predictions("rte")
    assert len(trials) == 8
    for result in ran.result.results:
        for run in result.report:
            record = run.record
            chosen = (trials["method"] == result.method) & (trials["trial"] == run.trial)
            (trial,) = trials[chosen].to_dict("records")
            assert trial["score"] == record.selection["accuracy"]
            assert trial["label_loss"] == record.selection[LABEL_LOSS]
            assert trial["setting.temperature"] == record.inputs.setting["temperature"]
            key = (curves["method"] == result.method) & (curves["seed"] == run.seed)
            assert curves[key].set_index("term")["loss"].to_dict() == dict(record.curves[0])
            key = (predictions["method"] == result.method) & (predictions["seed"] == run.seed)
            own = predictions[key]
            right = float((own["prediction"] == own["label"]).mean())
            assert right == pytest.approx(score_of(record, "accuracy"))
            logits = own[["logit.0", "logit.1"]].to_numpy()
            assert (logits.argmax(axis=1) == own["prediction"]).all()
    assert set(curves["epoch"]) == {1}


def test_a_kept_student_answers_as_its_record(ran: harness.Ablation) -> None:
    students = ran.students()
    assert len(students) == 8
    student = students.iloc[-1]
    model, tokenizer = harness.load_student(student.folder)
    predictions = ran.predictions("rte")
    own = predictions[
        (predictions["method"] == student.method) & (predictions["seed"] == student.seed)
    ]
    texts = ran.texts("rte")
    row = own.iloc[0]
    inputs = tokenizer(*texts[row.example], return_tensors="pt")
    logits = model(**inputs).logits[0].tolist()
    assert logits == pytest.approx([row["logit.0"], row["logit.1"]], abs=0.05)
    assert not model.training


def test_a_report_is_written_where_it_is_asked_for(ran: harness.Ablation, tmp_path: Path) -> None:
    page, own = ran.report(tmp_path / "page.html"), ran.report()
    assert own == ran.folder / ran.name / "report.html"
    assert text_without_links(page) == text_without_links(own)
    for one in (page, own):
        targets = re.findall('<a href="([^"#]*)">', one.read_text())
        assert len(targets) >= 3
        assert all((one.parent / target).exists() for target in targets)


def test_a_notebook_shows_the_verdict_table(ran: harness.Ablation) -> None:
    page = ran._repr_html_()
    cells = re.findall("<td>(.*?)</td>", page)
    rows = [cells[start : start + 7] for start in range(0, len(cells), 7)]
    means = {row.method: 100 * row.mean for row in ran.result.results}
    for row, method, outcome in zip(rows, ("alp", "kd"), ("not decided", "baseline"), strict=True):
        assert (row[1], row[4], row[6]) == (method, "4", outcome)
        assert float(row[3].split()[0]) == pytest.approx(means[method], abs=0.051)
    assert "DEMO DATA" in page
    assert repr(ran) == f"<Ablation {ran.name}: alp, kd on rte>"


def test_reading_imports_no_torch(ran: harness.Ablation) -> None:
    code = (
        "import sys, harness\n"
        f"ablation, = harness.open({str(ran.folder)!r}).ablations()\n"
        "for table in (ablation.scores(), ablation.verdicts(), ablation.trials(), ablation.curves()):\n"
        "    assert len(table)\n"
        "assert len(ablation.predictions('rte')) and ablation._repr_html_()\n"
        "assert not {'torch', 'transformers', 'plotly'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_ablation_without_runs_has_empty_tables(ledger: Ledger, tmp_path: Path) -> None:
    Scribe(ledger).begin()
    with harness.open(tmp_path) as runs:
        (ablation,) = runs.ablations()
        for table in (ablation.scores(), ablation.verdicts(), ablation.trials(), ablation.curves()):
            assert not len(table)
        assert not len(ablation.predictions("rte"))
        assert "none finished" in ablation._repr_html_()
        with pytest.raises(UserError, match="has no report run on rte yet"):
            ablation.texts("rte")


def test_each_seed_of_a_setting_has_the_same_weight(ledger: Ledger, tmp_path: Path) -> None:
    Scribe(ledger).finished()
    with harness.open(tmp_path) as runs:
        (ablation,) = runs.ablations()
        scores, trials = ablation.scores(), ablation.trials()
    own = scores[scores["method"] == "alp"]
    assert dict(zip(own["number"], own["score"], strict=True)) == METHOD_SCORES
    assert own["weight"].tolist() == pytest.approx([1 / len(METHOD_SCORES)] * len(METHOD_SCORES))
    assert set(own["unit"]) == {"seed"}
    assert trials[trials["method"] == "alp"]["score"].tolist() == [0.6, 0.8]


def test_what_cannot_be_used_is_told_as_the_command_tells_it(
    ran: harness.Ablation, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="--method apl: no such method; did you mean alp"):
        harness.run("apl", "rte", out=tmp_path)
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        harness.run("alp", "rte", preset="demo", out=tmp_path, overrides={"training.epochs": 0})
    with pytest.raises(StorageError, match=r"has no ledger\.db"):
        harness.open(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"no ablation 'x': it has {ran.name}")):
        harness.open(ran.folder).ablation("x")
    with pytest.raises(UserError, match="has no task 'mrpc': it has rte"):
        ran.predictions("mrpc")
    with pytest.raises(AttributeError, match="has no attribute 'runs'"):
        harness.runs  # type: ignore[attr-defined]  # noqa: B018


@pytest.fixture
def values() -> dict[str, object]:
    return {
        "search.space": {"temperature": [1.0, 4.0]},
        "teacher.learning_rate": 1e-5,
        "student.init": "skip",
        "teacher.allow_weak": True,
        "storage": "sqlite:///a b/c'd=e.db",
        "protocol.margins": {"accuracy": 0.02},
    }


def test_overrides_of_every_kind_arrive(values: dict[str, object]) -> None:
    words = [word for key, value in values.items() for word in _words(key, value)]
    config = compose_config(words, {"methods": ["alp"], "tasks": ["rte"]})
    assert config.search.space["temperature"] == (1.0, 4.0)
    assert config.teacher.learning_rate == 1e-5
    assert config.student.init == "skip"
    assert config.teacher.allow_weak is True
    assert config.storage == values["storage"]
    assert config.protocol.margins["accuracy"] == 0.02
