"""Tests execute the commands and code of the documents."""

import ast
import csv
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import harness
import methods
import reports.sections
from harness import metric_table, pooling_table
from harness.cli.arguments import parser, read_request
from harness.compose import compose_config
from harness.data.tasks import load_task
from harness.demo.examples import generate
from harness.errors import ConfigError
from harness.experiment.student_checks import usable_on
from harness.metric_table import METRICS
from harness.models import families
from harness.pooling_table import POOLINGS
from harness.registry.cards import document
from harness.registry.discovery import registry
from harness.storage.ledger import Ledger
from harness.study import main
from reports.evidence import read_evidence
from reports.kit.palette import method_styles
from reports.page import contents, page
from reports.report import build_report
from tests.harness.models.test_new_family import DISTILBERT
from tests.reports.conftest import Scribe

DOCS = Path(__file__).parents[1] / "docs"
SMALL = (
    "--trials 2 protocol.budget=1 --json --allow-weak-teacher teacher.epochs=1 training.epochs=1 "
    "student.layers=2 training.max_length=64 training.precision=fp32 threads=1"
)


def blocks(document: str) -> list[str]:
    """The indented blocks of a document; blank lines do not end one."""
    found: list[list[str]] = [[]]
    for line in (DOCS / document).read_text().splitlines():
        if line.startswith("    ") or (not line and found[-1]):
            found[-1].append(line[4:])
        elif found[-1]:
            found.append([])
    return ["\n".join(block).rstrip() + "\n" for block in found if block]


