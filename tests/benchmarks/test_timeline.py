"""The table of who trained what when."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.timeline import Stretch, main, most_at_once, stretches
from harness.storage.record import Record
from harness.study import main as study
from tests.conftest import small_pools
from tests.records import record


def member(name: str, population: list[str], worker: str, created: float, **inputs: Any) -> Record:
    surroundings = {"population": population, "worker": worker}
    made = record(name, provenance=surroundings, inputs=inputs, seconds=2.0)
    object.__setattr__(made, "created", created)
    return made


def test_a_population_begins_earlier_by_its_training() -> None:
    records = [
        member("a", ["a", "b", "c"], "here:7, GPU 1", 1010.0, method="kd"),
        member("b", ["a", "b", "c"], "here:7, GPU 1", 1010.0, method="alp"),
        member("d", ["d"], "here:8, GPU 0", 1005.0, task="mrpc"),
        member("e", ["e"], "here:9", 1012.0),
    ]
    assert stretches(records) == [
        Stretch("here:8", "0", "mrpc", "alp", 1, 0.0, 2.0),
        Stretch("here:7", "1", "rte", "alp, kd", 2, 1.0, 7.0),
        Stretch("here:9", "", "rte", "alp", 1, 7.0, 9.0),
    ]


def test_populations_at_once_are_counted() -> None:
    def row(start: float, end: float) -> Stretch:
        return Stretch("w", "0", "rte", "kd", 1, start, end)

    assert most_at_once([row(0, 4), row(1, 2), row(2, 3), row(4, 5)]) == 2
    assert most_at_once([row(0, 4), row(1, 3), row(2, 3), row(4, 5)]) == 3


@pytest.mark.slow
def test_the_table_has_the_populations_of_a_study(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert study(small_pools(tmp_path, tiny_encoder)) == 0
    capsys.readouterr()
    assert main([str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["task"], row["methods"], row["runs"]) == ("rte", "alp, kd", 8)
    assert main([str(tmp_path)]) == 0
    assert "at most 1 populations at once" in capsys.readouterr().out
