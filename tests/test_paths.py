"""Home folders in every path that a user gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.arguments import parser, read_request, replay_request
from harness.compose import compose_config
from harness.config import ProtocolConfig, SourceConfig
from harness.data.sources import load_task_data
from harness.data.tasks import read_task
from harness.paths import name_fault, user_path
from harness.power import main as power
from harness.storage.database import existing_url, storage_url
from harness.storage.ledger import Ledger
from reports.build import main as build
from reports.submission import main as submit

YAML = """\
title: Films
labels: [bad, good]
metrics: [accuracy]
evaluation: {validation: ~/data/dev.tsv}
folder: {path: ~/data, columns: [sentence], label: label}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / "data").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_leading_tilde_alone_is_a_home_folder(home: Path) -> None:
    assert user_path("~/runs") == home / "runs"
    assert user_path("runs/~") == Path("runs/~")
    assert user_path("~nobody-of-this-name/runs") == Path("~nobody-of-this-name/runs")


def test_every_flag_with_a_path_knows_home(home: Path) -> None:
    (home / "films.yaml").write_text(YAML)
    flags = ["--out=~/runs", "--data=~/data", "--teacher=~/{task}", "--task=~/films.yaml"]
    words = ["--preset", "minilm", "--method", "kd", *flags]
    config = read_request(parser().parse_args([*words, "teacher.pretrained='~/encoder'"])).config
    assert config.out == str(home / "runs")
    assert config.source.folder == str(home / "data")
    assert config.teacher.checkpoint == str(home / "{task}")
    assert config.teacher.pretrained == str(home / "encoder")
    assert config.task_files == {"films": str(home / "films.yaml")}
    options = parser().parse_args(["--replay", "ab", "--out", "~/runs"])
    assert replay_request(options)[1] == home / "runs"


def test_overrides_know_home(home: Path) -> None:
    base = ["preset=demo", "methods=[kd]", "tasks=[rte]"]
    assert compose_config([*base, "out='~/runs'"]).out == str(home / "runs")
    folder = ["source.kind=folder", "source.folder='~/data'"]
    assert compose_config([*base, *folder]).source.folder == str(home / "data")


def test_the_files_of_a_task_know_home(home: Path) -> None:
    rows = "".join(f"film {n}\t{('bad', 'good')[n % 2]}\n" for n in range(250))
    for name in ("train", "dev"):
        (home / "data" / f"{name}.tsv").write_text("sentence\tlabel\n" + rows)
    (home / "films.yaml").write_text(YAML)
    source = SourceConfig(kind="folder", folder="elsewhere")
    data = load_task_data(read_task(home / "films.yaml"), source, ProtocolConfig(name="paper"))
    assert len(data.train) == len(data.evaluation["validation"]) == 250


def test_storage_knows_home(home: Path) -> None:
    url = storage_url(Path("runs"), "sqlite:///~/data/own.db")
    Ledger(url).close()
    assert (home / "data" / "own.db").is_file()
    assert existing_url(home, "sqlite:///~/data/own.db") == url


def test_the_other_commands_know_home(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger(storage_url(home / "runs", None)).close()
    assert build(["~/runs"]) == 0
    assert (home / "runs" / "index.html").is_file()
    for command, words in ((submit, ["~/runs", "--method", "kd"]), (power, ["--runs", "~/runs"])):
        assert command(words) == 2
        assert "no such folder" not in capsys.readouterr().err
    assert not Path("~").exists()


def in_a_plain_locale(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a locale whose names are ASCII."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("flag", ["--out", "--data", "--teacher"])
def test_a_name_that_the_locale_cannot_read_is_refused_at_once(tmp_path: Path, flag: str) -> None:
    study = ("harness.study", "--preset", "demo", "--method", "kd", "--task", "rte")
    done = in_a_plain_locale(tmp_path, *study, flag, "o\u00f9")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {flag} '{tmp_path}/o")
    assert line.endswith("not Unicode in this locale: set PYTHONUTF8=1, or rename it")


def test_the_working_directory_and_a_runs_folder_have_names_too(tmp_path: Path) -> None:
    folder = tmp_path / "o\u00f9"
    folder.mkdir()
    Ledger(storage_url(folder, None)).close()
    for done in (
        in_a_plain_locale(folder, "reports.build", "."),
        in_a_plain_locale(tmp_path, "reports.build", str(folder)),
    ):
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "not Unicode in this locale" in line


def test_other_names_are_taken() -> None:
    for name in ("runs", "o\u00f9", "a b?#%20"):
        assert name_fault(Path(name)) is None
    assert name_fault(Path("\udcff")) is not None
