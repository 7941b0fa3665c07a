"""The size of a population: by shapes on a CPU, by measurement on a GPU, one for the reference."""

from dataclasses import replace

import pytest
import torch

from harness.runtime.device import Arithmetic
from harness.training import sizing
from harness.training.sizing import population_size
from tests.harness.training.test_loop import member, recipe


def test_small_models_fill_a_population_and_large_ones_are_alone(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = recipe(arithmetic)
    assert population_size(shared, member()) == sizing.MOST_MEMBERS
    mean = sum(len(b.rows) * b.width for b in shared.schedule().epoch(0, 0)) / 5
    monkeypatch.setattr(sizing, "STATE_NUMBERS", 3 * mean * 16)
    assert population_size(shared, member()) == 3
    monkeypatch.setattr(sizing, "STATE_NUMBERS", 0.1 * mean * 16)
    assert population_size(shared, member()) == 1


def test_no_more_than_memory_holds(arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = sum(value.numel() for value in member().weights.values())
    free = type(
        "Memory", (), {"available": 5 * numbers * sizing.WEIGHT_BYTES / sizing.MEMORY_SHARE}
    )
    monkeypatch.setattr(sizing.psutil, "virtual_memory", lambda: free)
    assert population_size(recipe(arithmetic), member()) in (4, 5)


def test_the_reference_engine_trains_one_at_a_time(arithmetic: Arithmetic) -> None:
    assert population_size(recipe(arithmetic, engine="reference"), member()) == 1


def test_a_gpu_on_which_two_do_not_fit_trains_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*given: object) -> int:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(sizing, "_bytes_on_gpu", short)
    shared = recipe(Arithmetic(torch.device("cpu"), bf16=False))
    on_gpu = replace(shared, arithmetic=Arithmetic(torch.device("cuda"), bf16=False), teacher=None)
    object.__setattr__(on_gpu, "labels", shared.labels)
    assert population_size(on_gpu, member()) == 1


@pytest.mark.gpu
def test_a_gpu_is_measured() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    shared = recipe(Arithmetic(torch.device("cuda"), bf16=False))
    shared = replace(shared, labels=shared.labels.to("cuda"))
    assert population_size(shared, member()) == sizing.MOST_MEMBERS
