"""The plan: its disk against a study's files, and the parts that only some studies have."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli.calibration import Rates
from harness.cli.pretraining_time import pretraining_seconds, time_pretraining
from harness.cli.profiles import method_profile
from harness.method import Layers
from harness.runtime.device import Arithmetic
from harness.study import main
from methods.tokens import TinyBert
from tests.conftest import RATES, small_pools, small_study


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


def test_exported_students_are_on_disk_twice(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    arguments = small_study(tmp_path / "runs", tiny_encoder)
    none, kept, exported = (
        plan(capsys, [*arguments, *options])["disk_bytes"]
        for options in (
            ("--keep", "none"),
            ("--keep", "best"),
            ("--keep", "best", "--export", "onnx"),
        )
    )
    assert exported - kept == kept - none > 0


def test_pre_training_is_part_of_the_plan_of_the_demos_encoder_only(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = small_study(tmp_path / "runs", tiny_encoder)
    demo = [argument.replace(str(tiny_encoder), "demo") for argument in arguments]
    monkeypatch.setattr("harness.cli.planned_steps.pretraining_seconds", lambda *_: 1e6)
    assert plan(capsys, demo)["seconds"] > 1e6 > plan(capsys, arguments)["seconds"]


def test_pre_training_is_timed_on_a_few_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert time_pretraining("rte") == pytest.approx(540.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_pre_training_is_timed_again_after_an_edit_of_the_demo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "encoder.py"
    monkeypatch.setattr("harness.demo.encoder.source_files", lambda: [source])
    timings = iter([1.0, 2.0])
    monkeypatch.setattr("harness.cli.pretraining_time.time_pretraining", lambda task: next(timings))
    arithmetic = Arithmetic(torch.device("cpu"), bf16=False)
    for text, expected in (("steps = 1", 1.0), ("steps = 1", 1.0), ("steps = 2", 2.0)):
        source.write_text(text)
        assert pretraining_seconds("rte", arithmetic) == expected


def test_no_step_of_a_plan_is_done(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delattr("harness.training.population.Population.train_batch")
    monkeypatch.delattr("harness.models.student.read_weights")
    assert plan(capsys, small_study(tmp_path / "runs", tiny_encoder))["seconds"] > 0


def test_the_terms_of_a_token_method_are_part_of_its_plan(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = small_study(tmp_path / "runs", tiny_encoder, "--method", "kd,tinybert")
    before = plan(capsys, arguments)
    assert before["live_methods"] == ["tinybert"]
    real = TinyBert.terms

    def heavy_terms(self: TinyBert, student: Layers, *others: Any) -> dict[str, torch.Tensor]:
        square = student.logits.new_zeros(1000, 1000)
        square @ square
        return real(self, student, *others)

    monkeypatch.setattr(TinyBert, "terms", heavy_terms)
    method_profile.cache_clear()
    after = plan(capsys, arguments)
    method_profile.cache_clear()
    more = 2e9 * RATES.product * before["student_steps"] / 2  # half of the steps are kd's
    assert more < after["seconds"] - before["seconds"] < 2 * more


def test_a_method_that_cannot_be_counted_is_called_a_guess(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = {}
    for name in ("kd,pkd-skip", "kd,emd"):
        arguments = small_study(tmp_path / "runs", tiny_encoder, "--method", name)
        assert main([*arguments, "--dry-run"]) == 0
        printed = capsys.readouterr()
        (found,) = json.loads(printed.out)["plan"]
        shares[name] = found["guessed_seconds"] / found["seconds"]
        assert found["guessed"] == (["emd"] if name == "kd,emd" else [])
        assert ("; guessed without its own terms: emd" in printed.err) == (name == "kd,emd")
        assert f"({100 * shares[name]:.0f} % guessed)" in printed.err
    assert 0 < shares["kd,pkd-skip"] < shares["kd,emd"] < 1


def test_the_total_sums_tasks_and_names_what_is_assumed(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = small_study(tmp_path / "runs", tiny_encoder, "--task", "rte,cola")
    assert main([*arguments, "--dry-run"]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    plans, total = answer["plan"], answer["total"]
    assert (len(plans), total["tasks"], total["cells"]) == (2, 2, 0)
    for name in ("seconds", "guessed_seconds", "disk_bytes", "teacher_steps", "student_steps"):
        assert total[name] == pytest.approx(sum(plan[name] for plan in plans))
    assert total["memory_bytes"] == max(plan["memory_bytes"] for plan in plans)
    last = printed.err.splitlines()[-1]
    assert last.startswith("total of 2 task(s): teachers ")
    assert last.endswith(
        "fp32 on cpu, 1 thread; rates of 2026-01-31, which fit this machine's measured steps "
        "within 25 %"
    )


@pytest.mark.parametrize("task", ["rte", "mnli", "stsb"])
def test_simplex_weights_and_every_kind_of_task_can_be_planned(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    more = ("search.weights=simplex", "--task", task, "--method", "kd,alp,tinybert")
    arguments = small_study(tmp_path / "runs", tiny_encoder, *more)
    assert plan(capsys, arguments)["seconds"] > 0


def test_memory_counts_a_populations_runs(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = {}
    for members in (1, 4):
        monkeypatch.setattr(
            "harness.cli.planned_steps.population_size", lambda *_, size=members: size
        )
        found = plan(capsys, small_study(tmp_path / "runs", tiny_encoder))
        held[members] = found["memory_bytes"]
    assert held[1] > 100 * 2**20
    assert held[4] > held[1]


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
    """Eight runs on four workers without Dask: a step of two runs is planned, and none of eight."""
    together: list[int] = []
    real = Rates.seconds

    def seconds(
        self: Rates, work: Any, weights: float = 0, steps: float = 1, runs: int = 1
    ) -> float:
        if weights:
            together.append(runs)
            return 1.0
        return real(self, work)

    monkeypatch.setattr(Rates, "seconds", seconds)
    monkeypatch.setattr("harness.workers.machine.usable_cores", lambda: 4)
    monkeypatch.setitem(sys.modules, "harness.workers.clusters", None)
    arguments = small_pools(tmp_path / "runs", tiny_encoder)
    local = plan(capsys, arguments)
    assert set(together) == {1, 8}
    together.clear()
    found, lines = plan_of_workers(capsys, [*arguments, "--workers", "4"])
    assert set(together) == {1, 2}
    division = found["division"]
    assert (division["workers"], division["at_once"]) == (4, 4)
    assert (division["populations"], division["largest_population"]) == (4, 2)
    assert found["alone_seconds"] == pytest.approx(local["seconds"], rel=0.2)
    assert 1.0 < division["first_runs"] < 1.5
    assert division["first_runs"] + 2.0 < division["seconds"] < found["alone_seconds"] / 2
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


def test_a_large_task_is_planned_from_a_sample_of_its_lengths(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = small_study(tmp_path / "runs", tiny_encoder)
    whole = plan(capsys, arguments)
    monkeypatch.setattr("harness.cli.dry_run.SAMPLE", 200)
    part = plan(capsys, arguments)
    for name in ("train_examples", "teacher_steps", "student_steps"):
        assert part[name] == whole[name]
    assert part["live_seconds"] == whole["live_seconds"] == 0
    preparations = [found["work"]["preparations"][0] for found in (whole, part)]
    runs = [
        found["seconds"] - time for found, time in zip((whole, part), preparations, strict=True)
    ]
    assert runs[0] == pytest.approx(runs[1], rel=0.1)
    assert runs[0] != runs[1]


def test_a_plan_is_refused_where_the_command_would_be(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([*small_study(tmp_path / "file" / "runs", tiny_encoder), "--dry-run"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert error == f"error: --out {tmp_path}/file/runs: cannot be made (Not a directory)"
