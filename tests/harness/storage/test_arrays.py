"""Arrays in files: written in pieces like numpy's own, and mapped with few resident pages."""

import re
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.storage import arrays
from harness.storage.arrays import ArrayWriter, MappedRows, map_array

ROWS = 8192
MEBIBYTE = 2**20


def test_pieces_make_the_file_that_numpy_writes(tmp_path: Path) -> None:
    values = np.arange(1000, dtype=np.int32)
    with ArrayWriter(tmp_path / "pieces.npy", np.int32) as writer:
        for start in range(0, 1000, 300):
            writer.append(values[start : start + 300].astype(np.int64))
        assert writer.length == 1000
    np.save(tmp_path / "whole.npy", values)
    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    with ArrayWriter(tmp_path / "empty.npy", np.uint8):
        pass
    assert np.load(tmp_path / "empty.npy").shape == (0,)


def test_a_map_can_be_written_and_leaves_its_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(4))
    array = map_array(tmp_path / "a.npy")
    array[:] = 1
    assert np.load(tmp_path / "a.npy").tolist() == [0] * 4


def _resident() -> int:
    """Resident bytes of mapped files."""
    return int(psutil.Process().memory_info().shared)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of 128 MiB."""
    np.save(tmp_path / "rows.npy", np.arange(ROWS * 4096, dtype=np.int32).reshape(ROWS, 4096))
    return tmp_path / "rows.npy"


@pytest.mark.parametrize("most", [4 * MEBIBYTE, 2**40])
def test_resident_pages_are_bounded(rows: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(arrays, "MOST_RESIDENT", most)
    monkeypatch.setattr(arrays, "PIECE", 8)
    mapped = MappedRows(map_array(rows))
    before, growth = _resident(), 0
    order = np.random.default_rng(0).permutation(ROWS).reshape(-1, 32)
    for batch in order:
        values = mapped.read(batch)
        assert np.array_equal(values[:, 0], batch * 4096)
        assert np.array_equal(values[:, -1], batch * 4096 + 4095)
        growth = max(growth, _resident() - before)
    if most == 4 * MEBIBYTE:
        assert growth < 32 * MEBIBYTE
    else:
        assert growth > 100 * MEBIBYTE  # without a bound the whole file is resident in the end


def test_rows_that_are_written_stay_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "MOST_RESIDENT", 4 * MEBIBYTE)
    monkeypatch.setattr(arrays, "PIECE", 8)
    values = np.random.default_rng(0).normal(size=(ROWS, 2048)).astype(np.float32)
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, values.shape)
    mapped = MappedRows(array)
    before, growth = _resident(), 0
    for batch in np.random.default_rng(1).permutation(ROWS).reshape(-1, 64):
        mapped.write(batch, values[batch])
        growth = max(growth, _resident() - before)
    assert growth < 32 * MEBIBYTE
    assert np.array_equal(np.load(tmp_path / "a.npy"), values)


@pytest.mark.parametrize("free", [0, 2**40])
def test_nothing_is_read_ahead_of_a_file_above_the_free_memory(
    rows: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    class Memory:
        available = free

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    array = map_array(rows)
    MappedRows(array)
    maps = Path("/proc/self/smaps")
    if not maps.exists():
        pytest.skip("flags of a map are in /proc on Linux only")
    part = maps.read_text().split(str(rows))[1]
    flags = re.search(r"VmFlags: (.*)", part)
    assert flags is not None
    assert ("rr" in flags[1].split()) == (free == 0)
