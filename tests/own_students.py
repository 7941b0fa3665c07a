"""Checkpoints for students of their own: narrow random encoders, with one of two tokenizers."""

import json
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from harness.data.tasks import load_task
from harness.demo.encoder import SPECIAL_TOKENS, build_tokenizer
from harness.demo.examples import generate
from tests.conftest import write_bert


def other_tokenizer() -> PreTrainedTokenizerFast:
    """The demo's words by other ids, some of them unknown, and two separators inside of a pair."""
    parts = json.loads(build_tokenizer().backend_tokenizer.to_str())
    words = [word for word in parts["model"]["vocab"] if word not in SPECIAL_TOKENS]
    known = [word for number, word in enumerate(words) if number % 40]
    ids = {word: number for number, word in enumerate((*SPECIAL_TOKENS, *reversed(known)))}
    parts["model"]["vocab"] = ids
    pair = parts["post_processor"]["pair"]
    pair.insert(3, {"SpecialToken": {"id": "[SEP]", "type_id": 0}})
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)),
        model_max_length=64,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def write_student(
    folder: Path, *, layers: int = 2, own_tokens: bool = False, seed: int = 1, dropout: float = 0.1
) -> Path:
    """A random BERT of width 12 with 3 heads."""
    write_bert(
        folder,
        layers,
        64,
        other_tokenizer() if own_tokens else None,
        seed,
        hidden_size=12,
        num_attention_heads=3,
        intermediate_size=20,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.3,  # so that outputs differ between examples
    )
    return folder


def write_rte(folder: Path, train: int, validation: int) -> Path:
    """The demo's examples of rte as a folder of GLUE files."""
    (folder / "RTE").mkdir(parents=True)
    made = generate("rte", train_size=train, validation_size=validation)
    names = load_task("rte").labels
    for name, split in (("train", made["train"]), ("dev", made["validation"])):
        lines = ["index\tsentence1\tsentence2\tlabel"]
        for row, (texts, label) in enumerate(zip(split.texts, split.labels, strict=True)):
            lines.append("\t".join([str(row), *texts, names[int(label)]]))
        (folder / "RTE" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder
