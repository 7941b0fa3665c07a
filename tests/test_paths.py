"""Home folders in every path that a user gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.arguments import parser, read_request, replay_request
from harness.compose import compose_config
from harness.config import ProtocolConfig, SourceConfig
from harness.data.sources import load_task_data
from harness.data.tasks import read_task
from harness.paths import user_path
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
