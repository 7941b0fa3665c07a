"""Trackers: what MLflow's file store and TensorBoard's event files say of a run is the run."""

import json
import re
import sqlite3
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.study import main
from harness.tracking import trackers
from harness.tracking.tracked_run import TrackedRun
from harness.tracking.trackers import check_tracker, tracking
from tests.conftest import small_pools
from tests.records import record

CURVES = [{"label": 0.75, "kd": 0.5}, {"label": 0.25, "kd": 0.125}]


def run(fingerprint: str = "a", score: float | None = 0.625, **inputs: Any) -> TrackedRun:
    given = {"setting": {"temperature": 2.5, "scaled": True, "value": "raw"}, "seed": 7, **inputs}
    made = record(8 * fingerprint, score, inputs=given, curves=CURVES, seconds=3.0)
    return TrackedRun.of(made, "demo-rte-alp-1234", 3)


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        find_spec(name) is None, reason=f"the extra '{name}' is not installed"
    )


def test_a_tracked_run_has_parameters_curves_and_scores() -> None:
    found = run()
    assert (found.name, found.project, found.group) == (
        *("alp-report-3-7-aaaaaaaa", "demo-rte", "alp"),
    )
    assert not found.has_failed
    assert found.curves == (
        {"loss.label": 0.75, "loss.kd": 0.5},
        {"loss.label": 0.25, "loss.kd": 0.125},
    )
    assert found.scores == {
        "validation.accuracy": 0.625,
        "selection.accuracy": 0.625,
        "selection.label_loss": 0.0,
        "seconds": 3.0,
        "examples_per_second": 1.0,
        "peak_memory_bytes": 1.0,
    }
    expected = {
        "setting.temperature": 2.5,
        "setting.scaled": True,
        "setting.value": "raw",
        "student.layers": 4,
        "training.epochs": 3,
        "training.precision": "fp32",
        "seed": 7,
        "trial": 3,
        "method": "alp",
        "task": "rte",
        "study": "demo-rte-alp-1234",
        "status": "complete",
        "fingerprint": "aaaaaaaa",
    }
    assert found.parameters.items() >= expected.items()
    assert {type(value) for value in found.parameters.values()} <= {bool, int, float, str}
    assert not {"reason", "transfer"} & found.parameters.keys()
    failed = run(score=None)
    assert failed.has_failed
    assert failed.parameters["reason"] == "loss is NaN"
    own = run(task={"name": "jobs", "labels": ["a", "b"], "metrics": ["accuracy"]})
    assert (own.project, own.parameters["task"]) == ("demo-jobs", "jobs")


@needs("mlflow")
@pytest.mark.slow
def test_mlflows_files_have_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    runs = [run(), run("b", None, setting={}), run("c", evaluation=[["dev (new)", "sha"]])]
    with tracking("mlflow", tmp_path) as track:
        track(runs[:2])
        track(runs[2:])
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("demo-rte")
    found = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert found.keys() == {tracked.name for tracked in runs}
    first, failed, other = (found[tracked.name] for tracked in runs)
    assert first.data.params == {name: str(v) for name, v in runs[0].parameters.items()}
    last = {**runs[0].curves[-1], **runs[0].scores}
    assert first.data.metrics == last
    history = client.get_metric_history(first.info.run_id, "loss.kd")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.125)]
    assert (first.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert first.info.end_time - first.info.start_time == 3000
    assert first.data.tags["method"] == "alp"
    assert other.data.metrics["dev _new_.accuracy"] == 0.625


@needs("tensorboard")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboards_events_have_the_runs(tmp_path: Path) -> None:
    tracked = run()
    with tracking("tensorboard", tmp_path) as track:
        track([tracked, run("b", None)])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    folders = {path.parent for path in (tmp_path / "tensorboard").rglob("events.*")}
    assert {folder.name for folder in folders} == {tracked.name, run("b", None).name}
    events = EventAccumulator(str(tmp_path / "tensorboard" / "demo-rte" / tracked.name))
    events.Reload()
    found = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    assert found == {
        "loss.label": [(1, 0.75), (2, 0.25)],
        "loss.kd": [(1, 0.5), (2, 0.125)],
        **{name: [(2, value)] for name, value in tracked.scores.items()},
    }
    start = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(start).session_start_info.hparams
    assert hparams["setting.temperature"].number_value == 2.5
    assert hparams["setting.scaled"].number_value == 1  # as torch writes it
    assert hparams["fingerprint"].string_value == "aaaaaaaa"
    assert hparams.keys() == tracked.parameters.keys()


@needs("wandb")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_runs_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with tracking("wandb", tmp_path) as track:
        track([run(), run("b")])
    files = list((tmp_path / "wandb").rglob("run-*.wandb"))
    assert len(files) == 2
    content = b"".join(file.read_bytes() for file in files)
    for part in (b"demo-rte", b"setting.temperature", b"loss.kd", b"validation.accuracy"):
        assert part in content


@needs("trackio")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackios_database_has_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path, raising=False)
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path, raising=False)
    with tracking("trackio", tmp_path) as track:
        track([run(), run("b")])
    assert capsys.readouterr().out == ""  # stdout is the answer's
    with sqlite3.connect(tmp_path / "demo-rte.db") as database:
        rows = database.execute(
            "select run_name, step, metrics from metrics order by id"
        ).fetchall()
    found = [(step, json.loads(metrics)) for name, step, metrics in rows if name == run().name]
    merged = [(step, values) for step, values in found if "loss.kd" in values]
    assert [(step, values["loss.kd"]) for step, values in merged] == [(1, 0.5), (2, 0.125)]
    assert any(values.get("validation.accuracy") == 0.625 for _, values in found)


def test_a_tracker_that_fails_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logged: list[str] = []

    class Flaky:
        def __init__(self, folder: Path) -> None:
            assert folder == tmp_path

        def log(self, tracked: TrackedRun) -> None:
            print("chatter")
            if len(logged) == 2:
                raise ConnectionError("no route\nto host")
            logged.append(tracked.name)

    monkeypatch.setitem(trackers._TRACKERS, "mlflow", Flaky)
    with tracking("mlflow", tmp_path) as track:
        track([run("a")])
        track([run("b"), run("c"), run("d")])
        track([run("e")])
    assert logged == [run("a").name, run("b").name]
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("warning: --track mlflow: no route") == 1
    with tracking(None, tmp_path) as track:
        track([run("a")])

    def broken(folder: Path) -> Flaky:
        raise OSError("disk full")

    monkeypatch.setitem(trackers._TRACKERS, "mlflow", broken)
    with pytest.raises(UserError, match="--track mlflow: disk full"), tracking("mlflow", tmp_path):
        pass


def test_unknown_and_missing_trackers_are_refused_before_anything_is_done(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check_tracker(None)
    assert main(small_pools(tmp_path / "runs", tiny_encoder, "--track", "neptune")) == 2
    expected = "--track neptune: choose from mlflow, wandb, tensorboard, trackio"
    assert expected in capsys.readouterr().err
    (tmp_path / "somewhere" / "wandb").mkdir(parents=True)
    assert not (tmp_path / "runs").exists()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "somewhere")])
    with pytest.raises(UserError, match=re.escape("--track wandb needs the extra: pip install")):
        check_tracker("wandb")
