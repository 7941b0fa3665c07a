"""The members of a population, and the recipe that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from harness.config import TrainingConfig
from harness.data.batches import LengthSchedule
from harness.data.tokens import EncodedSplit, Tokens
from harness.data.words import WordMarks
from harness.errors import MethodError
from harness.method import Method, Value, View
from harness.models.families import can_stack
from harness.models.teacher_outputs import TeacherOutputs
from harness.runtime.device import Arithmetic


@dataclass(frozen=True)
class Member:
    """One run of a population: initial weights by name, a method, its setting and the run's seed."""

    weights: Mapping[str, Tensor]
    method: Method | None
    setting: Mapping[str, Value]
    seed: int


@dataclass(frozen=True)
class Recipe:
    """The data and settings that all members of a population share.

    `model` is the configuration of the classifiers that are trained. `inputs` and, on the device,
    `labels` (examples,) are the training split; `teacher` holds the teacher's outputs for this split.
    `weights` says how loss terms are weighted: "convex" or "simplex".
    """

    model: PretrainedConfig
    inputs: EncodedSplit
    labels: Tensor
    teacher: TeacherOutputs | None
    regression: bool
    view: View
    training: TrainingConfig
    weights: str
    arithmetic: Arithmetic
    live_teacher: PreTrainedModel | None = None
    """The teacher itself, where the view needs more than the teacher's cached outputs."""
    label_weights: Tensor | None = None
    """Weights of the examples in the label loss (examples,), on the device; by default each has 1."""
    words: Tensor | None = None
    """Token ids whose embeddings are trained (words,); by default the ids that occur in `inputs`."""
    word_marks: WordMarks | None = None
    """How tokens make up words, on the device, where the view needs words."""

    @cached_property
    def vocabulary(self) -> Tensor:
        """Token ids whose embeddings are trained, sorted (words,)."""
        return self.inputs.vocabulary() if self.words is None else self.words

    @cached_property
    def tokens(self) -> Tokens:
        """The training split on the device."""
        return self.inputs.tokens(self.arithmetic.device)

    def schedule(self) -> LengthSchedule:
        """The padded lengths of every step, common to all members."""
        return LengthSchedule(self.inputs.lengths, self.training.batch_size)


def engine_of(
    engine: Literal["auto", "stacked", "reference"], model: PretrainedConfig
) -> Literal["stacked", "reference"]:
    """The engine that trains classifiers of a configuration: `engine`, with "auto" resolved.

    Raises:
        MethodError: the stacked engine cannot train this kind of encoder.
    """
    if engine == "stacked" and not can_stack(model):
        raise MethodError(
            f"training.engine=stacked: '{model.model_type}' encoders cannot be stacked; leave it at auto"
        )
    return "stacked" if engine != "reference" and can_stack(model) else "reference"
