"""CUDA graphs of a population's steps: the host launches a step as a whole, not kernel by kernel."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch

from harness.kernels.support import has_kernels
from harness.method import Method
from harness.models.families import computes_by_kernels
from harness.models.network import Leaf
from harness.training.recipe import Recipe

MOST_NUMBERS = 1 << 27
"""Numbers of a layer, over all members, above which a step is bound by memory and not by launches.

A layer's numbers are its weights and `STATES` times its states. A number moves some 50 bytes in a step,
so this many take 1.5 ms of an H200's memory; the host launches a layer in about as long
(docs/performance.md, modelled).
"""
STATES = 5
"""Bytes that a step moves for a state, by those for a weight (AdamW's moments included)."""
ROOM = 1.5
"""Free memory that a graph needs, by the most that a step has taken: graphs keep memory of their own."""


def make_graphs(
    recipe: Recipe, methods: Sequence[Method | None], leaves: Sequence[Leaf]
) -> StepGraphs | None:
    """Graphs for a population with a method for each member; None where steps do without."""
    weights = sum(leaf.values.numel() for leaf in leaves)
    if can_capture(recipe, methods) and binds_launches(recipe, len(methods), weights):
        return StepGraphs(recipe.arithmetic.device)
    return None


def can_capture(recipe: Recipe, methods: Sequence[Method | None]) -> bool:
    """Whether a graph can hold a step: kernels alone, which read nothing of the host."""
    device, teacher = recipe.arithmetic.device, recipe.teacher
    return (
        has_kernels(device)
        and computes_by_kernels(recipe.model)
        and (teacher is None or teacher.lies_on(device))
        and all(m is None or (m.supports_vmap and m.supports_graphs) for m in methods)
    )


def binds_launches(recipe: Recipe, members: int, weights: int) -> bool:
    """Whether the host takes longer to launch a step than a GPU to do it, by `MOST_NUMBERS`.

    `weights` are the numbers in training of all members.
    """
    schedule, model = recipe.schedule(), recipe.model
    tokens = sum(len(bucket.rows) * bucket.width for bucket in schedule.buckets)
    states = members * tokens / schedule.steps_per_epoch * int(model.hidden_size)
    return weights / (int(model.num_hidden_layers) + 1) + STATES * states <= MOST_NUMBERS


class Graph(Protocol):
    """A step that can be done again."""

    def replay(self) -> None:
        """Do the step with what the same tensors hold now."""


class StepGraphs:
    """Steps by graphs, one for each shape of a batch (at most nine: the widths, and one smaller batch).

    The first step of a shape is done as it is. It compiles kernels, and makes what later steps find.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.graphs: dict[Hashable, Graph] = {}
        self._begun: set[Hashable] = set()
        self._pool: Any = None

    def run(self, shape: Hashable, step: Callable[[], None]) -> bool:
        """Do a step by the graph of its shape. False if the caller must do the step.

        Args:
            shape: equal for steps whose tensors have equal shapes and lie in the same memory.
            step: the step, which waits for no value and reads no number of Python that changes.
        """
        if shape not in self._begun:
            self._begun.add(shape)
            return False
        if shape not in self.graphs:
            if not self.has_room():
                return False
            self.graphs[shape] = self.capture(step)
        self.graphs[shape].replay()
        return True

    def has_room(self) -> bool:
        """Whether a graph's own memory fits beside that of other work."""
        held = torch.cuda.memory_allocated(self.device)
        free, _ = torch.cuda.mem_get_info(self.device)
        free += torch.cuda.memory_reserved(self.device) - held
        return free >= ROOM * (torch.cuda.max_memory_allocated(self.device) - held)

    def capture(self, step: Callable[[], None]) -> Graph:
        """The graph of a step, which is not done yet. All graphs share their memory."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        self._pool = graph.pool()
        return graph
