"""Texts on disk: the same examples as in memory, in any order, and only a few of them as objects."""

import json
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from harness.data import texts as stored
from harness.data.sources import Split, read_file
from harness.data.tasks import load_task
from harness.data.texts import ArrowTexts, store_texts
from harness.errors import StorageError

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


def test_an_error_of_the_rows_is_raised_as_it_is() -> None:
    def rows() -> Iterator[tuple[str, ...]]:
        yield ("one",)
        raise ValueError("row 2")

    with pytest.raises(ValueError, match="row 2"):
        store_texts(rows(), 1)


def test_a_temporary_folder_without_room_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/self/none")
    with pytest.raises(StorageError, match=r"^/proc/self/none: cannot be written"):
        store_texts([("one",)], 1)


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
