"""Tokenised splits: made once, mapped into memory, rebuilt when damaged; batches without host work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.config import ProtocolConfig, SourceConfig
from harness.data import tokens as inputs
from harness.data.sources import load_task_data
from harness.data.splits import Split
from harness.data.tasks import load_task
from harness.data.texts import Texts
from harness.data.tokens import EncodedSplit, encode, encoded_split
from harness.models.checkpoints import tokenizer_fingerprint, tokenizer_of
from tests.conftest import tiny_inputs


@pytest.fixture(scope="module")
def split() -> Split:
    return load_task_data(load_task("rte"), SourceConfig(), ProtocolConfig()).selection


def test_tokens_are_made_once_and_mapped(
    tmp_path: Path, tiny_encoder: Path, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_of(tiny_encoder)
    first = encoded_split(tmp_path / "tokens", split, tokenizer, 64)
    expected = encode(split.texts, tokenizer, 64)
    monkeypatch.setattr(inputs, "encode", None)
    again = encoded_split(tmp_path / "tokens", split, tokenizer, 64)
    for found in (first, again):
        assert found.pad_id == expected.pad_id
        for name in ("ids", "types", "offsets"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))
            assert isinstance(getattr(found, name), np.memmap)


def test_pieces_are_the_tokens_of_the_whole(
    tmp_path: Path, tiny_encoder: Path, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_of(tiny_encoder)
    sizes: list[int] = []
    real = inputs.encode

    def counted(texts: Texts, *more: Any) -> EncodedSplit:
        sizes.append(len(texts))
        return real(texts, *more)

    monkeypatch.setattr(inputs, "CHUNK", 70)
    monkeypatch.setattr(inputs, "encode", counted)
    pieces = encoded_split(tmp_path / "tokens", split, tokenizer, 64)
    assert sizes == [*[70] * 7, 10]
    expected = encode(split.texts, tokenizer, 64)
    for name in ("ids", "types", "offsets"):
        np.save(tmp_path / f"{name}.npy", getattr(expected, name))
        written = (tmp_path / "tokens" / f"{name}.npy").read_bytes()
        assert written == (tmp_path / f"{name}.npy").read_bytes()
        assert np.array_equal(getattr(pieces, name), getattr(expected, name))


def test_damaged_tokens_are_made_again(tmp_path: Path, tiny_encoder: Path, split: Split) -> None:
    tokenizer = tokenizer_of(tiny_encoder)
    expected = np.array(encoded_split(tmp_path / "tokens", split, tokenizer, 64).ids)
    (tmp_path / "tokens" / "ids.npy").write_bytes(b"nothing")
    assert np.array_equal(encoded_split(tmp_path / "tokens", split, tokenizer, 64).ids, expected)


def test_another_tokenizer_has_another_fingerprint(tmp_path: Path, tiny_encoder: Path) -> None:
    for name in ("a", "b"):
        tokenizer_of(tiny_encoder).save_pretrained(tmp_path / name)
    assert tokenizer_fingerprint(tmp_path / "a") == tokenizer_fingerprint(tmp_path / "b")
    (tmp_path / "b" / "vocab.txt").write_text("other")
    assert tokenizer_fingerprint(tmp_path / "a") != tokenizer_fingerprint(tmp_path / "b")


def test_a_batch_holds_its_rows_and_padding() -> None:
    given = tiny_inputs(10)
    rows = torch.tensor([[3, 9], [0, 4]])
    batch = given.tokens(torch.device("cpu")).batch(rows, 24)
    for place in np.ndindex(2, 2):
        row = int(rows[place])
        own = given.ids[given.offsets[row] : given.offsets[row + 1]]
        assert batch["input_ids"][place].tolist() == [*own.tolist(), *[0] * (24 - len(own))]
        assert batch["attention_mask"][place].tolist() == [1] * len(own) + [0] * (24 - len(own))
        assert batch["token_type_ids"][place].sum() == 0


def test_a_part_of_a_split_is_its_examples() -> None:
    given = tiny_inputs(10)
    part = given.part(np.array([7, 2]))
    assert part.lengths.tolist() == given.lengths[[7, 2]].tolist()
    assert part.ids[part.offsets[1] :].tolist() == (
        given.ids[given.offsets[2] : given.offsets[3]].tolist()
    )


@pytest.mark.parametrize("examples", [2, 3, 7])
def test_repeated_examples_are_those_of_their_numbers(examples: int) -> None:
    given = tiny_inputs(3)
    repeated, expected = given.repeated(examples), given.part(np.arange(examples) % 3)
    assert repeated.pad_id == expected.pad_id
    for name in ("ids", "types", "offsets"):
        assert np.array_equal(getattr(repeated, name), getattr(expected, name))


def test_the_vocabulary_is_what_occurs_and_the_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    given = tiny_inputs(10)
    assert given.vocabulary().tolist() == sorted({0, *given.ids.tolist()})
    monkeypatch.setattr(inputs, "MOST_INDICES", 9)
    for pad_id in (0, 3, 70):
        vocabulary = replace(given, pad_id=pad_id).vocabulary()
        assert vocabulary.tolist() == np.union1d(given.ids, [pad_id]).tolist()
        assert vocabulary.dtype == torch.int64
