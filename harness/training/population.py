"""A population: runs that are trained together as one network, with one backward for all of them.

Nothing that a member computes depends on the others. Its initial weights, order, dropout, rate and
clipping are its own; runs of one method are batched with `torch.func.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW
from torch.utils._pytree import tree_flatten, tree_unflatten
from transformers import PreTrainedModel

from harness.data.batches import LengthSchedule
from harness.data.tokens import EncodedSplit
from harness.method import Layers, Method, Pooling
from harness.models.reference import Network, ReferenceClassifier
from harness.models.stacked import StackedClassifier
from harness.models.student import build_classifier
from harness.runtime.cpu import release_memory
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import DropoutKey
from harness.training.live_teacher import LiveTeacher
from harness.training.method_groups import MethodGroup, grouped
from harness.training.recipe import Member, Recipe, engine_of


class Population:
    """Members in training. `order` are their places in the sequence that was given."""

    def __init__(self, members: Sequence[Member], recipe: Recipe) -> None:
        self.recipe = recipe
        self.device = recipe.arithmetic.device
        alike = grouped(members)
        self.order = [place for places in alike for place in places]
        self.network = _network([members[place] for place in self.order], recipe)
        begun = [replace(member, weights={}) for member in members]  # they lie in the network now
        self.members = [begun[place] for place in self.order]
        self.groups = [MethodGroup([begun[place] for place in places], recipe) for places in alike]
        self.schedule = recipe.schedule()
        self.steps = self.schedule.steps_per_epoch * recipe.training.epochs
        self.step = 0
        self.tokens = recipe.tokens
        self._widest = 0
        taught = any(group.uses_teacher for group in self.groups)
        self.teacher = recipe.teacher if taught else None
        self._prepare()

    def epoch(self, number: int, advance: Callable[[int], None]) -> list[dict[str, float]]:
        """Train for one epoch; the mean of each term over its batches, for each member in `order`.

        `advance` is called with the number of runs' steps that are done.
        """
        seeds = [member.seed for member in self.members]
        dealt = {seed: self.schedule.epoch(number, seed) for seed in set(seeds)}
        epoch = torch.tensor(number, device=self.device)
        for step, batch in enumerate(dealt[seeds[0]]):
            if batch.width > self._widest:
                self._widest = batch.width
                release_memory()  # wider tensors do not fit the gaps of narrower ones
            rows = torch.from_numpy(np.stack([dealt[seed][step].rows for seed in seeds]))
            self.train_batch(rows, batch.width, epoch)
            advance(len(seeds))
        steps = self.schedule.steps_per_epoch
        return [means for group in self.groups for means in group.means(steps)]

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some members only, given in order by their places in `members`."""
        if not places:
            self.members, self.order, self.groups = [], [], []
            return
        states = [
            [self.optimizer.state.get(view) for view in self._views(place)] for place in places
        ]
        kept = []
        for group in self.groups:
            end = group.first + len(group.members)
            own = [place - group.first for place in places if group.first <= place < end]
            if own:
                group.keep(own)
                kept.append(group)
        self.groups = kept
        self.network.keep(places)
        self.members = [self.members[place] for place in places]
        self.order = [self.order[place] for place in places]
        self._prepare()
        for place, own_states in enumerate(states):
            for view, state in zip(self._views(place), own_states, strict=True):
                if state is not None:
                    self.optimizer.state[view] = state

    def predict(self, inputs: EncodedSplit, pooling: Pooling | None) -> list[Layers]:
        """Each member's logits and pooled states of a split, without dropout, on the CPU."""
        return predict_all(self.network, inputs, self.device, pooling)

    def method(self, place: int) -> Method | None:
        """The method of a member with the projections that it has learned, on the CPU."""
        group = next(g for g in reversed(self.groups) if g.first <= place)
        return group.trained(place - group.first)

    @contextmanager
    def inspected(self, place: int) -> Iterator[Method]:
        """The method of a member as it is now, on the CPU, while its training goes on."""
        method = self.method(place)
        assert method is not None
        try:
            yield method
        finally:
            method.train().to(self.device)

    def _prepare(self) -> None:
        """Optimiser, rates and dropout keys for the members that there are."""
        first = 0
        for group in self.groups:
            group.first = first
            first += len(group.members)
        leaves = self.network.leaves() + [leaf for group in self.groups for leaf in group.leaves()]
        self.rows = [(leaf, list(leaf.values)) for leaf in leaves]
        decay = self.recipe.training.weight_decay
        groups = [
            {"params": self._views(place, decayed), "weight_decay": decay if decayed else 0.0}
            for place in range(len(self.members))
            for decayed in (True, False)
        ]
        self.optimizer = AdamW(groups, lr=0.0, fused=True)
        self.rates = [float(member.setting["learning_rate"]) for member in self.members]
        seeds = [member.seed for member in self.members]
        self.key = DropoutKey(seeds, self.device)
        live = self.teacher is not None and self.recipe.view.needs
        self.live = LiveTeacher(self.recipe, seeds) if live else None

    def _views(self, place: int, decayed: bool | None = None) -> list[Tensor]:
        """What the optimiser steps of one member: all of it, or what decays, or what does not."""
        return [
            rows[place - leaf.first]
            for leaf, rows in self.rows
            if leaf.first <= place < leaf.first + len(rows) and decayed in (None, leaf.decayed)
        ]

    def train_batch(self, rows: Tensor, width: int, epoch: Tensor) -> None:
        """One step on the members' rows (members, B) of the training split, padded to `width`."""
        pooling = self.recipe.view.pooling if any(g.matches_layers for g in self.groups) else None
        self.key.step = self.step
        batch = self.tokens.batch(rows, width)
        student = self.network.forward(batch, self.key, pooling, self.recipe.view.needs)
        labels = self.recipe.labels[rows.to(self.device, non_blocking=True)]
        mask = batch["attention_mask"] > 0
        seen = () if self.live is None else self.live.layers(batch)
        totals = []
        parts = self._by_group((student, seen, labels, mask, rows))
        for group, (own, live, own_labels, own_mask, own_rows) in zip(
            self.groups, parts, strict=True
        ):
            teacher = None
            if self.teacher is not None and group.uses_teacher:
                teacher = self.teacher.batch(own_rows, self.device)
                if live:
                    teacher = replace(live, logits=teacher.logits, states=teacher.states)
            totals.append(group.total(own, teacher, own_labels, own_mask, epoch))
        torch.cat(totals).sum().backward()
        self._update()
        self.step += 1

    def _by_group(self, values: Any) -> list[Any]:
        """Each group's part of tensors with a leading member dimension, in any structure."""
        leaves, structure = tree_flatten(values)
        sizes = [len(group.members) for group in self.groups]
        split = [leaf.split(sizes) for leaf in leaves]
        return [tree_unflatten(own, structure) for own in zip(*split, strict=True)]

    def _update(self) -> None:
        """Clip each member's gradients by their norm, and step each with its own rate."""
        training = self.recipe.training
        squares = torch.zeros(len(self.members), device=self.device)
        for leaf, rows in self.rows:
            if (gradients := leaf.gradients) is not None:
                norms = torch.linalg.vector_norm(gradients.reshape(len(rows), -1), dim=1)
                squares[leaf.first : leaf.first + len(rows)] += norms.square()
        scale = (training.clip_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for leaf, rows in self.rows:
            if (gradients := leaf.gradients) is not None:
                own = scale[leaf.first : leaf.first + len(rows)]
                gradients.mul_(own.view(-1, *[1] * (gradients.ndim - 1)))
                for row, gradient in zip(rows, gradients, strict=True):
                    row.grad = gradient
        factor = _rate_factor(self.step, self.steps, training.warmup)
        rates = [rate * factor for rate in self.rates]
        for place, rate in enumerate(rates):
            for group in self.optimizer.param_groups[2 * place : 2 * place + 2]:
                group["lr"] = rate
        self.optimizer.step()
        self.network.decay_unused([1.0 - rate * training.weight_decay for rate in rates])
        for leaf, rows in self.rows:
            leaf.tensor.grad = None
            for row in rows:
                row.grad = None


def _network(members: Sequence[Member], recipe: Recipe) -> Network:
    arithmetic, training = recipe.arithmetic, recipe.training
    frozen = training.embeddings == "frozen"
    weights = [member.weights for member in members]
    if engine_of(training.engine, recipe.model) == "stacked":
        dtype = torch.bfloat16 if arithmetic.bf16 else torch.float32
        return StackedClassifier(
            recipe.model, weights, arithmetic.device, dtype, recipe.vocabulary, frozen
        )
    (own,) = weights
    model = build_classifier(recipe.model, own).to(arithmetic.device)
    return ReferenceClassifier(model, arithmetic, frozen)


def _rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up and decay: the share of the learning rate at a step (0-based)."""
    rising = max(1, round(warmup * steps))
    return min((step + 1) / rising, (steps - step) / max(1, steps - rising), 1.0)


@torch.inference_mode()
def predict_all(
    network: Network, inputs: EncodedSplit, device: torch.device, pooling: Pooling | None
) -> list[Layers]:
    """Each member's logits and pooled states of a split, without dropout, in the split's order."""
    logits = states = torch.empty(0)
    tokens = inputs.tokens(device)
    for batch in LengthSchedule(inputs.lengths, 64).in_order():
        rows = torch.from_numpy(batch.rows)
        own = rows.expand(network.members, -1)
        layers = network.forward(tokens.batch(own, batch.width), None, pooling)
        if not len(logits):
            shape = (network.members, len(inputs.lengths))
            logits = torch.empty(*shape, *layers.logits.shape[2:])
            states = torch.empty(*shape, *layers.states.shape[2:])
        logits[:, rows] = layers.logits.cpu()
        states[:, rows] = layers.states.cpu()
    return [Layers(*own) for own in zip(logits, states, strict=True)]


def predict(
    model: PreTrainedModel, inputs: EncodedSplit, arithmetic: Arithmetic, pooling: Pooling | None
) -> Layers:
    """`predict_all` of one model of Hugging Face's class."""
    return predict_all(ReferenceClassifier(model, arithmetic), inputs, arithmetic.device, pooling)[
        0
    ]
