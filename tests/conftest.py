"""Shared pieces: a tiny random BERT, tiny data, and an opened ledger."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

if not torch.cuda.is_available():
    # Triton decides when it is imported, which happens with Hugging Face's classes.
    os.environ["TRITON_INTERPRET"] = "1"

from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from harness.cli.calibration import Rates
from harness.data.tokens import EncodedSplit
from harness.data.words import BEGINS, CONTINUES, WordMarks
from harness.demo.encoder import build_tokenizer
from harness.models.attention import ATTENTION
from harness.runtime.device import Arithmetic
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger

RATES = Rates(1e-11, 1e-10, 1e-9, 2e-5, deviation=0.25, measured="2026-01-31")
"""Rates of a machine, for plans."""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is measured once a machine goes to a folder of the tests, also in other processes."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def known_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans of this process have `RATES`, and measure nothing."""
    monkeypatch.setattr("harness.cli.command.machine_rates", lambda arithmetic: RATES)


VOCABULARY = 50
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
"""Sizes of a small configuration of any family."""


def tiny_bert(layers: int = 4, outputs: int = 2, seed: int = 0, width: int = 16) -> PreTrainedModel:
    """A random BERT classifier of that depth."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=outputs,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForSequenceClassification.from_config(config, attn_implementation=ATTENTION)


def tiny_inputs(examples: int = 40, seed: int = 0) -> EncodedSplit:
    """Random token ids with lengths from 4 to 24."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 25, size=examples)
    ids = rng.integers(5, VOCABULARY, size=int(lengths.sum())).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return EncodedSplit(ids, np.zeros(len(ids), dtype=np.uint8), offsets, pad_id=0)


def tiny_marks() -> WordMarks:
    """Marks for the tokens of `tiny_inputs`: every third one goes on with a word."""
    kinds = np.where(np.arange(VOCABULARY) % 3 == 0, CONTINUES, BEGINS).astype(np.uint8)
    return WordMarks(torch.from_numpy(kinds))


def tiny_batch(inputs: EncodedSplit, rows: Sequence[int], width: int) -> dict[str, Tensor]:
    """A padded batch of those examples, each tensor (B, width)."""
    return inputs.tokens(torch.device("cpu")).batch(torch.tensor(rows), width)


def write_bert(
    folder: Path,
    layers: int,
    positions: int,
    tokenizer: PreTrainedTokenizerFast | None = None,
    seed: int = 0,
    **more: float,
) -> None:
    """A small random BERT and a tokenizer, by default the demo's, in a folder."""
    tokenizer = tokenizer or build_tokenizer()
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, **more}
    config = BertConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=layers,
        max_position_embeddings=positions,
        **sizes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)


def text_without_links(page: Path) -> str:
    """A page without its links to files: their names depend on where the page lies."""
    return re.sub('<a href="[^"#]*">.*?</a>(?: · )?', "", page.read_text())


def small_study(out: Path, encoder: Path, *more: str) -> list[str]:
    """Arguments of a demo study on settings that takes seconds: 2 settings, 2 seeds of two methods."""
    counts = ("--trials", "2", "--seeds", "2", "protocol.unit=settings")
    return [*_demo_of_seconds(out, encoder), *counts, *more]


def small_pools(out: Path, encoder: Path, *more: str) -> list[str]:
    """Arguments of a demo study on methods that takes seconds: pools of 4 trials of two methods."""
    return [*_demo_of_seconds(out, encoder), "--trials", "4", "protocol.budget=2", *more]


def _demo_of_seconds(out: Path, encoder: Path) -> list[str]:
    return [
        *("--preset", "demo", "--method", "alp", "--task", "rte"),
        *("--out", str(out), "--json", "--allow-weak-teacher"),
        f"teacher.pretrained={encoder}",
        *("teacher.epochs=1", "training.epochs=1", "student.layers=2", "training.batch_size=64"),
        "threads=1",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: at the end no process waits for another's last long file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def arithmetic() -> Arithmetic:
    """fp32 on the CPU."""
    return Arithmetic(torch.device("cpu"), bf16=False)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger in a temporary folder."""
    opened = Ledger(storage_url(tmp_path, None))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def glue_folder() -> Path:
    """The folder of real GLUE files; skips where there is none."""
    given = os.environ.get("HARNESS_GLUE")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "glue"
    if not folder.is_dir():
        pytest.skip("no real GLUE data: set HARNESS_GLUE to a folder of official TSV files")
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small random BERT and the demo's tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    write_bert(folder, layers=4, positions=64)
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny tensors are faster on one thread."""
    torch.set_num_threads(1)
