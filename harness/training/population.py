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
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from harness.data.tokens import EncodedSplit
from harness.loss_stages import read_stages
from harness.method import Layers, Method, Pooling
from harness.models.network import Leaf, Network
from harness.models.reference import ReferenceClassifier
from harness.models.stacked import StackedClassifier
from harness.models.student import build_classifier
from harness.runtime.cpu import release_memory
from harness.runtime.memory import free_memory, lacks_memory
from harness.runtime.progress import say
from harness.runtime.randomness import DropoutKey
from harness.training.live_teacher import LiveTeacher
from harness.training.method_groups import MethodGroup, group_members
from harness.training.optimizer import make_optimizer
from harness.training.prediction import predict_all
from harness.training.recipe import Member, Recipe, engine_of
from harness.training.step_graphs import StepGraphs, make_graphs
from harness.training.step_inputs import Staging, StepInputs


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
        self.steps = self.schedule.steps_per_epoch * recipe.training.epochs
        self.stages = read_stages(recipe.training.stages)
        self.step = 0
        self.parts = 1
        """The parts in which a batch is trained, since memory is short."""
        self.tokens = recipe.tokens
        self.staging = Staging(self.device)
        self.graphs: StepGraphs | None = None
        self._greatest_width = 0
        uses_teacher = any(group.uses_teacher for group in self.groups)
        self.teacher = recipe.teacher if uses_teacher else None
        self._number_groups()
        self.optimizer = make_optimizer(
            self._leaves(),
            [float(member.setting["learning_rate"]) for member in self.members],
            self.steps,
            recipe.training,
        )
        self._set_members()

    def epoch(self, number: int, advance: Callable[[int], None]) -> list[dict[str, float]]:
        """Train for one epoch (0-based); returns each row's mean of each loss term over the batches.

        `advance` is called with the number of runs' steps that are done.
        """
        seeds = [member.seed for member in self.members]
        batches = {seed: self.schedule.epoch(number, seed) for seed in set(seeds)}
        for step, batch in enumerate(batches[seeds[0]]):
            if batch.width > self._greatest_width:
                self._greatest_width = batch.width
                release_memory()  # wider tensors do not fit the gaps of narrower ones
            examples = torch.from_numpy(np.stack([batches[seed][step].rows for seed in seeds]))
            self.train_batch(examples, batch.width, number)
            advance(len(seeds))
        steps = self.schedule.steps_per_epoch
        return [means for group in self.groups for means in group.means(steps)]

    def train_batch(self, examples: Tensor, width: int, epoch: int) -> None:
        """Do one step on each member's batch, padded to `width` tokens.

        Args:
            examples: numbers of examples of the training split (members, B), on the CPU.
            width: the padded length T.
            epoch: the epoch's number, 0-based.
        """
        inputs = self._inputs(examples, epoch)
        shape = (width, inputs.rows.shape, inputs.keys.shape)
        step = partial(self._step, inputs, examples, width)
        if self.graphs is None or not self.graphs.run(shape, step):
            while not self._fits(inputs, examples, width):
                self.graphs = None  # their memory is free then
                free_memory()
                self.parts *= 2
                self._add_up_in_fp32()
                say(f"warning: memory is short: each batch is trained in {self.parts} parts")
            self.optimizer.step(inputs.numbers)
        decay = self.recipe.training.weight_decay
        self.network.decay_unused(
            [1.0 - rate * decay for rate in self.optimizer.rates.at(self.step)]
        )
        self.step += 1

    def add_gradients(self, examples: Tensor, width: int, epoch: int) -> None:
        """Do the forward and the backward pass of a step, and leave the weights as they are.

        Arguments as for `train_batch`.
        """
        self._add_gradients(self._inputs(examples, epoch), examples, width)

    def _step(self, inputs: StepInputs, examples: Tensor, width: int) -> None:
        """A step as a function of tensors, which a graph can hold."""
        self._add_gradients(inputs, examples, width)
        self.optimizer.step(inputs.numbers)

    def _inputs(self, examples: Tensor, epoch: int) -> StepInputs:
        """What the next step's operations read from the host, on the device."""
        arrays = [
            examples.numpy(),
            np.array(epoch),
            np.array(self.step / self.steps, dtype=np.float32),
            np.array(self.stages.at(self.step, self.steps), dtype=np.float32),
            self.key.table_at(self.step),
            self.optimizer.begin(self.step),
        ]
        return StepInputs(*self.staging.tensors(arrays))

    def _fits(self, inputs: StepInputs, examples: Tensor, width: int) -> bool:
        """`_add_gradients`. False if memory was short: smaller parts may fit.

        Only the label loss of a batch is the mean of its parts' losses. Where there are other terms, or
        examples singly do not fit, the lack of memory is raised.
        """
        try:
            self._add_gradients(inputs, examples, width)
        except Exception as error:
            has_terms = any(member.method is not None for member in self.members)
            if has_terms or 2 * self.parts > examples.shape[1] or not lacks_memory(error):
                raise
        else:
            return True
        for leaf in self._leaves():
            leaf.tensor.grad = None
        return False

    def _add_gradients(self, inputs: StepInputs, examples: Tensor, width: int) -> None:
        """Add up the gradients of a batch, in parts, and then the values of the terms."""
        self.key.load(self.step, inputs.keys)
        count = examples.shape[1]
        values = []
        for part in np.array_split(np.arange(count), self.parts):
            first, end = int(part[0]), int(part[-1]) + 1
            self.key.part = None if self.parts == 1 else (first, end, count)
            part_inputs = replace(inputs, rows=inputs.rows[:, first:end])
            share = len(part) / count
            total, part_values = self._total(part_inputs, examples[:, first:end], width, share)
            total.backward()
            values.append(part_values)
        for part_values in values:
            for group, group_values in zip(self.groups, part_values, strict=True):
                group.add(group_values)

    def _total(
        self, inputs: StepInputs, examples: Tensor, width: int, share: float
    ) -> tuple[Tensor, list[Tensor]]:
        """The objective of all members together, for a `share` of their batches' examples.

        The values of each group's terms come with it. `examples` are the inputs' rows on the CPU.
        """
        pooling = self.recipe.view.pooling if any(g.matches_layers for g in self.groups) else None
        batch = self.tokens.batch(inputs.rows, width)
        student = self.network.forward(batch, self.key, pooling, self.recipe.view.needs)
        labels, weights = self.recipe.labels[inputs.rows], self.recipe.label_weights
        label_weights = () if weights is None else weights[inputs.rows]
        mask = batch["attention_mask"] > 0
        words: Tensor | tuple[()] = ()
        if "words" in self.recipe.view.needs:
            assert self.recipe.word_marks is not None
            words = self.recipe.word_marks.words(batch["input_ids"], mask)
        live_layers = () if self.live_teacher is None else self.live_teacher.layers(batch)
        on_device = self.teacher is None or self.teacher.lies_on(self.device)
        rows = inputs.rows if on_device else examples
        parts = self._split_by_group(
            (student, live_layers, (labels, label_weights), (mask, words), rows)
        )
        results = [
            group.total(
                group_student,
                self._teacher_layers(group, group_live, group_rows),
                group_labels,
                group_weights,
                group_mask,
                group_words,
                inputs,
                share,
            )
            for group, (
                group_student,
                group_live,
                (group_labels, group_weights),
                (group_mask, group_words),
                group_rows,
            ) in zip(self.groups, parts, strict=True)
        ]
        return torch.cat([total for total, _ in results]).sum(), [values for _, values in results]

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
        self._set_members()

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

    def _set_members(self) -> None:
        """Make what depends on the members: dropout keys, a live teacher's batches, graphs."""
        seeds = [member.seed for member in self.members]
        self.key = DropoutKey(seeds, self.device)
        needs_teacher = self.teacher is not None and self.recipe.view.needs
        self.live_teacher = LiveTeacher(self.recipe, seeds) if needs_teacher else None
        methods = [member.method for member in self.members]
        graphs = make_graphs(self.recipe, methods, self._leaves())
        self.graphs = graphs if self.parts == 1 else None
        if self.parts > 1:
            self._add_up_in_fp32()

    def _add_up_in_fp32(self) -> None:
        """Have the gradients of a batch's parts add up in fp32: the sum is then the whole batch's."""
        for leaf in self._leaves():
            leaf.tensor.grad_dtype = torch.float32


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
