"""Small random checkpoints of encoders, each with a tokenizer of its family, from local files alone."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, trainers
from tokenizers.processors import BertProcessing
from transformers import (
    CONFIG_MAPPING,
    AlbertTokenizer,
    AutoModelForSequenceClassification,
    DebertaV2Tokenizer,
    DistilBertTokenizer,
    MPNetTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    XLMRobertaTokenizer,
)

from harness.demo.encoder import build_tokenizer
from harness.demo.examples import generate
from harness.runtime.randomness import global_seed

INNER = "intermediate_size"
SHAPE = {
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    INNER: 32,
    "max_position_embeddings": 70,
}


def written(folder: Path, config: PretrainedConfig) -> Path:
    with global_seed("family"):
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


@cache
def texts() -> list[str]:
    return [text for texts in generate("rte")["train"].texts for text in texts]


def pieces(special: list[str], unknown: str) -> list[tuple[str, float]]:
    """SentencePiece's kind of vocabulary, unigrams with their scores, trained on the demo's texts."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token=unknown, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    found = tokenizer.get_vocab()
    scores = {token: 0.0 if token in special else -5.0 - row / 100 for token, row in found.items()}
    return sorted(scores.items(), key=lambda item: found[item[0]])


@cache
def distilbert_tokenizer() -> PreTrainedTokenizerBase:
    return DistilBertTokenizer(vocab=build_tokenizer().get_vocab())


@cache
def albert_tokenizer() -> PreTrainedTokenizerBase:
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    return AlbertTokenizer(vocab=pieces(special, "<unk>"))


@cache
def deberta_tokenizer() -> PreTrainedTokenizerBase:
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    return DebertaV2Tokenizer(vocab=pieces(special, "[UNK]"))


@cache
def xlm_roberta_tokenizer() -> PreTrainedTokenizerBase:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return XLMRobertaTokenizer(vocab=pieces(special, "<unk>"))


@cache
def mpnet_tokenizer() -> PreTrainedTokenizerBase:
    own = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    words = [word for word in build_tokenizer().get_vocab() if word not in own]
    return MPNetTokenizer(vocab={word: row for row, word in enumerate([*own, *sorted(words)])})


@cache
def modernbert_tokenizer() -> PreTrainedTokenizerBase:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = ByteLevelBPETokenizer()
    backend.train_from_iterator(texts(), 400, special_tokens=special, show_progress=False)
    names = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
    tokenizer = backend._tokenizer
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **dict(zip(names, special, strict=True)),
    )


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "distilbert": distilbert_tokenizer,
    "albert": albert_tokenizer,
    "mpnet": mpnet_tokenizer,
    "deberta-v2": deberta_tokenizer,
    "modernbert": modernbert_tokenizer,
    "xlm-roberta": xlm_roberta_tokenizer,
}
DEBERTA_V3: dict[str, Any] = {
    **{"relative_attention": True, "position_biased_input": False, "pos_att_type": "p2c|c2p"},
    **{"position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True},
}
"""What DeBERTa-v3's configuration has beside its sizes."""
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {"hidden_dim": 32},
    "albert": {"embedding_size": 8, "hidden_dropout_prob": 0.1},
    "mpnet": {},
    "deberta-v2": DEBERTA_V3,
    "modernbert": {"local_attention": 8, "classifier_pooling": "mean"},
    "xlm-roberta": {"type_vocab_size": 1},
}
"""Keys of a family's own. The six families with a tokenizer here."""


def config_of(family: str, **changes: Any) -> PretrainedConfig:
    """A small configuration of a family, for its tokenizer here."""
    tokenizer = TOKENIZERS[family]()
    special = {
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "modernbert":
        special |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    shape = {key: size for key, size in SHAPE.items() if family != "distilbert" or key != INNER}
    sizes = {**shape, "vocab_size": len(tokenizer), "hidden_size": 16, **special, **OWN[family]}
    return CONFIG_MAPPING[family](**{**sizes, **changes})


def checkpoint(folder: Path, family: str, **changes: Any) -> Path:
    """A random classifier of a family in a folder, with the family's own tokenizer."""
    TOKENIZERS[family]().save_pretrained(folder)
    return written(folder, config_of(family, **changes))