def write_tables(folder: Path, task: str, label: str) -> None:
    for file, data in zip(("train", "dev"), generate(task, selection_size=0).values(), strict=True):
        with (folder / f"{file}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["question", label, "answer"])
            writer.writerows((a, y, b) for (a, b), y in zip(data.texts, data.labels, strict=True))


@pytest.mark.parametrize(
    ("block", "demo", "label", "metric"),
    [(0, "mrpc", "fits", "f1"), (2, "stsb", "similarity", "pearson")],
)
def test_the_tasks_of_the_document_run(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    block: int,
    demo: str,
    label: str,
    metric: str,
) -> None:
    shown = blocks("custom-task.md")
    (tmp_path / "jobs.yaml").write_text(shown[block])
    write_tables(tmp_path, demo, label)
    monkeypatch.chdir(tmp_path)
    python, module, name, *flags = shlex.split(shown[1])
    assert (python, module, name) == ("python", "-m", "harness.study")
    small = [*SMALL.split(), f"teacher.pretrained={tiny_encoder}"]
    assert main([*flags, *small]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [(r["task"], r["metric"]) for r in summary["results"]] == [("jobs", metric)] * 2
    assert Path(summary["report"]).is_file()


def rows_of(module: ModuleType, block: str) -> list[Any]:
    """The rows that a block of code adds to a module's table, made as in the module itself."""
    rows: list[Any] = []
    namespace = {**vars(module), "add": rows.append}
    tree = ast.parse(block)
    for statement in tree.body:
        if isinstance(statement, ast.Expr):
            statement.value = ast.Call(ast.Name("add", ast.Load()), [statement.value], [])
    source = f"from __future__ import annotations\n{ast.unparse(tree)}"
    exec(compile(source, "CONTRIBUTING.md", "exec"), namespace)
    return rows


def test_the_rows_of_the_document_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay rows of the tables after somebody has added exactly them."""
    _, *shown = [block for block in blocks("../CONTRIBUTING.md") if not block.startswith("python ")]
    modules = (metric_table, pooling_table, families)
    (metric,), (pooling,), (family,) = map(rows_of, modules, shown)
    labels, predictions = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert metric.score(labels, predictions) == pytest.approx((2 / 3 + 1) / 2)
    states, mask = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])
    assert pooling.pool((states, -states), mask).tolist() == [[[3.0], [-1.0]]]
    assert family == DISTILBERT
    asked = ["methods=[alp]", "tasks=[rte]", "pooling=max", "protocol.margins.balanced=0.02"]
    monkeypatch.delitem(METRICS, "balanced", raising=False)
    monkeypatch.delitem(POOLINGS, "max", raising=False)
    with pytest.raises(ConfigError, match="unknown pooling 'max'"):
        compose_config(asked)
    monkeypatch.setitem(METRICS, metric.name, metric)
    monkeypatch.setitem(POOLINGS, pooling.name, pooling)
    config = compose_config(asked)
    assert (config.pooling, config.protocol.margins["balanced"]) == ("max", 0.02)


def test_the_command_that_tries_a_metric_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = next(block for block in blocks("../CONTRIBUTING.md") if block.startswith("python -m"))
    python, module, name, *flags = shlex.split(command)
    assert (python, module, name) == ("python", "-m", "harness.study")
    assert main([*flags, "--dry-run", "--json", "--out", str(tmp_path)]) == 0
    (plan,) = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["search_runs"], plan["report_runs"]) == (0, 4)


def test_the_table_of_methods_is_what_the_cards_say() -> None:
    assert (DOCS / "methods.md").read_text() == document(), (
        "python -m harness.registry.cards > docs/methods.md"
    )


@pytest.fixture
def nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The document's method in a file of `methods/`."""
    example = blocks("add-a-method.md")[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 23
    (tmp_path / "nearest.py").write_text(example)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    registry.cache_clear()
    yield "nearest"
    registry.cache_clear()
    sys.modules.pop("methods.nearest", None)


def test_the_method_of_the_document_is_listed_trained_and_reported(
    tmp_path: Path, tiny_encoder: Path, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--list", "methods", "--json"]) == 0
    cards = {card["name"]: card for card in json.loads(capsys.readouterr().out)}
    assert cards[nearest]["summary"].startswith("each student layer matches the nearest")
    _, check, command = blocks("add-a-method.md")[1].splitlines()
    assert shlex.split(check)[:3] == ["python", "-m", "harness.study"]
    assert main(shlex.split(check)[3:]) == 0
    assert nearest in capsys.readouterr().out
    python, module, name, *flags = shlex.split(command)
    assert (python, module, name) == ("python", "-m", "harness.study")
    small = [*SMALL.split(), f"teacher.pretrained={tiny_encoder}", "--preset", "demo"]
    assert main([*flags, *small, "--out", str(tmp_path / "runs")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert {result["method"] for result in summary["results"]} == {nearest, "kd"}
    assert cards[nearest]["summary"] in Path(summary["report"]).read_text()


def test_the_mistake_of_the_document_is_told_as_it_says(
    tmp_path: Path, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "nearest.py"
    line = "distances = (student.states[:, :, None] - teacher.states[:, None]).square().mean(-1)"
    text = file.read_text()
    assert text.count(line) == 1
    file.write_text(text.replace(line, "distances = (student.states - teacher.states).square()"))
    command = blocks("add-a-method.md")[1].splitlines()[-1]
    out = tmp_path / "runs"
    assert main([*shlex.split(command)[3:], "--preset", "demo", "--out", str(out)]) == 2
    told = capsys.readouterr().err.replace(str(file), "methods/nearest.py")
    assert told.split() == blocks("add-a-method.md")[2].split()
    assert not out.exists()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the document's package is installed.

    It also offers the document's method of tokens, and a method that cannot be imported.
    """
    example, _, _, tokens, project = blocks("add-a-method.md")
    folder = tmp_path_factory.mktemp("package")
    source, site = folder / "source", folder / "site"
    (source / "nearest_layer").mkdir(parents=True)
    (source / "nearest_layer" / "__init__.py").write_text(example)
    (source / "nearest_layer" / "tokens.py").write_text(tokens)
    (source / "nearest_layer" / "rare.py").write_text("import something_rare\n")
    more = 'tokens = "nearest_layer.tokens:EveryToken"\nrare = "nearest_layer.rare:Rare"\n'
    (source / "pyproject.toml").write_text(project + more)
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site, source]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True)
    return site


def test_the_methods_of_the_document_keep_the_contract(installed: Path) -> None:
    names = "nearest or every-token"
    contract = ["-v", "-p", "no:cacheprovider", "-k", names, "tests/methods/test_contract.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *contract],
        capture_output=True,
        cwd=DOCS.parent,
        env={**os.environ, "PYTHONPATH": str(installed)},
        text=True,
    )
    assert done.returncode == 0, done.stdout
    for check in (
        "gradients_reach_the_student_and_every_parameter[nearest]",
        "every_scalar_changes_the_gradient[nearest]",
        "a_stacked_population_equals_a_loop_over_its_members[nearest]",
        "values_at_padded_tokens_do_not_count[every-token]",
        "gradients_reach_the_student_and_every_parameter[every-token]",
    ):
        assert f"test_{check} PASSED" in done.stdout


def test_a_package_of_its_own_is_listed_trained_and_reported(
    tmp_path: Path,
    tiny_encoder: Path,
    installed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(installed)
    registry.cache_clear()
    broken = "nearest_layer.rare:Rare"
    words = "ModuleNotFoundError: No module named 'something_rare' (rare.py, line 1)"
    reason = f"cannot be imported ({words})"
    try:
        assert main(["--list", "methods", "--json"]) == 0
        found = capsys.readouterr()
        cards = {card["name"]: card for card in json.loads(found.out)}
        assert {"nearest", "every-token", "alp", "kd"} <= cards.keys()
        assert f"{broken}: {reason}" in found.err
        flags = f"--preset demo --task rte --method nearest --out {tmp_path} {SMALL}".split()
        assert main([*flags, f"teacher.pretrained={tiny_encoder}"]) == 0
        found = capsys.readouterr()
    finally:
        registry.cache_clear()
        sys.modules.pop("nearest_layer", None)
    assert f"warning: the plug-in {broken} {reason}" in found.err
    summary = json.loads(found.out)
    assert {result["method"] for result in summary["results"]} == {"nearest", "kd"}
    assert summary["failures"] == []
    assert cards["nearest"]["summary"] in Path(summary["report"]).read_text()


def test_the_section_of_the_document_is_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example, lines, _, test, bars = blocks("add-a-section.md")[:5]
    assert len([line for line in example.splitlines() if line.strip()]) <= 33
    (tmp_path / "quantiles.py").write_text(example)
    monkeypatch.setattr(reports.sections, "__path__", [*reports.sections.__path__, str(tmp_path)])
    line = lines.splitlines(keepends=True)[0]
    text = Path(contents.__file__).read_text()
    assert text.count(line) == 1
    (tmp_path / "contents.py").write_text(text.replace(line, lines))
    try:
        changed = runpy.run_path(str(tmp_path / "contents.py"))
        namespace: dict[str, Any] = {}
        exec(test, namespace)
        monkeypatch.setattr(page, "sections_by_part", changed["sections_by_part"])
        scribe = Scribe(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}"))
        scribe.finished()
        build_report(scribe.ledger, "alp-rte", tmp_path / "report.html")
        evidence = read_evidence(scribe.ledger, "alp-rte")
        scribe.ledger.close()
        namespace["test_scores_are_in_order"](evidence)
        section = vars(sys.modules["reports.sections.quantiles"])
        figure, styles = section["blank_figure"](300, None), method_styles(evidence.methods)
        scores = namespace["ordered_scores"](evidence, "rte")
        exec(bars, {**section, "scores": scores, "figure": figure, "styles": styles})
    finally:
        sys.modules.pop("reports.sections.quantiles", None)
    drawn = figure.to_figure()
    assert [list(bar.y) for bar in drawn.data] == [
        rows["points"].tolist() for _, rows in scores.groupby("method", sort=False)
    ]
    assert drawn.layout.xaxis.title.text == "position"
    text = (tmp_path / "report.html").read_text()
    order = [
        text.index(f'<section id="{anchor}">') for anchor in ("seeds", "quantiles", "examples")
    ]
    assert order == sorted(order)
    assert 'aria-label="Scores in order, medians. finetune: 70.00; alp: 90.00."' in text


def test_the_python_of_the_document_runs(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With fewer trials, and a small encoder."""
    run, folder = harness.run, tmp_path / "runs"
    overrides = {
        "teacher": {"pretrained": tiny_encoder, "epochs": 1},
        "training": {"epochs": 1, "batch_size": 64},
        "student.layers": 2,
        "protocol.budget": 2,
        "threads": 1,
    }

    def small(**given: Any) -> harness.Ablation:
        assert given.pop("trials") == 20
        return run(**given, trials=4, allow_weak_teacher=True, overrides=overrides)

    monkeypatch.setattr(harness, "run", small)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    shown = blocks("python.md")
    *rest, last = ast.parse(shown.pop()).body
    for block in (*shown, ast.unparse(rest)):
        exec(compile(block, "python.md", "exec"), namespace)
    assert isinstance(last, ast.Expr)
    answer = eval(compile(ast.Expression(last.value), "python.md", "eval"), namespace)
    assert answer in ("entailment", "not_entailment")
    assert f"{namespace['ablation'].name}\n" in capsys.readouterr().out
    assert (tmp_path / "temperature.html").is_file()
    assert len(namespace["ablation"].students()) == 2
    assert folder.is_dir()


def test_the_table_of_the_document_names_all_tables() -> None:
    rows = (DOCS / "python.md").read_text().split("| call |")[1]
    named = set(re.findall(r"^\| `(\w+)\(", rows, re.MULTILINE))
    tables = {
        name
        for name, method in vars(harness.Ablation).items()
        if getattr(method, "__annotations__", {}).get("return") == "pd.DataFrame"
    }
    assert named == {name for name in tables if not name.startswith("_")}


def test_the_commands_of_the_students_document_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.extras._is_installed", lambda package: True)
    commands = [
        shlex.split(line.replace("\\\n", " "))
        for block in blocks("students.md")
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("python -m harness.study")
    ]
    requests = [read_request(parser().parse_intermixed_args(words[3:])) for words in commands]
    assert [request.config.student.checkpoint for request in requests] == [
        *("huawei-noah/TinyBERT_General_4L_312D", None, None, None, None, "narrow")
    ]
    assert [request.measures_latency for request in requests] == [
        *([False] * 3),
        *(True, False, True),
    ]
    assert [request.exports for request in requests] == [None] * 4 + ["onnx", None]
    widths = [cell.config.student.width for cell in requests[2].cells]
    assert widths == [16, 24, 32]


def test_the_encoder_of_the_students_document_is_used_by_methods_with_a_projection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(blocks("students.md")[-2], {})
    settings = {"methods": list(registry().methods), "tasks": ["rte"]}
    config = compose_config(["preset=demo", "student.checkpoint=narrow"], settings)
    usable = {method.name for method in usable_on(config, load_task("rte"), tmp_path)}
    assert set(registry().methods) - usable == {
        *("pkd-skip", "pkd-last", "alp-np", "reverse", "random-map", "all-to-last")
    }
