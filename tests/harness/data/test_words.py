"""Words of tokens, against the tokenizers' own words and the spaces of texts."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from harness.data.words import BEGINS, CONTINUES, word_marks
from harness.demo.encoder import build_tokenizer

FIRST = ["The lighthouse keeper sleeps.", "An unbelievably long rainstorm!", "no"]
SECOND = ["Nobody wakes him up,", "It floods the harbours.", "yes no maybe"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def trained(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer whose pieces are short, so that most words have several."""
    texts = FIRST + SECOND
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=80, special_tokens=SPECIAL)
    elif kind == "byte-level":
        tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=60, special_tokens=SPECIAL, unk_token="[UNK]", max_piece_length=4
        )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level", "metaspace"])
def test_words_are_those_of_the_texts(kind: str) -> None:
    """In WordPiece as the tokenizer splits texts, elsewhere what stands between spaces."""
    tokenizer = trained(kind)
    encoding = tokenizer(FIRST, SECOND, padding=True, return_tensors="pt")
    found = word_marks(tokenizer).words(encoding["input_ids"], encoding["attention_mask"] > 0)
    pieces = 0
    for example, row in enumerate(found.tolist()):
        seen: list[tuple[int, int]] = []
        for place, word in enumerate(row):
            sequence = encoding.encodings[example].sequence_ids[place]
            if sequence is None:
                assert word == -1
                continue
            if kind == "wordpiece":
                number = encoding.encodings[example].word_ids[place]
            else:
                _, end = encoding.encodings[example].offsets[place]
                before = (FIRST, SECOND)[sequence][example][:end]
                number = len(before.split()) - (not before.endswith(" "))
            key = (sequence, number)
            pieces += key in seen
            seen += [key] if key not in seen else []
            assert word == seen.index(key)
    assert pieces > 10


def test_unknown_words_are_words_and_padding_is_none() -> None:
    tokenizer = build_tokenizer()
    ids = torch.tensor([tokenizer("quux", "xyzzy plugh")["input_ids"]])
    assert ids.tolist()[0].count(tokenizer.unk_token_id) == 3
    mask = torch.tensor([[True] * 5 + [False]])
    assert word_marks(tokenizer).words(ids, mask).tolist() == [[-1, 0, -1, 1, 2, -1]]


def test_a_few_pieces_of_another_kind_mark_nothing() -> None:
    """BERT's vocabulary has the letter Ġ, and that of GPT-2 has pieces of hashes."""
    words = ["[UNK]", "Ġa", "##b", "##c", "a", "▁a"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    assert word_marks(fast).kinds.tolist() == [BEGINS, BEGINS, CONTINUES, CONTINUES, BEGINS, BEGINS]


def test_without_marks_each_token_is_a_word() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    ids = torch.tensor([[1, 2, 0, 1]])
    found = word_marks(fast).words(ids, torch.ones(1, 4, dtype=torch.bool))
    assert found.tolist() == [[0, 1, 2, 3]]
