"""Profiles of the steps of a plan: each kind of step is counted once, for all tasks of a command."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from harness.cli.step_counts import (
    META,
    Profile,
    Work,
    count_live,
    count_step,
    encoder_profile,
    live_outputs,
    member_of,
    on_meta,
    random_outputs,
    recipe_of,
)
from harness.config import TrainingConfig
from harness.data.words import WordMarks
from harness.method import Layers, Method, Need, Shapes, Value, View
from harness.registry.construction import make_method
from harness.training.recipe import Recipe


@dataclass(frozen=True)
class CountedStep:
    """A step that is counted: the classifier in training, and how it is trained.

    The classifier has two classes, whatever the task has: outputs are no part of a step that counts.
    """

    shape: PretrainedConfig
    training: TrainingConfig

    def __post_init__(self) -> None:
        shape = copy.deepcopy(self.shape)
        shape.num_labels = 2
        shape.problem_type = None
        object.__setattr__(self, "shape", shape)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for steps with the same counts."""
        names = self.shape.to_dict().keys() - {
            "id2label",
            "label2id",
            "problem_type",
            "_name_or_path",
        }
        sizes = {name: getattr(self.shape, name) for name in names}
        return (type(self.shape), repr(sorted(sizes.items())), self.training)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CountedStep) and self.key == other.key

    def recipe(self, shape: PretrainedConfig, width: int) -> Recipe:
        """The recipe of a step of an encoder, with one word in training: words count as weights."""
        recipe = recipe_of(shape, self.training, self.training.batch_size, width, META)
        return replace(recipe, words=torch.arange(1))


@cache
def plain_profile(step: CountedStep) -> Profile:
    """The work of a step without a method, by its padded length."""

    def count(shape: PretrainedConfig, width: int) -> Work:
        return _plain_work(CountedStep(shape, step.training), width)

    rows, longest = step.training.batch_size, step.training.max_length
    return encoder_profile(step.shape, rows, (longest // 4, longest // 2, longest), count)


@cache
def _plain_work(step: CountedStep, width: int) -> Work:
    """The work of a step at one length. Encoders of several depths share their shallow ones."""
    return count_step(step.recipe(step.shape, width), member_of(_weights(step)))


@cache
def _weights(step: CountedStep) -> dict[str, Tensor]:
    """The weights of a step's classifier, without numbers."""
    return dict(on_meta(step.shape).state_dict())


@cache
def live_profile(step: CountedStep, needs: frozenset[Need] = frozenset()) -> Profile:
    """The work of a live teacher, or of a teacher's outputs, in a step, by its padded length."""
    rows, longest = step.training.batch_size, step.training.max_length

    def count(shape: PretrainedConfig, width: int) -> Work:
        return count_live(_live_recipe(step, shape, width, needs))

    if not needs:
        return encoder_profile(step.shape, rows, (longest // 4, longest // 2, longest), count)
    return live_profile(step).scaled(
        {
            width: encoder_profile(step.shape, rows, (width,), count).at(width)
            for width in _counted_widths(longest, needs)
        }
    )


def _counted_widths(longest: int, needs: frozenset[Need]) -> tuple[int, ...]:
    """The padded lengths at which a method's step is counted.

    With needs it may hold scores of pairs of tokens, which a plain step does not hold. So its memory at
    the full length does not follow from a shorter one.
    """
    return (longest // 2, longest) if needs else (longest // 2,)


def _live_recipe(
    step: CountedStep, shape: PretrainedConfig, width: int, needs: frozenset[Need]
) -> Recipe:
    view = View("cls", needs)
    return replace(
        step.recipe(shape, width),
        view=view,
        live_teacher=_live_teacher(CountedStep(shape, step.training)),
    )


@cache
def _live_teacher(step: CountedStep) -> PreTrainedModel:
    return on_meta(step.shape)


@cache
def method_profile(
    step: CountedStep,
    teacher: CountedStep,
    method: type[Method],
    shapes: Shapes,
    view: View,
    setting: tuple[tuple[str, Value], ...],
    weights: str,
) -> tuple[Profile, bool]:
    """The work of a step of a method, without its live teacher, and whether it could be counted.

    A method whose step reads numbers on the host cannot be counted: the work is that of a plain step.
    """
    plain, values = plain_profile(step), dict(setting)
    rows, longest = step.training.batch_size, step.training.max_length

    def count(width: int) -> Work:
        recipe = replace(
            step.recipe(step.shape, width),
            view=view,
            teacher=random_outputs(teacher.shape, rows, META.device),
            live_teacher=_live_teacher(teacher),
            weights=weights,
            word_marks=WordMarks(torch.zeros(1, dtype=torch.uint8, device=META.device)),
        )
        live = live_layers(teacher, width, view.needs) if view.needs else None
        made = make_method(method, shapes, values, 0)
        work = count_step(recipe, member_of(_weights(step), made, values), live)
        if view.needs:
            work = replace(work, held=work.held + live_profile(teacher, view.needs).at(width).held)
        return work

    try:
        works = {width: count(width) for width in _counted_widths(longest, view.needs)}
    except NotImplementedError:  # torch's error where numbers are asked of a tensor without any
        return plain, False
    return plain.scaled(works), True


@cache
def live_layers(teacher: CountedStep, width: int, needs: frozenset[Need]) -> Layers:
    """What a live teacher gives in a step, without its numbers."""
    return live_outputs(_live_recipe(teacher, teacher.shape, width, needs))
