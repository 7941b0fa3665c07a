"""Looking inside a run: where its attention goes, what its targets are like, how alike layers are.

What is recorded, by name, is listed in docs/files.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.errors import MethodError
from harness.evaluation.similarity import (
    centred_products,
    linear_cka,
    mean_cosines,
    principal_plane,
    teacher_angles,
)
from harness.method import Layers, Method, Pooling
from harness.models.student import Blueprint, build_classifier
from harness.models.teacher_outputs import TeacherOutputs
from harness.runtime.failures import RunFailed, recorded
from harness.runtime.progress import say
from harness.training.population import Population, predict
from harness.training.run import Run
from harness.training.task_setup import Materials

Seen = TypeVar("Seen")
SEEN = 256
"""Examples that layers are compared on."""
DRAWN = 96
"""Of them: those whose states are drawn as points."""


@torch.inference_mode()
def inspect_run(
    method: Method, split: str, student: Layers, outputs: TeacherOutputs
) -> dict[str, Any]:
    """For methods with `inspect`: their targets and, where they have it, attention over a split.

    `map` (m, n) is the mean weight, `entropy` (m,) a share of its maximum, the log of the number of
    layers that may be attended to: all, or those that a buffer `allowed` (m, n) of the method names;
    `target_length` and `target_variance_share` (m,) are of what student layers are matched to.
    """
    rows = torch.arange(len(student.states))
    seen = _inspected(method, student, outputs.batch(rows, torch.device("cpu")))
    if not seen:
        return {}
    target = seen["target"]
    energy = target.square().sum(-1).mean(0)
    facts = {
        "split": split,
        "examples": len(rows),
        "target_length": target.norm(dim=-1).mean(0).tolist(),
        "target_variance_share": (target.var(0, correction=0).sum(-1) / energy).tolist(),
    }
    if (attention := seen.get("attention")) is not None:
        facts |= attention_facts(method, attention)
    return {"targets": facts}


def _inspected(method: Method, student: Layers, teacher: Layers) -> dict[str, Tensor]:
    """What a method shows. Raises `MethodError` for what is not by example and layer."""
    seen = method.inspect(student, teacher)
    for name, values in seen.items():
        if values.ndim != 3 or len(values) != len(student.states):
            shape = tuple(values.shape)
            raise MethodError(f"{name} has shape {shape}, not (examples, layers, numbers)")
    return seen


def attention_facts(method: Method, attention: Tensor) -> dict[str, Any]:
    """`map` and `entropy` of `inspect_run`, from weights (examples, m, n)."""
    entropy = -torch.special.xlogy(attention, attention).sum(-1).mean(0)
    named = dict(method.named_buffers()).get("layer_mask")
    # Not those with a weight above 0: attention that has collapsed underflows to one layer.
    allowed = torch.ones(attention.shape[1:]) if named is None else named
    count = allowed.sum(-1)
    # One layer is all of those that there are.
    share = torch.where(count > 1, entropy / count.clamp(min=2).log(), 1.0)
    return {"map": attention.mean(0).tolist(), "entropy": share.tolist()}


class Inspector:
    """Looks inside students of one task, on examples of the first evaluation split.

    They are evenly spaced: GLUE's files are sorted by genre.
    """

    def __init__(self, materials: Materials, blueprint: Blueprint) -> None:
        self.materials = materials
        self.blueprint = blueprint
        self.split = next(iter(materials.data.evaluation))
        inputs = materials.inputs[self.split]
        self.rows = _spread(len(inputs.lengths), SEEN)
        self.drawn = _spread(len(self.rows), DRAWN)
        self.inputs = inputs.part(self.rows)
        self._teachers: dict[Pooling, tuple[Layers, Tensor]] = {}
        self._untrained: dict[tuple[int, Pooling], tuple[Layers, dict[str, Any]]] = {}

    def teacher(self, pooling: Pooling) -> Layers:
        """The teacher's outputs for the examples."""
        return self._teacher(pooling)[0]

    def untrained(self, seed: int, pooling: Pooling) -> tuple[Layers, dict[str, Any]]:
        """What a student of that seed says before training, and `measures` of it."""
        if (seed, pooling) not in self._untrained:
            arithmetic = self.materials.arithmetic
            student = build_classifier(self.blueprint.config, self.blueprint.weights(seed))
            layers = predict(student.to(arithmetic.device), self.inputs, arithmetic, pooling)
            self._untrained[seed, pooling] = layers, self.measures(layers, pooling)
        return self._untrained[seed, pooling]

    @torch.inference_mode()
    def measures(self, student: Layers, pooling: Pooling) -> dict[str, Any]:
        """How alike the layers of a student and of the teacher are, by the measure's name."""
        own, (teacher, products) = student.states, self._teacher(pooling)
        alike = own.shape[-1] == teacher.states.shape[-1]
        return {
            "cka": _rounded(linear_cka(centred_products(own), products)),
            "cosine": _rounded(mean_cosines(own, teacher.states)) if alike else None,
            "angles": _rounded(teacher_angles(own, teacher.states)) if alike else None,
        }

    @torch.inference_mode()
    def projection(self, student: Layers, fused: Tensor | None, pooling: Pooling) -> dict[str, Any]:
        """Points on the plane of the states' first two principal components.

        `fused` (examples, m, the teacher's width) are mixtures of the teacher's states, if any.
        """
        ours, theirs = student.states[self.drawn], self.teacher(pooling).states[self.drawn]
        joint = ours.shape[-1] == theirs.shape[-1]
        states = torch.cat([ours, theirs], dim=1) if joint else theirs
        plane = principal_plane(states.flatten(0, 1))
        own = plane if joint else principal_plane(ours.flatten(0, 1))
        labels = self.materials.data.splits[self.split].labels[self.rows[self.drawn]]
        return {
            "joint": joint,
            "labels": labels.tolist(),
            "explained": {"student": _rounded(own[2]), "teacher": _rounded(plane[2])},
            "student": _points(ours, own),
            "teacher": _points(theirs, plane),
            "fused": None if fused is None else _points(fused[self.drawn], plane),
        }

    def _teacher(self, pooling: Pooling) -> tuple[Layers, Tensor]:
        """The teacher's outputs, and the products of their states."""
        if pooling not in self._teachers:
            outputs = self.materials.outputs[self.split][pooling]
            layers = outputs.batch(torch.from_numpy(self.rows), torch.device("cpu"))
            self._teachers[pooling] = layers, centred_products(layers.states)
        return self._teachers[pooling]


