"""The demo's pre-trained encoder: a tiny BERT that is made in seconds, without a network.

Published ideas replace the hours of a real pre-training. The initial vector of a word shows the word's
concept, as a distributional vector would. Initial attention matches equal content (mimetic
initialisation, Trockman & Kolter 2023). The objective is a supervised replaced-token detection (after
ELECTRA, Clark et al. 2020) on fresh text of one task's kind: is a word at fault, and which is the
text's label? The steps train a shallow encoder, stack the layers to the full depth (Gong et al. 2019),
and go on with layers dropped at random (Fan et al. 2020).

Each task has its own encoder. One encoder for all tasks would need several times the steps: in the same
number of seconds it learns some tasks and misses others.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from harness.demo.examples import generate, vocabulary
from harness.demo.language import choice, text
from harness.demo.lexicon import LEXICON
from harness.demo.tasks import TASKS, DemoTask
from harness.runtime.cpu import one_thread

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_LENGTH = 64
IGNORE_INDEX = -100


class Stage(NamedTuple):
    """A stretch of pre-training at one depth.

    learning_rates: the first and the last rate, linear in between, after a warm-up.
    final_layer_drop: final probability of leaving a layer out of a step; the probability grows from 0
        over the first half of the stage.
    """

    num_layers: int
    steps: int
    learning_rates: tuple[float, float]
    final_layer_drop: float


STAGES = (
    Stage(num_layers=4, steps=300, learning_rates=(2e-3, 1.5e-3), final_layer_drop=0.0),
    Stage(num_layers=12, steps=240, learning_rates=(1.5e-3, 1e-4), final_layer_drop=0.7),
)
CORPUS_SIZE = 16_384
BATCH_SIZE = 64
BATCHES_PER_POOL = 16
WARM_UP_STEPS = 20
FAULT_WEIGHT = 6.0
"""The weight in the loss of a word at fault; other words, which are far more frequent, have weight 1."""


def write_encoder(
    folder: Path,
    task: str,
    seed: int = 0,
    stages: Sequence[Stage] = STAGES,
    advance: Callable[[int], None] = lambda steps: None,
) -> None:
    """Pre-train the encoder of a demo task; write encoder and tokenizer in Hugging Face format.

    The function makes the folder if there is none, and calls `advance(1)` after every step. It takes
    about 20 seconds on one core, and uses no more cores. The same seed gives the same weights on the
    same machine. Global random states stay as they were. Raises KeyError for a task that is not in
    `TASKS`.
    """
    rng = np.random.default_rng([list(TASKS).index(task), seed, 1])  # the data's key has no 1
    tokenizer = build_tokenizer()
    corpus = draw_corpus(tokenizer, task, rng, CORPUS_SIZE)
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        encoder = pretrain(corpus, TASKS[task], rng, stages, advance)
    encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_outline(folder: Path) -> None:
    """Write an untrained encoder of the same shape, and the same tokenizer."""
    initial_encoder(STAGES[-1].num_layers, np.random.default_rng(0)).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)


def source_files() -> list[Path]:
    """The modules that the encoders depend on: texts, labels and pre-training."""
    return sorted(Path(__file__).parent.glob("*.py"))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the vocabulary; pairs become [CLS] a [SEP] b [SEP], types 0 and 1."""
    ids = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *vocabulary()))}
    pad, unk, start, separator, mask = SPECIAL_TOKENS
    backend = Tokenizer(WordLevel(ids, unk_token=unk))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(
        single=f"{start}:0 $A:0 {separator}:0",
        pair=f"{start}:0 $A:0 {separator}:0 $B:1 {separator}:1",
        special_tokens=[(start, ids[start]), (separator, ids[separator])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=MAX_LENGTH,
        pad_token=pad,
        unk_token=unk,
        cls_token=start,
        sep_token=separator,
        mask_token=mask,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def initial_encoder(num_layers: int, rng: np.random.Generator) -> BertModel:
    """An encoder before pre-training, whose word vectors show concepts.

    Of the two attention heads of a layer one looks for equal content. The queries of the other head are
    almost zero, so this head averages.
    """
    width, num_heads = 48, 2
    config = BertConfig(
        vocab_size=len(SPECIAL_TOKENS) + len(LEXICON),
        hidden_size=width,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=2 * width,
        max_position_embeddings=MAX_LENGTH,
        hidden_dropout_prob=0.02,
        attention_probs_dropout_prob=0.0,
        initializer_range=width**-0.5,
    )
    encoder = BertModel(config)
    config.initializer_range = 0.02  # for the heads that fine-tuning puts on top
    vectors = torch.tensor(word_vectors(width, rng), dtype=torch.float32)
    with torch.no_grad():
        encoder.embeddings.word_embeddings.weight.copy_(vectors)
        encoder.embeddings.position_embeddings.weight.mul_(0.3)
        encoder.embeddings.token_type_embeddings.weight.mul_(0.7)
        for layer in encoder.encoder.layer:
            projection = 1.4 * nn.init.orthogonal_(torch.empty(width, width))
            layer.attention.self.query.weight.copy_(projection)
            layer.attention.self.key.weight.copy_(projection)
            layer.attention.self.query.weight[width // num_heads :].mul_(0.05)
            layer.attention.output.dense.weight.mul_(0.5)
            layer.output.dense.weight.mul_(0.5)
    return encoder


def word_vectors(width: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Unit vectors (num_tokens, width): the concept's vector, and a little of kind, form and word.

    Special tokens, which come first, get random directions.
    """
    shares = {"concept": 1.0, "kind": 0.3, "form": 0.4, "text": 0.2}
    parts: dict[tuple[str, str], npt.NDArray[np.float64]] = {}
    vectors: npt.NDArray[np.float64] = rng.normal(size=(len(SPECIAL_TOKENS) + len(LEXICON), width))
    for vector, word in zip(vectors[len(SPECIAL_TOKENS) :], LEXICON, strict=True):
        vector[:] = 0.0
        for name, share in shares.items():
            key = (name, getattr(word, name))
            vector += share * parts.setdefault(key, rng.normal(size=width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def stack(encoder: BertModel, num_layers: int) -> BertModel:
    """An encoder of `num_layers` layers, which repeats the encoder's layers in their order."""
    layers = encoder.encoder.layer
    config = BertConfig.from_dict({**encoder.config.to_dict(), "num_hidden_layers": num_layers})
    stacked_encoder = BertModel(config)
    stacked_encoder.embeddings.load_state_dict(encoder.embeddings.state_dict())
    stacked_encoder.pooler.load_state_dict(encoder.pooler.state_dict())
    for index, layer in enumerate(stacked_encoder.encoder.layer):
        layer.load_state_dict(layers[index % len(layers)].state_dict())
    return stacked_encoder


class Row(NamedTuple):
    """An example of the corpus as token ids, with its token types, faults and label (see `Batch`)."""

    input_ids: tuple[int, ...]
    token_type_ids: tuple[int, ...]
    faults: tuple[int, ...]
    label: int


class Batch(NamedTuple):
    """Rows of the corpus, padded to the longest: (B, S) int64 except `labels`.

    faults: 1 for a word at fault, 0 for another word, IGNORE_INDEX for special tokens and padding.
    labels: (B,) the task's true label, as an index into the `shares` of its `DemoTask`.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    attention_mask: Tensor
    faults: Tensor
    labels: Tensor


def draw_corpus(
    tokenizer: PreTrainedTokenizerFast, task: str, rng: np.random.Generator, size: int
) -> list[Row]:
    """Fresh examples of a task with their true labels. No example is in the task's splits."""
    ids: dict[str, int] = tokenizer.get_vocab()
    kind = TASKS[task]
    split_texts = {texts for split in generate(task).values() for texts in split.texts}
    corpus: list[Row] = []
    while len(corpus) < size:
        draw = choice(rng, list(kind.draws.values()))
        label = int(rng.integers(len(kind.shares)))
        example = draw(rng, label)
        if tuple(map(text, example)) in split_texts:
            continue
        tokens = [(ids["[CLS]"], 0, IGNORE_INDEX)]
        for segment, sentence in enumerate(example):
            tokens += [(ids[token.word], segment, int(token.fault)) for token in sentence]
            tokens.append((ids["[SEP]"], segment, IGNORE_INDEX))
        input_ids, types, faults = zip(*tokens, strict=True)
        corpus.append(Row(input_ids, types, faults, label))
    return corpus


def batches(corpus: Sequence[Row], rng: np.random.Generator) -> Iterator[Batch]:
    """Passes over the corpus without end. Rows of a batch have similar lengths, for less padding."""
    pool = BATCHES_PER_POOL * BATCH_SIZE
    while True:
        order = rng.permutation(len(corpus))
        for start in range(0, len(order) - pool + 1, pool):
            rows = sorted((corpus[i] for i in order[start : start + pool]), key=_length)
            for first in rng.permutation(BATCHES_PER_POOL) * BATCH_SIZE:
                yield _collate(rows[first : first + BATCH_SIZE])


def _length(row: Row) -> int:
    return len(row.input_ids)


def _collate(rows: Sequence[Row]) -> Batch:
    *columns, labels = zip(*rows, strict=True)
    input_ids, token_type_ids, faults = (
        pad_sequence([torch.tensor(values) for values in column], True, padding)
        for column, padding in zip(columns, (0, 0, IGNORE_INDEX), strict=True)
    )
    return Batch(
        input_ids=input_ids,
        token_type_ids=token_type_ids,
        attention_mask=(input_ids != 0).long(),
        faults=faults,
        labels=torch.tensor(labels),
    )


class PretrainingObjective(nn.Module):
    """The pre-training loss of a batch: which words are at fault, and which label the text has.

    The loss of a score is a regression, as in fine-tuning, so that the pooled state becomes linear in
    the score.
    """

    def __init__(self, width: int, task: DemoTask) -> None:
        super().__init__()
        self.is_score = task.is_score
        self.word_head = nn.Linear(width, 2)
        self.text_head = nn.Linear(width, 1 if task.is_score else len(task.shares))

    def forward(self, encoder: BertModel, batch: Batch) -> Tensor:
        """The mean loss over words, `FAULT_WEIGHT` on words at fault, plus the mean over texts."""
        output = encoder(
            input_ids=batch.input_ids,
            token_type_ids=batch.token_type_ids,
            attention_mask=batch.attention_mask,
        )
        word_loss = functional.cross_entropy(
            self.word_head(output.last_hidden_state).flatten(0, 1),
            batch.faults.flatten(),
            weight=torch.tensor([1.0, FAULT_WEIGHT]),
            ignore_index=IGNORE_INDEX,
        )
        labels = self.text_head(output.pooler_output)
        if self.is_score:
            return word_loss + functional.mse_loss(labels.squeeze(-1), batch.labels.float())
        return word_loss + functional.cross_entropy(labels, batch.labels)


def pretrain(
    corpus: Sequence[Row],
    task: DemoTask,
    rng: np.random.Generator,
    stages: Sequence[Stage],
    advance: Callable[[int], None],
) -> BertModel:
    """The encoder after all stages, in evaluation mode, because pre-training has no dropout."""
    stream = batches(corpus, rng)
    encoder = initial_encoder(stages[0].num_layers, rng).eval()
    objective = PretrainingObjective(encoder.config.hidden_size, task)
    for stage in stages:
        if stage.num_layers != len(encoder.encoder.layer):
            encoder = stack(encoder, stage.num_layers).eval()
        _train_stage(encoder, objective, stage, stream, rng, advance)
    return encoder


def _train_stage(
    encoder: BertModel,
    objective: PretrainingObjective,
    stage: Stage,
    stream: Iterator[Batch],
    rng: np.random.Generator,
    advance: Callable[[int], None],
) -> None:
    """Train encoder and objective in place; a dropped layer is left out for one step."""
    parameters = [*encoder.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
    all_layers = encoder.encoder.layer
    initial_rate, final_rate = stage.learning_rates
    for step in range(stage.steps):
        progress = step / stage.steps
        for group in optimizer.param_groups:
            rate = initial_rate + (final_rate - initial_rate) * progress
            group["lr"] = rate * min(1, (step + 1) / WARM_UP_STEPS)
        drop = stage.final_layer_drop * min(1, 2 * progress)
        layers = [layer for layer in all_layers if rng.random() >= drop] or [all_layers[0]]
        encoder.encoder.layer = nn.ModuleList(layers)
        loss = objective(encoder, next(stream))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        advance(1)
    encoder.encoder.layer = all_layers
