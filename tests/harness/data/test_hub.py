"""The hub path with the real clients, against a small hub on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from harness.data.tasks import load_task
from harness.demo.examples import generate
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from tests.conftest import write_bert
from tests.hub import Hub, serve
from tests.test_docs import blocks

ENCODER = "google-bert/bert-base-uncased"
Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.slow


def _glue(folder: Path) -> None:
    """A few rows of rte and mnli in the hub's layout: a parquet file a split, described in README.md."""
    blocks = []
    for name in ("rte", "mnli"):
        task = load_task(name)
        splits = generate(name, train_size=240, validation_size=60, selection_size=0)
        features = Features(
            {column: Value("string") for column in task.hub.columns}
            | {"label": ClassLabel(names=list(task.labels)), "idx": Value("int32")}
        )
        files = []
        (folder / name).mkdir(parents=True)
        for split, data in splits.items():
            columns = dict(zip(task.hub.columns, zip(*data.texts, strict=True), strict=True))
            rows = {**columns, "label": data.labels, "idx": range(len(data.labels))}
            path = f"{name}/{split}-00000-of-00001.parquet"
            Dataset.from_dict(rows, features=features).to_parquet(folder / path)
            files.append({"split": split, "path": path})
        blocks.append({"config_name": name, "data_files": files})
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(blocks)}\n---\n# GLUE\n")


def _jobs(folder: Path) -> None:
    """The data set of docs/custom-task.md: its labels are indices without names."""
    files = []
    for split, data in generate(
        "mrpc", train_size=240, validation_size=60, selection_size=0
    ).items():
        columns = dict(zip(("question", "answer"), zip(*data.texts, strict=True), strict=True))
        file = f"{split}.jsonl"
        rows = {**columns, "fits": [int(label) for label in data.labels]}
        Dataset.from_dict(rows).to_json(folder / file)
        files.append({"split": split, "path": file})
    text = json.dumps([{"config_name": "default", "data_files": files}])
    (folder / "README.md").write_text(f"---\nconfigs: {text}\n---\n# Jobs\n")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    made = Hub(
        tmp_path_factory.mktemp("hub"),
        renamed={"bert-base-uncased": ENCODER},
        gated={"some/gated", "some/gated-rte"},
    )
    _glue(made.repository("datasets", "nyu-mll/glue"))
    _jobs(made.repository("datasets", "owner/jobs"))
    write_bert(made.repository("models", ENCODER), layers=12, positions=128)
    with serve(made):
        yield made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clients' cache, filled by the first study."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def study(hub: Hub, tmp_path: Path) -> Command:
    def run(home: Path, *more: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
        flags = "--preset paper --task rte --method alp --baseline none --allow-weak-teacher --json"
        small = "teacher.epochs=1 training.epochs=1 training.precision=fp32 device=cpu threads=1"
        counts = "--trials 2 protocol.budget=1"
        return subprocess.run(
            [sys.executable, "-m", "harness.study", *f"{flags} {counts} {small}".split(), *more],
            cwd=tmp_path,
            env={**os.environ, **hub.environment(home, offline=offline)},
            capture_output=True,
            text=True,
        )

    return run


def test_a_study_on_the_hub_and_then_offline(study: Command, hub: Hub, home: Path) -> None:
    first = study(home, "--out", "online")
    assert first.returncode == 0, first.stderr
    assert any(line.startswith("GET /google-bert/") for line in hub.requests)
    assert any("/datasets/nyu-mll/glue/resolve/" in line for line in hub.requests)
    asked = len(hub.requests)
    second = study(home, "--out", "offline", offline=True)
    assert second.returncode == 0, second.stderr
    assert len(hub.requests) == asked
    results = [json.loads(done.stdout)["results"] for done in (first, second)]
    assert results[0] == results[1]
    assert len(results[0][0]["scores"]) == 2


@pytest.mark.parametrize("layers", [6, 2])
def test_other_depths_and_two_evaluation_splits(study: Command, home: Path, layers: int) -> None:
    done = study(home, "--task", "mnli", "--student-layers", str(layers))
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    (result,) = summary["results"]
    assert result["metric"] == "accuracy"
    ledger = Ledger(storage_url(Path(summary["report"]).parents[1], None))
    record = ledger.records(result["runs"])[result["runs"][0]]
    splits = ["validation_matched", "validation_mismatched"]
    assert [name for name, _ in record.inputs.evaluation] == splits
    found = [ledger.predictions(record.fingerprint, split) for split in splits]
    ledger.close()
    first, second = (
        float((p.logits.argmax(axis=1) == p.labels).mean()) for p in found if p is not None
    )
    assert record.metrics["accuracy"] == pytest.approx(first)
    assert record.metrics["accuracy (validation_mismatched)"] == pytest.approx(second)


def test_a_users_task_on_the_hub(study: Command, home: Path, tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(blocks("custom-task.md")[3])
    done = study(home, "--task", "jobs.yaml")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert (result["task"], result["metric"], len(result["scores"])) == ("jobs", "accuracy", 2)


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (
            ["teacher.pretrained=no/such"],
            "no/such: no folder, and from the hub: the hub has no such",
        ),
        (["source.dataset=no/such"], "cannot load no/such from the hub: the hub has no such"),
        (
            ["--teacher", "some/gated-{task}"],
            "some/gated-rte: no folder, and from the hub: it is gated",
        ),
        (["source.dataset=some/gated"], "cannot load some/gated from the hub: it is gated"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(
    study: Command, home: Path, arguments: list[str], refused: str
) -> None:
    _refused(study(home, *arguments), refused)


def test_offline_without_a_cache_is_one_line(study: Command, tmp_path: Path) -> None:
    _refused(
        study(tmp_path / "empty", offline=True),
        "cannot load nyu-mll/glue from the hub: it is not in the local cache, and HF_HUB_OFFLINE",
    )


def test_a_connection_cut_halfway_is_one_line_and_goes_on(
    study: Command, hub: Hub, tmp_path: Path
) -> None:
    for name in ("train-00000-of-00001.parquet", "model.safetensors"):
        hub.cut.add(name)
        _refused(study(tmp_path / "home"), "the connection broke off; the same command")
        hub.cut.clear()
    assert study(tmp_path / "home").returncode == 0


def _refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    """Exit code 2, nothing on stdout, and one error line with the reason."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert reason in line