class Look:
    """What is seen of a population's members before, during and after their training."""

    def __init__(
        self, inspector: Inspector, runs: Sequence[Run], methods: Sequence[Method], pooling: Pooling
    ) -> None:
        """`methods` are those of the `runs`, as they are before training."""
        self.inspector = inspector
        self.runs = runs
        self.pooling = pooling
        self.attention: list[dict[int, dict[str, Any]]] = [{} for _ in runs]
        self.compared: list[dict[str, object]] = [{} for _ in runs]
        for member, (run, method) in enumerate(zip(runs, methods, strict=True)):
            student, _ = inspector.untrained(run.seed, pooling)
            self._guarded(member, 0, partial(self._attend, member, 0, method.eval(), student))
            method.train()

    def __call__(self, epoch: int, population: Population) -> None:
        """Look at the members that there are after an epoch (1-based)."""
        last = epoch == population.recipe.training.epochs
        attentive = [bool(self.attention[member]) for member in population.indices]
        if not (last or any(attentive)):
            return
        layers = population.predict(self.inspector.inputs, self.pooling)
        for place, member in enumerate(population.indices):
            student, fused = layers[place], None
            if attentive[place]:
                with population.lend_method(place) as method:
                    attend = partial(self._attend, member, epoch, method, student)
                    fused = self._guarded(member, epoch, attend)
            if last:
                self._guarded(member, epoch, partial(self._compare, member, student, fused))

    def records(self, member: int) -> dict[str, object]:
        """What there is to record of a member, by name."""
        found = dict(self.compared[member])
        if epochs := self.attention[member]:
            found["epochs"] = {
                **self._facts(),
                "epochs": list(epochs),
                "map": [seen["map"] for seen in epochs.values()],
                "entropy": [seen["entropy"] for seen in epochs.values()],
            }
        return found

    def _guarded(self, member: int, epoch: int, look: Callable[[], Seen]) -> Seen | None:
        """What is seen; None, and a warning, where looking fails: the run itself does not."""
        try:
            with recorded(), torch.inference_mode():
                return look()
        except RunFailed as error:
            when = f"after epoch {epoch}" if epoch else "before training"
            name, seed = self.runs[member].method.name, self.runs[member].seed
            say(f"warning: {name}, seed {seed}: inspect failed {when}: {error}")
            return None

    def _attend(self, member: int, epoch: int, method: Method, student: Layers) -> Tensor | None:
        """Note a method's attention, if it has any; returns what it mixes of the teacher's states."""
        if not method.inspects():
            return None
        teacher = self.inspector.teacher(self.pooling)
        seen = _inspected(method, student, teacher)
        if (attention := seen.get("attention")) is None:
            return None
        self.attention[member][epoch] = _rounded(attention_facts(method, attention))
        _, layers, width = teacher.states.shape
        target = seen["target"]
        mixed = attention.shape[-1] == layers and target.shape[-1] == width
        return target if mixed and target.isfinite().all() else None

    def _compare(self, member: int, student: Layers, fused: Tensor | None) -> None:
        """Note how alike the layers of student and teacher are before and after training, and points."""
        _, before = self.inspector.untrained(self.runs[member].seed, self.pooling)
        after = self.inspector.measures(student, self.pooling)
        both = {
            name: None if own is None else {"before": before[name], "after": own}
            for name, own in after.items()
        }
        points = self.inspector.projection(student, fused, self.pooling)
        self.compared[member] = {
            "layers": {**self._facts(), **both},
            "projection": {**self._facts(), **points},
        }

    def _facts(self) -> dict[str, object]:
        rows = len(self.inspector.rows)
        return {"split": self.inspector.split, "examples": rows, "pooling": self.pooling}


def _spread(count: int, most: int) -> npt.NDArray[np.int64]:
    """Places of at most so many of `count` things, evenly spaced, ascending."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)


def _points(states: Tensor, plane: tuple[Tensor, Tensor, Tensor]) -> Any:
    """States (examples, layers, width) on a plane of `principal_plane`: (layers, examples, 2)."""
    mean, components, _ = plane
    return _rounded(((states.double() - mean) @ components).transpose(0, 1))


def _rounded(values: Any) -> Any:
    """Nested lists of numbers to four significant digits, which is more than is drawn; None for NaN."""
    if isinstance(values, dict):
        return {name: _rounded(own) for name, own in values.items()}
    if isinstance(values, Tensor):
        values = values.tolist()
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return float(f"{values:.4g}") if math.isfinite(values) else None
