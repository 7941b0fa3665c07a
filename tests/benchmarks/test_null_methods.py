"""Copies of one method: the benchmark counts few errors for copies, and many for unequal methods."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import null_methods, null_power
from harness.stats.tuned_score import Pool

Pools = dict[tuple[str, str, str], tuple[Pool, float]]


def large_pool(trials: int = 80) -> Pool:
    """Accuracies of settings with an sd of two points, and selection scores with noise."""
    generator = np.random.default_rng(0)
    quality = generator.normal(size=trials)
    selection = np.round(quality + generator.normal(size=trials), 1)
    return Pool(tuple(selection.tolist()), tuple((0.8 + 0.02 * quality).tolist()))


def test_copies_are_rarely_called_different() -> None:
    counts = null_methods.count_errors(large_pool(), 12, 3, 0.01, 100, np.random.default_rng(1))
    assert counts["errors_tolerated"] == 13
    for key in null_methods.ERRORS:
        assert counts[key] <= counts[f"{key}_tolerated"]


def test_looks_find_a_method_that_is_better_by_more_than_the_margin() -> None:
    decisions = [
        null_methods.decisions_with_looks(large_pool(), 3, 0.05, np.random.default_rng(seed), 0.05)
        for seed in range(4)
    ]
    assert [at_margin for _, at_margin in decisions] == ["better"] * 4


def test_power_grows_with_the_runs_of_both_designs() -> None:
    rows = null_power.runs_for_power(large_pool(), 3, 40, np.random.default_rng(2))
    for design, runs in (("pool", null_power.TRIALS), ("repeats", [32, 64, 128])):
        powers = [row for row in rows if row["design"] == design]
        assert [row["runs"] for row in powers] == list(runs)
        assert powers[0]["two_points"] < powers[-1]["two_points"] > 0.7
        assert all(row["one_point"] <= row["two_points"] for row in powers)
    moved = null_power.moved_pool(large_pool(), 0.25)
    assert moved.reported == pytest.approx([score + 0.25 for score in large_pool().reported])
    assert moved.selection == large_pool().selection


def test_the_command_counts_for_every_task_and_criterion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pools: Pools = {
        ("kd", task, name): (large_pool(), 0.01) for task in "ab" for name in ("metric", "loss")
    }
    monkeypatch.setattr(null_methods, "train_pools", lambda options, out: pools)
    monkeypatch.setattr(null_power, "TRIALS", (8,))
    monkeypatch.setattr(null_power, "REPEATS", (6,))
    monkeypatch.setattr(null_methods, "LOOK_TRIALS", 20)
    words = ["--pool", "80", "--trials", "8", "--budget", "2", "--draws", "20"]
    code = null_methods.main([*words, "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["method"], row["task"], row["criterion"]) for row in rows] == list(pools)
    assert code == int(
        any(r[key] > r[f"{key}_tolerated"] for r in rows for key in null_methods.ERRORS)
    )
    monkeypatch.setattr(null_methods, "_tolerated", lambda draws, alpha: -1)
    assert null_methods.main(words) == 1
    assert "Copies of one method" in capsys.readouterr().out


def test_a_draw_that_a_pool_cannot_give_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert null_methods.main(["--pool", "10", "--trials", "20"]) == 2
    assert "--trials at most --pool" in capsys.readouterr().err


@pytest.mark.slow
def test_the_pools_are_trained_by_the_command(tmp_path: Path, tiny_encoder: Path) -> None:
    words = "--method kd --task rte --pool 4 --trials 4 --budget 2 --draws 2 --json --out"
    small = "teacher.epochs=1 training.epochs=1 student.layers=2 teacher.allow_weak=true threads=1"
    overrides = [*small.split(), f"teacher.pretrained={tiny_encoder}"]
    assert null_methods.main([*words.split(), str(tmp_path / "runs"), *overrides]) == 0
