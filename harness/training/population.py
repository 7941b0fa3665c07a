"""A population: runs that are trained together as one network, with one backward for all of them.

Nothing that a member computes depends on other members. Initial weights, order of examples, dropout,
learning rate and clipping belong to the member. `torch.func.vmap` batches runs of one method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten
from transformers import PreTrainedModel

from harness.data.batches import LengthSchedule
from harness.data.tokens import EncodedSplit
from harness.method import Layers, Method, Pooling
from harness.models.network import Leaf, Network
from harness.models.reference import ReferenceClassifier
from harness.models.stacked import StackedClassifier
from harness.models.student import build_classifier
from harness.runtime.cpu import release_memory
from harness.runtime.device import Arithmetic
from harness.runtime.memory import Portions, free_memory, lacks_memory
from harness.runtime.progress import say
from harness.runtime.randomness import DropoutKey
from harness.training.live_teacher import LiveTeacher
from harness.training.method_groups import MethodGroup, group_members
from harness.training.optimizer import make_optimizer
from harness.training.recipe import Member, Recipe, engine_of


class Population:
    """Members in training, a row each; `indices` are the rows' indices in the sequence of members given.

    A member keeps its index. Its row changes when other members leave.
    """

    def __init__(self, members: Sequence[Member], recipe: Recipe) -> None:
        self.recipe = recipe
        self.device = recipe.arithmetic.device
        groups = group_members(members)
        self.indices = [index for group in groups for index in group]
        self.network = _network([members[index] for index in self.indices], recipe)
        light = [
            replace(member, weights={}) for member in members
        ]  # the network has the weights now
        self.members = [light[index] for index in self.indices]
        self.groups = [MethodGroup([light[index] for index in group], recipe) for group in groups]
        self.schedule = recipe.schedule()
        self.step = 0
        self.parts = 1
        """The parts in which a batch is trained, since memory is short."""
        self.tokens = recipe.tokens
        self._greatest_width = 0
        uses_teacher = any(group.uses_teacher for group in self.groups)
        self.teacher = recipe.teacher if uses_teacher else None
        self._number_groups()
        self.optimizer = make_optimizer(
            self._leaves(),
            [float(member.setting["learning_rate"]) for member in self.members],
            self.schedule.steps_per_epoch * recipe.training.epochs,
            recipe.training,
        )
        self._set_seeds()

    def epoch(self, number: int, advance: Callable[[int], None]) -> list[dict[str, float]]:
        """Train for one epoch (0-based); returns each row's mean of each loss term over the batches.

        `advance` is called with the number of runs' steps that are done.
        """
        seeds = [member.seed for member in self.members]
        batches = {seed: self.schedule.epoch(number, seed) for seed in set(seeds)}
        epoch = torch.tensor(number, device=self.device)
        for step, batch in enumerate(batches[seeds[0]]):
            if batch.width > self._greatest_width:
                self._greatest_width = batch.width
                release_memory()  # wider tensors do not fit the gaps of narrower ones
            examples = torch.from_numpy(np.stack([batches[seed][step].rows for seed in seeds]))
            self.train_batch(examples, batch.width, epoch)
            advance(len(seeds))
        steps = self.schedule.steps_per_epoch
        return [means for group in self.groups for means in group.means(steps)]

    def train_batch(self, examples: Tensor, width: int, epoch: Tensor) -> None:
        """Do one step on each member's batch, padded to `width` tokens.

        Args:
            examples: numbers of examples of the training split (members, B).
            width: the padded length T.
            epoch: the epoch's number (), 0-based, on the device.
        """
        self.key.step = self.step
        while not self._backward(examples, width, epoch):
            free_memory()
            self.parts *= 2
            say(f"warning: memory is short: each batch is trained in {self.parts} parts")
        rates = self.optimizer.step(self.step)
        decay = self.recipe.training.weight_decay
        self.network.decay_unused([1.0 - rate * decay for rate in rates])
        self.step += 1

    def _backward(self, examples: Tensor, width: int, epoch: Tensor) -> bool:
        """Add up the gradients of a batch, in parts. False if memory was short: smaller parts may fit.

        Only the label loss of a batch is the mean of its parts' losses. Where there are other terms, or
        examples singly do not fit, the lack of memory is raised.
        """
        count = examples.shape[1]
        sums = [dict(group.sums) for group in self.groups]
        try:
            for part in np.array_split(np.arange(count), self.parts):
                first, end = int(part[0]), int(part[-1]) + 1
                self.key.part = None if self.parts == 1 else (first, end, count)
                self._total(examples[:, first:end], width, epoch, len(part) / count).backward()
        except Exception as error:
            has_terms = any(member.method is not None for member in self.members)
            if has_terms or 2 * self.parts > count or not lacks_memory(error):
                raise
        else:
            return True
        for group, group_sums in zip(self.groups, sums, strict=True):
            group.sums = group_sums
        for leaf in self._leaves():
            leaf.tensor.grad = None
        return False

    def _total(self, examples: Tensor, width: int, epoch: Tensor, share: float) -> Tensor:
        """The objective of all members together, for a `share` of their batches' examples."""
        pooling = self.recipe.view.pooling if any(g.matches_layers for g in self.groups) else None
        batch = self.tokens.batch(examples, width)
        student = self.network.forward(batch, self.key, pooling, self.recipe.view.needs)
        labels = self.recipe.labels[examples.to(self.device, non_blocking=True)]
        mask = batch["attention_mask"] > 0
        live_layers = () if self.live_teacher is None else self.live_teacher.layers(batch)
        parts = self._split_by_group((student, live_layers, labels, mask, examples))
        totals = [
            group.total(
                group_student,
                self._teacher_layers(group, group_live, group_examples),
                group_labels,
                group_mask,
                epoch,
                share,
            )
            for group, (group_student, group_live, group_labels, group_mask, group_examples) in zip(
                self.groups, parts, strict=True
            )
        ]
        return torch.cat(totals).sum()

    def _teacher_layers(
        self, group: MethodGroup, live_layers: Layers | tuple[()], examples: Tensor
    ) -> Layers | None:
        """The teacher's layers for a group's batches; logits and pooled states are the cached ones."""
        if self.teacher is None or not group.uses_teacher:
            return None
        cached_layers = self.teacher.batch(examples, self.device)
        if not live_layers:
            return cached_layers
        return replace(live_layers, logits=cached_layers.logits, states=cached_layers.states)

    def _split_by_group(self, values: Any) -> list[Any]:
        """Each group's part of tensors (members, ...), in any structure."""
        leaves, structure = tree_flatten(values)
        sizes = [len(group.members) for group in self.groups]
        parts = [leaf.split(sizes) for leaf in leaves]
        return [tree_unflatten(part, structure) for part in zip(*parts, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the members of some rows only, given in rising order."""
        if not rows:
            self.members, self.indices, self.groups = [], [], []
            return
        groups = []
        for group in self.groups:
            end = group.first_row + len(group.members)
            group_rows = [row - group.first_row for row in rows if group.first_row <= row < end]
            if group_rows:
                group.keep(group_rows)
                groups.append(group)
        self.groups = groups
        self.network.keep(rows)
        self.members = [self.members[row] for row in rows]
        self.indices = [self.indices[row] for row in rows]
        self._number_groups()
        self.optimizer.keep(rows, self._leaves())
        self._set_seeds()

    def predict(self, inputs: EncodedSplit, pooling: Pooling | None) -> list[Layers]:
        """Each row's logits and pooled states of a split, without dropout, on the CPU."""
        return predict_all(self.network, inputs, self.device, pooling)

    def method(self, row: int) -> Method | None:
        """The method of a row's member with the projections that it has learned, on the CPU."""
        group = next(g for g in reversed(self.groups) if g.first_row <= row)
        return group.method(row - group.first_row)

    @contextmanager
    def lend_method(self, row: int) -> Iterator[Method]:
        """The method of a row's member as it is now, on the CPU, while its training goes on."""
        method = self.method(row)
        assert method is not None
        try:
            yield method
        finally:
            method.train().to(self.device)

    def _number_groups(self) -> None:
        row = 0
        for group in self.groups:
            group.first_row = row
            row += len(group.members)

    def _leaves(self) -> list[Leaf]:
        return self.network.leaves() + [leaf for group in self.groups for leaf in group.leaves()]

    def _set_seeds(self) -> None:
        """Make what depends on the members' seeds: dropout keys, and a live teacher's batches."""
        seeds = [member.seed for member in self.members]
        self.key = DropoutKey(seeds, self.device)
        needs_teacher = self.teacher is not None and self.recipe.view.needs
        self.live_teacher = LiveTeacher(self.recipe, seeds) if needs_teacher else None


def _network(members: Sequence[Member], recipe: Recipe) -> Network:
    arithmetic, training = recipe.arithmetic, recipe.training
    frozen_embeddings = training.embeddings == "frozen"
    weights = [member.weights for member in members]
    if engine_of(training.engine, recipe.model) == "stacked":
        dtype = torch.bfloat16 if arithmetic.bf16 else torch.float32
        return StackedClassifier(
            recipe.model, weights, arithmetic.device, dtype, recipe.vocabulary, frozen_embeddings
        )
    (member_weights,) = weights
    model = build_classifier(recipe.model, member_weights).to(arithmetic.device)
    return ReferenceClassifier(model, arithmetic, frozen_embeddings)


@torch.inference_mode()
def predict_all(
    network: Network, inputs: EncodedSplit, device: torch.device, pooling: Pooling | None
) -> list[Layers]:
    """Each member's logits and pooled states of a split, without dropout, on the CPU.

    Returns:
        For each row of the network `logits` (examples, C) and `states` (examples, layers, width), in the
        split's order; without pooling there are no layers.
    """
    logits = states = torch.empty(0)
    tokens = inputs.tokens(device)
    portions = Portions()

    def predict_rows(numbers: npt.NDArray[np.int64], width: int) -> None:
        nonlocal logits, states
        rows = torch.from_numpy(numbers)
        examples = rows.expand(network.members, -1)
        layers = network.forward(tokens.batch(examples, width), None, pooling)
        if not len(logits):
            shape = (network.members, len(inputs.lengths))
            logits = torch.empty(*shape, *layers.logits.shape[2:])
            states = torch.empty(*shape, *layers.states.shape[2:])
        logits[:, rows] = layers.logits.cpu()
        states[:, rows] = layers.states.cpu()

    for batch in LengthSchedule(inputs.lengths, 64).in_order():
        portions.work(batch.rows, partial(predict_rows, width=batch.width))
    return [Layers(*outputs) for outputs in zip(logits, states, strict=True)]


def predict(
    model: PreTrainedModel, inputs: EncodedSplit, arithmetic: Arithmetic, pooling: Pooling | None
) -> Layers:
    """`predict_all` for one model of Hugging Face's class."""
    network = ReferenceClassifier(model, arithmetic)
    (layers,) = predict_all(network, inputs, arithmetic.device, pooling)
    return layers
