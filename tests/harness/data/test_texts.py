"""Texts on disk: the same examples as in memory, in any order, and only a few of them as objects."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from harness.data import texts as stored
from harness.data.split_files import read_file
from harness.data.splits import Split
from harness.data.tasks import load_task
from harness.data.texts import ArrowTexts, store_texts
from harness.errors import DataError, StorageError

ROWS = 30_000
EXAMPLES = [(f"erste {n}", "zweite ’é\u2028\0" * (n % 3)) for n in range(50)]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 7 examples, so that 50 examples have 8 of them."""
    monkeypatch.setattr(stored, "CHUNK", 7)


@pytest.mark.usefixtures("small_chunks")
def test_texts_on_disk_are_a_sequence_like_any_other() -> None:
    texts = store_texts(iter(EXAMPLES), 2)
    assert len(texts) == 50
    assert list(texts) == EXAMPLES
    assert [texts[n] for n in (0, 6, 7, 49, -1)] == [EXAMPLES[n] for n in (0, 6, 7, 49, -1)]
    assert list(texts[5:40:3]) == EXAMPLES[5:40:3]
    with pytest.raises(IndexError):
        texts[50]


@pytest.mark.usefixtures("small_chunks")
def test_a_part_of_a_part_is_in_its_own_order() -> None:
    order = np.random.default_rng(0).permutation(50)
    part = store_texts(EXAMPLES, 2).take(order)
    assert list(part) == [EXAMPLES[n] for n in order]
    again = part.take(np.array([40, 3, 3]))
    assert list(again) == [EXAMPLES[order[n]] for n in (40, 3, 3)]


def test_the_texts_have_no_file_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    texts = store_texts([("one",), ("two",)], 1)
    assert list(tmp_path.iterdir()) == []
    assert list(texts) == [("one",), ("two",)]
    assert list(store_texts([], 2)) == []


KILLED = """
import os, signal
from harness.data.texts import CHUNK, store_texts

def rows():
    yield from [("one",)] * 2 * CHUNK
    os.kill(os.getpid(), signal.SIGKILL)

store_texts(rows(), 1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs SIGKILL and TMPDIR")
def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", KILLED], check=False, timeout=120, env=environment)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError("row 2"), OSError(5, "row 2")])
def test_an_error_of_the_rows_is_raised_as_it_is(error: Exception) -> None:
    def rows() -> Iterator[tuple[str, ...]]:
        yield ("one",)
        raise error

    with pytest.raises(type(error), match="row 2"):
        store_texts(rows(), 1)


class BrokenFile(io.FileIO):
    """A file on a disk that fails after 64 KiB."""

    def readinto(self, buffer: Any) -> int:
        if self.tell() > 2**16:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().readinto(memoryview(buffer)[: 2**14]) or 0


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
def test_a_read_error_in_the_middle_names_the_data_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"train{suffix}"
    write_rows(path)
    open_file = Path.open

    def open_broken(self: Path, mode: str = "r", **options: Any) -> Any:
        if self != path or mode != "r":  # the first look at the bytes succeeds
            return open_file(self, mode, **options)
        return io.TextIOWrapper(io.BufferedReader(BrokenFile(str(self))), **options)

    monkeypatch.setattr(Path, "open", open_broken)
    task = load_task("sst2")
    assert task.folder is not None
    with pytest.raises(DataError, match=rf"train\{suffix}: cannot be read \(Input/output error"):
        read_file(path, task, task.folder)


def test_a_temporary_folder_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/self/none")
    with pytest.raises(StorageError, match=r"^/proc/self/none: cannot be written"):
        store_texts([("one",)], 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("number", [1, 100_000])
def test_a_temporary_folder_without_room_is_one_line(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda: io.BufferedRandom(io.FileIO("/dev/full", "r+"))
    )
    with pytest.raises(StorageError, match=r": cannot be written \(No space left on device\)$"):
        store_texts([("one",)] * number, 1)


def write_rows(path: Path) -> None:
    """A file of `ROWS` rows of sst2's columns, some 6 MB of text."""
    sentences = [f"{n} " + "film " * 40 for n in range(ROWS)]
    labels = [str(n % 2) for n in range(ROWS)]
    if path.suffix == ".parquet":
        parquet.write_table(pa.table({"sentence": sentences, "label": labels}), path)
    elif path.suffix == ".jsonl":
        rows = zip(sentences, labels, strict=True)
        lines = [json.dumps({"sentence": text, "label": label}) for text, label in rows]
        path.write_text("\n".join(lines))
    else:
        mark = {".tsv": "\t", ".csv": ","}[path.suffix]
        rows = zip(sentences, labels, strict=True)
        lines = [f"sentence{mark}label", *(f"{text}{mark}{label}" for text, label in rows)]
        path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_no_reader_holds_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train{suffix}"
    write_rows(path)
    task = load_task("sst2")
    assert task.folder is not None
    tracemalloc.start()
    split = read_file(path, task, task.folder)
    digest = split.sha256
    half = split.take(np.arange(0, ROWS, 2))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Labels, ids and one chunk of examples; the texts alone are 6 MB.
    assert peak < 3_000_000
    assert isinstance(split.texts, ArrowTexts)
    assert isinstance(half.texts, ArrowTexts)
    assert digest == Split(tuple(split.texts), split.labels, split.ids).sha256
    assert half.texts[3] == split.texts[6]
