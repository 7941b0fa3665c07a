"""The counts of the roofline model."""

import json

import pytest
import torch

from benchmarks.roofline import MEMORY_RATE, PRODUCT_RATE, Counter, main

TINY = ["--shape", "tiny", "--device", "cpu", "--width", "24", "--batch-size", "4"]


def counted(function: object) -> dict[str, tuple[int, float, float]]:
    counter = Counter()
    with counter:
        function()  # type: ignore[operator]
    return {
        name: (count.calls, count.moved, count.operations) for name, count in counter.counts.items()
    }


def test_a_product_reads_both_factors_and_writes_the_result() -> None:
    left, right = torch.ones(4, 8), torch.ones(8, 16)
    found = counted(lambda: left @ right)
    assert found == {"mm": (1, 4 * (32 + 128 + 64), 2 * 4 * 8 * 16)}


def test_views_are_free_and_expanded_numbers_are_read_once() -> None:
    values, row = torch.ones(6, 10), torch.ones(10)
    assert counted(lambda: values.view(60).unflatten(0, (3, 20)).transpose(0, 1)) == {}
    found = counted(lambda: values + row.expand(6, 10))
    assert found == {"add": (1, 4 * (60 + 10 + 60), 0)}


def test_what_changes_in_place_is_read_and_written() -> None:
    values, other = torch.ones(6), torch.ones(6)
    assert counted(lambda: values.mul_(other)) == {"mul_": (1, 4 * (6 + 6 + 6), 0)}
    lists = [torch.ones(5), torch.ones(7)]
    assert counted(lambda: torch._foreach_mul_(lists, 2.0)) == {"_foreach_mul_": (1, 4 * 24, 0)}


def test_a_step_of_more_members_moves_more_and_the_model_takes_the_longer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*TINY, "--members", "1,2", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    moved = {size: sum(c["moved"] for c in counts.values()) for size, counts in results.items()}
    assert 1.5 * moved["1"] < moved["2"] < 2.2 * moved["1"]
    for count in results["2"].values():
        least = max(count["moved"] / MEMORY_RATE, count["operations"] / PRODUCT_RATE)
        assert count["seconds"] >= least * 0.999
    assert main([*TINY, "--members", "1"]) == 0
    assert "of the products' rate" in " ".join(capsys.readouterr().out.split())


def test_the_grid_takes_the_steps_of_its_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds of 216 runs, alone or in pairs, which grow with the number of examples."""
    grid = [*TINY, "--grid", "--examples", "24", "--json"]
    assert main([*grid, "--members", "1,2"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert set(results["1"]) == {"training", "evaluation"}
    assert 0.7 < results["1"]["training"] / results["2"]["training"] < 1.4
    assert main([*grid[:-2], "48", "--json", "--members", "1"]) == 0
    more = json.loads(capsys.readouterr().out)
    assert 1.5 < more["1"]["training"] / results["1"]["training"] < 2.5
