"""Counts of tokens by hand, and a tokenizer that does not belong to its encoder."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from harness.config import ChecksConfig
from harness.data.facts import fact_warnings, refuse_unknown, token_shares
from harness.data.tokens import TokenCounts, encode
from harness.errors import TeacherError
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.manifest import SplitFacts
from harness.study import main
from tests.conftest import small_pools, write_bert


def words_tokenizer(*words: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, with [CLS] and [SEP]."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def test_tokens_are_counted_by_hand() -> None:
    tokenizer = words_tokenizer("a", "b")
    texts = [("a b a",), ("a b c",), ("a b a b",), ("x " * 20,), ("",)]
    # At 5 tokens three words fit: the last two examples with words are cut.
    assert encode(texts, tokenizer, 5).counts == TokenCounts(truncated=2, words=12, unknown=1 + 3)
    assert encode(texts, tokenizer, 40).counts == TokenCounts(truncated=0, words=30, unknown=1 + 20)


def test_cut_pairs_are_counted() -> None:
    tokenizer = words_tokenizer("a", "b")
    texts = [("a", "b b"), ("a", "b b b"), ("a a a a", "b")]
    assert encode(texts, tokenizer, 6).counts.truncated == 2


def facts(**counts: Any) -> dict[str, SplitFacts]:
    values = {"left_out": 0, "duplicates": 0, "truncated": 0, "words": 1000, "unknown": 0, **counts}
    return {"validation": SplitFacts(examples=100, **values)}


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"truncated": 5, "unknown": 20, "duplicates": 10}, []),
        (
            {"truncated": 6},
            ["6.0 % of validation have more than 128 tokens", "training.max_length"],
        ),
        ({"unknown": 21}, ["does not know 2.1 % of validation"]),
        ({"duplicates": 11}, ["11.0 % of validation have the texts of training examples"]),
        ({"words": 0}, ["does not know 100.0 % of validation"]),
    ],
)
def test_unusual_shares_are_named(counts: dict[str, int], words: list[str]) -> None:
    sentences = " ".join(fact_warnings("rte", facts(**counts), ChecksConfig(), 128))
    assert bool(sentences) == bool(words)
    for word in words:
        assert word in sentences


def test_the_usual_shares_are_keys_of_the_configuration() -> None:
    checks = ChecksConfig(usual_truncated=0.5, usual_unknown=0.5)
    assert not fact_warnings("rte", facts(truncated=50, unknown=500), checks, 128)


def test_a_tokenizer_that_knows_less_than_half_is_refused() -> None:
    refuse_unknown("rte", "there", facts(unknown=500), ChecksConfig())
    with pytest.raises(
        TeacherError, match=r"does not know 50\.1 % of the tokens of the split 'val"
    ):
        refuse_unknown("rte", "there", facts(unknown=501), ChecksConfig())
    refuse_unknown("rte", "there", facts(unknown=501), ChecksConfig(most_unknown=1.0))


def test_both_shares_are_said() -> None:
    assert token_shares(facts(truncated=12, unknown=5), 128) == (
        "examples cut at 128 tokens: 12.0 % of validation; unknown tokens: 0.5 % of validation"
    )


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    write_bert(tmp_path / "encoder", layers=4, positions=64)
    return tmp_path / "encoder"


def refusal(out: Path, encoder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The last line of a command that is refused."""
    assert main(small_pools(out, encoder, *more)) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_folder_without_a_tokenizer_is_refused(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in encoder.glob("tokenizer*"):
        file.unlink()
    message = refusal(tmp_path / "runs", encoder, capsys)
    assert message.startswith(f"error: {encoder}: has no tokenizer (tokenizer.json or vocab.txt)")


def test_a_tokenizer_of_another_case_is_refused(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = encoder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"] = {
        word if word.startswith("[") else word.upper(): number
        for word, number in values["model"]["vocab"].items()
    }
    path.write_text(json.dumps(values))
    message = refusal(tmp_path / "runs", encoder, capsys)
    assert re.search(
        r"the tokenizer of .* does not know \d+\.\d % of the tokens of the split", message
    )
    # The permission of that share: the study goes on and warns.
    out = tmp_path / "allowed"
    assert main(small_pools(out, encoder, "checks.most_unknown=1.0")) == 0
    assert "warning: rte: the tokenizer does not know" in capsys.readouterr().err
    (report,) = out.glob("*/report.html")
    assert "rte: the tokenizer does not know" in report.read_text()


def test_a_task_that_is_cut_is_told_everywhere(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert main(small_pools(out, encoder, "training.max_length=8")) == 0
    captured = capsys.readouterr()
    assert "rte: examples cut at 8 tokens: 100.0 % of train, 100.0 % of selection" in captured.err
    assert "warning: rte: 100.0 % of train" in captured.err
    (report,) = out.glob("*/report.html")
    with closing(Ledger(storage_url(out, None))) as ledger:
        facts = ledger.manifest(report.parent.name).tasks["rte"].splits
    assert {name: split.truncated for name, split in facts.items()} == {
        "train": 700,
        "selection": 500,
        "validation": 800,
    }
    card = next(out.glob("students/*/*/README.md")).read_text()
    for text in (report.read_text(), card):
        assert "have more than 8 tokens, and their ends are cut off" in text
    assert "| train | 0 | - | 100.0 | 0.0 |" in card
    assert "| validation | 0 | 0 | 100.0 | 0.0 |" in card
