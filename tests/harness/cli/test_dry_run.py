"""The plan: its disk against a study's files, and the parts that only some studies have."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli.step_clock import StepClock
from harness.study import main
from methods.tokens import TinyBert
from tests.conftest import small_pools, small_study


def plan(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, Any]:
    assert main([*arguments, "--dry-run"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["plan"]
    return dict(found)


def test_the_disk_is_that_of_a_study(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = small_study(tmp_path / "runs", tiny_encoder, "--keep", "report")
    planned = plan(capsys, arguments)["disk_bytes"]
    assert main(arguments) == 0
    folders = [tmp_path / "runs" / name for name in ("cache", "teachers", "students")]
    arrays = [p for folder in folders for p in folder.rglob("*") if p.suffix == ".npy"]
    weights = [p for folder in folders for p in folder.rglob("model.safetensors")]
    assert len(arrays) == 3 * (3 + 3)  # splits, by the arrays of tokens and of outputs
    assert len(weights) == 1 + 4
    files = sum(path.stat().st_size for path in (*arrays, *weights))
    assert planned == pytest.approx(files, rel=0.1)


def test_pre_training_is_part_of_the_plan_of_the_demos_encoder_only(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = small_study(tmp_path / "runs", tiny_encoder)
    demo = [argument.replace(str(tiny_encoder), "demo") for argument in arguments]
    monkeypatch.setattr(StepClock, "pretraining", lambda *_: 1e6)
    assert plan(capsys, demo)["seconds"] > 1e6 > plan(capsys, arguments)["seconds"]


def test_pre_training_is_timed_on_a_few_of_its_steps(
    monkeypatch: pytest.MonkeyPatch, arithmetic: Any
) -> None:
    """A clock that a step moves by one second: 300 and 240 steps take 540 s."""
    moment = [0.0]

    def pretrain(corpus: Any, task: Any, rng: Any, stages: Any, advance: Any) -> None:
        for stage in stages:
            for _ in range(stage.steps):
                moment[0] += 1.0
                advance(1)

    monkeypatch.setattr("harness.demo.encoder.pretrain", pretrain)
    monkeypatch.setattr(time, "perf_counter", lambda: moment[0])
    state = torch.get_rng_state()
    assert StepClock(arithmetic).pretraining("rte") == pytest.approx(540.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_terms_of_a_token_method_are_part_of_its_plan(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = small_study(tmp_path / "runs", tiny_encoder, "--method", "kd,tinybert")
    real = TinyBert.terms

    def slow_terms(self: TinyBert, *layers: Any) -> dict[str, torch.Tensor]:
        time.sleep(0.3)
        return real(self, *layers)

    monkeypatch.setattr(TinyBert, "terms", slow_terms)
    found = plan(capsys, arguments)
    assert found["live_methods"] == ["tinybert"]
    # Four runs of a method, two of them in a population at least: one pause for each step of two runs.
    steps = found["student_steps"] / 2
    assert found["seconds"] - found["live_seconds"] > 0.3 * steps / 2


def test_simplex_weights_can_be_planned(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = small_study(tmp_path / "runs", tiny_encoder, "search.weights=simplex")
    assert plan(capsys, arguments)["seconds"] > 0


def test_memory_counts_the_pages_of_mapped_outputs(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    noted: list[int] = []
    real = StepClock.note_memory

    def note_memory(self: StepClock, more: int = 0) -> None:
        noted.append(more)
        real(self, more)

    monkeypatch.setattr(StepClock, "note_memory", note_memory)
    found = plan(capsys, small_study(tmp_path / "runs", tiny_encoder))
    assert found["memory_bytes"] > 100 * 2**20
    assert {0, 700 * 4 * 16 * 2} == set(noted)  # the teacher's training; examples, layers, width


def plan_of_workers(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> tuple[dict[str, Any], str]:
    """The plan on several workers, and all lines."""
    assert main([*arguments, "--dry-run"]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out)["workers"], printed.err


def test_a_plan_on_workers_divides_time_and_populations(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Eight runs on four workers without Dask: a step of two runs is timed, and no step of eight."""
    members: list[int] = []

    def training(self: StepClock, recipe: Any, make_members: Any, more: int = 0) -> float:
        members.append(len(make_members()))
        return float(members[-1])  # a second for each run

    monkeypatch.setattr(StepClock, "training", training)
    monkeypatch.setattr(StepClock, "outputs", lambda *_: 0.0)
    monkeypatch.setattr("harness.workers.machine.usable_cores", lambda: 4)
    monkeypatch.setitem(sys.modules, "harness.workers.clusters", None)
    arguments = small_pools(tmp_path / "runs", tiny_encoder)
    local = plan(capsys, arguments)
    assert set(members) == {1, 8}
    members.clear()
    found, lines = plan_of_workers(capsys, [*arguments, "--workers", "4"])
    assert set(members) == {1, 2}
    division = found["division"]
    assert (division["workers"], division["at_once"]) == (4, 4)
    assert (division["populations"], division["largest_population"]) == (4, 2)
    assert found["alone_seconds"] == pytest.approx(local["seconds"], rel=0.2)
    teacher, answers = 1.0, found["alone_seconds"] - 9.0
    assert teacher < division["first_runs"] < teacher + answers
    assert division["first_runs"] + 2.0 < division["seconds"] < teacher + 2.0 + answers
    assert "4 worker(s) with 1 thread(s) on 4 core(s): about " in lines
    assert "Assumed: every worker is as fast as this process; " in lines


def test_a_plan_on_gpus_counts_those_that_work_at_once(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Six workers on four devices."""
    monkeypatch.setattr("harness.workers.machine.visible_devices", lambda: ("0", "1", "2", "3"))
    monkeypatch.setattr(StepClock, "training", lambda *_: 1.0)
    arguments = small_pools(tmp_path / "runs", tiny_encoder)
    for number, workers in (("auto", 4), ("6", 6)):
        found, lines = plan_of_workers(capsys, [*arguments, "--workers", number])
        assert found["division"]["workers"] == workers
        assert found["division"]["at_once"] == 4
        assert f"{workers} worker(s) on 4 GPU(s)" in lines
    assert "on 4 GPU(s), 4 at once: about " in lines


def test_a_plan_for_jobs_counts_them(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = small_pools(tmp_path / "runs", tiny_encoder, "--cluster", "slurm", "--workers", "3")
    found, lines = plan_of_workers(capsys, arguments)
    assert found["division"]["workers"] == 3
    assert "3 job(s) of slurm, one worker each; planned with " in lines
    assert not (tmp_path / "runs").exists()
