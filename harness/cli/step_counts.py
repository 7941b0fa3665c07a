"""Counts of a step's work: operations of products, bytes moved, calls, and memory, without any numbers.

Steps are the training's own, on tensors of the device "meta". The work of a step is a polynomial of the
second degree in the padded length, and grows by equal parts with the encoder's depth. So a few small
steps tell the work of all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from harness.config import TrainingConfig
from harness.data.tokens import EncodedSplit
from harness.method import Layers, Method, View
from harness.models.families import set_depth
from harness.models.student import new_classifier
from harness.models.teacher_outputs import TeacherOutputs
from harness.runtime.device import Arithmetic
from harness.runtime.operations import OperationCounter
from harness.training.live_teacher import LiveTeacher
from harness.training.population import Population
from harness.training.recipe import Member, Recipe

META = Arithmetic(torch.device("meta"), bf16=False)
DEPTHS = (2, 3)
"""Layers of counted encoders. The last layer may do less than the others."""
LONGEST_MASK = 1 << 40
"""Numbers of a mask that no step exceeds. On `META` they take no memory."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Work:
    """The work of steps of one run.

    `products` are multiplications and additions of products, `moved` are bytes that operations read and
    write, `calls` are operations of torch, and `held` are the most bytes that a step holds at a time,
    besides weights and moments.
    """

    products: float
    moved: float
    calls: float
    held: float

    @cached_property
    def values(self) -> Values:
        """The four numbers, in the order of the fields (4,)."""
        return np.array([self.products, self.moved, self.calls, self.held])


class Profile:
    """The work of a step of `rows` examples as a function of the padded length."""

    def __init__(self, rows: int, works: Mapping[int, Values]) -> None:
        self.rows = rows
        self.works = dict(works)
        widths = np.array([*works], dtype=np.float64)
        self._powers = np.linalg.solve(np.vander(widths), np.stack([*works.values()]))

    def at(self, width: int, rows: int | None = None) -> Work:
        """The work of a step of a padded length. Calls do not depend on the number of `rows`."""
        share = 1.0 if rows is None else rows / self.rows
        values = np.vander([float(width)], len(self.works))[0] @ self._powers
        scale = np.array([share, share, 1.0, share])
        return Work(*(np.maximum(values, 0.0) * scale).tolist())

    def scaled(self, works: Mapping[int, Work]) -> Profile:
        """The profile of another step known at some widths: of this form from each to the next."""
        ratios = {
            width: work.values / np.maximum(self.at(width).values, 1.0)
            for width, work in sorted(works.items())
        }

        def ratio(place: int) -> Values:
            return ratios[max((w for w in ratios if w <= place), default=min(ratios))]

        return Profile(
            self.rows, {place: values * ratio(place) for place, values in self.works.items()}
        )


def split_of(rows: int, width: int) -> EncodedSplit:
    """Made-up examples of one length."""
    ids = np.ones(rows * width, dtype=np.int32)
    offsets = np.arange(rows + 1, dtype=np.int64) * width
    return EncodedSplit(ids, np.zeros(rows * width, dtype=np.uint8), offsets, pad_id=0)


def on_meta(shape: PretrainedConfig) -> PreTrainedModel:
    """A classifier without numbers."""
    with META.device:
        return new_classifier(shape).eval()


def recipe_of(
    shape: PretrainedConfig, training: TrainingConfig, rows: int, width: int, arithmetic: Arithmetic
) -> Recipe:
    """A recipe for made-up examples with two classes."""
    return Recipe(
        model=shape,
        inputs=split_of(rows, width),
        labels=torch.zeros(rows, dtype=torch.int64, device=arithmetic.device),
        teacher=None,
        regression=False,
        view=View("cls"),
        training=replace(training, epochs=1000, batch_size=rows),
        weights="convex",
        arithmetic=arithmetic,
    )


def random_outputs(shape: PretrainedConfig, rows: int, device: torch.device) -> TeacherOutputs:
    """A teacher's outputs for made-up examples, of which only the shapes matter."""
    size = (rows, int(shape.num_hidden_layers), int(shape.hidden_size))
    return TeacherOutputs(
        torch.ones(rows, 2, device=device), torch.ones(size, dtype=torch.float16, device=device)
    )


def count_step(recipe: Recipe, member: Member, live: Layers | None = None) -> Work:
    """The work of one step on all examples of a recipe on `META`: forward and backward.

    `live` are the layers of the live teacher, where the recipe has one: its own work is not counted.
    """
    population = Population([member], recipe)
    if live is not None:
        population.live_teacher = _Given(live)
    rows = torch.arange(len(recipe.inputs.lengths))[None]
    width = int(recipe.inputs.lengths.max())
    population.key.mask(0, (1, LONGEST_MASK), 1, torch.float32)  # makes what all masks share
    return _count(lambda: population.add_gradients(rows, width, 0))


class _Given(LiveTeacher):
    """A live teacher whose layers are known."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    def layers(self, batch: Mapping[str, Tensor]) -> Layers:
        """The known layers."""
        return self._layers


def live_outputs(recipe: Recipe) -> Layers:
    """The layers of a live teacher for all examples of a recipe on `META`."""
    rows = torch.arange(len(recipe.inputs.lengths))[None]
    inputs = recipe.tokens.batch(rows, int(recipe.inputs.lengths.max()))
    return LiveTeacher(recipe, [0]).layers(inputs)


def count_live(recipe: Recipe) -> Work:
    """The work of a live teacher in one step on all examples of a recipe on `META`."""
    held: list[object] = []  # as the methods hold it
    return _count(lambda: held.append(live_outputs(recipe)))


def encoder_profile(
    shape: PretrainedConfig,
    rows: int,
    widths: Sequence[int],
    count: Callable[[PretrainedConfig, int], Work],
) -> Profile:
    """The profile of an encoder's step, from shallow encoders of the same sizes.

    `count` gives the work for a configuration and one of the padded lengths `widths`.
    """
    depth = int(shape.num_hidden_layers)
    works: dict[int, Values] = {}
    for width in widths:
        first, second = (count(with_layers(shape, layers), width).values for layers in DEPTHS)
        works[width] = first + (depth - DEPTHS[0]) * (second - first)
    return Profile(rows, works)


def with_layers(shape: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The same configuration with another depth."""
    shallow = copy.deepcopy(shape)
    set_depth(shallow, range(layers))
    return shallow


def member_of(
    weights: Mapping[str, Tensor],
    method: Method | None = None,
    setting: Mapping[str, float | int | str | bool] | None = None,
    seed: int = 0,
) -> Member:
    """A run with these weights, at a low rate."""
    return Member(weights, method, setting or {"learning_rate": 1e-6}, seed)


def _count(step: Callable[[], object]) -> Work:
    counter = OperationCounter()
    with counter:
        step()
    counts = counter.counts.values()
    return Work(
        products=sum(count.operations for count in counts),
        moved=sum(count.moved for count in counts),
        calls=float(sum(count.calls for count in counts)),
        held=float(counter.peak),
    )
