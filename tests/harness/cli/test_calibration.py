"""The rates of a machine: their fit, and that they are measured once."""

import numpy as np
import pytest
import torch

from harness.cli import calibration
from harness.cli.calibration import Rates, Sample, fit, kept, machine_rates
from harness.cli.step_counts import Work
from harness.runtime.device import Arithmetic


def test_the_fit_finds_the_rates_of_a_machine() -> None:
    rng = np.random.default_rng(0)
    rows = 10 ** rng.uniform([8, 6, 4, 2], [11, 9, 8, 4], (10, 4))
    true = np.array([1e-11, 1e-10, 1e-9, 2e-5])
    found = fit(rows, rows @ true)
    assert [found.product, found.byte, found.weight, found.call] == pytest.approx(true, rel=1e-6)
    assert found.deviation == pytest.approx(0.0, abs=1e-9)
    seconds = rows @ true
    seconds[3] *= 1.5
    assert 0.05 < fit(rows, seconds).deviation < 0.5


def test_no_rate_is_below_zero() -> None:
    rows = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, 1.0, 1.0], [3.0, 1.0, 1.0, 1.0]])
    found = fit(rows, np.array([3.0, 2.0, 1.0]))
    assert min(found.product, found.byte, found.weight, found.call) >= 0


def test_the_seconds_of_a_step_are_the_sum_of_its_parts() -> None:
    rates = Rates(1.0, 10.0, 100.0, 1000.0, 0.0, "")
    work = Work(products=1.0, moved=2.0, calls=4.0, held=9.0)
    assert rates.seconds(work) == 1 + 20 + 4000
    assert rates.seconds(work, weights=3.0, steps=5, runs=2) == 1 + 20 + 1500 + 2000


def test_rates_are_measured_once_for_each_precision_and_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measures: list[float] = []

    def measure() -> dict[str, float]:
        measures.append(1.0)
        return {"seconds": float(len(measures))}

    fp32, bf16 = (Arithmetic(torch.device("cpu"), bf16) for bf16 in (False, True))
    assert [kept("a", fp32, measure)["seconds"] for _ in range(2)] == [1.0, 1.0]
    assert kept("a", bf16, measure)["seconds"] == 2.0
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert kept("a", fp32, measure)["seconds"] == 3.0
    assert kept("b", fp32, measure)["seconds"] == 4.0


def test_steps_of_training_and_of_outputs_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    samples = tuple(
        Sample(2, 8 * size, runs, 2, 8, trains)
        for size, runs, trains in ((2, 1, True), (4, 2, True), (2, 1, False), (8, 1, True))
    )
    monkeypatch.setitem(calibration.SAMPLES, "cpu", samples)
    state = torch.get_rng_state()
    found = machine_rates(Arithmetic(torch.device("cpu"), False))
    assert found.call > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert "measured once, and kept in" in capsys.readouterr().err
    assert machine_rates(Arithmetic(torch.device("cpu"), False)) == found
    assert capsys.readouterr().err == ""
    # The process that measured has already taken what another process will take.
    assert found.start_bytes == 0
    monkeypatch.setattr(calibration, "_measured_here", False)
    assert machine_rates(Arithmetic(torch.device("cpu"), False)).start_bytes > 0
