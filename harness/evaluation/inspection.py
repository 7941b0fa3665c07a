"""Inspection of runs: a method's attention and targets, and the similarity of layers.

docs/files.md lists the records of an inspection by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
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
from harness.runtime.failures import RunFailed, convert_failures
from harness.runtime.progress import say
from harness.training.population import Population
from harness.training.prediction import predict
from harness.training.run import Run
from harness.training.task_setup import Materials

Inspection = TypeVar("Inspection")
COMPARED_EXAMPLES = 256
"""The number of examples in a comparison of layers."""
POINT_EXAMPLES = 96
"""The number of those examples whose states a figure shows as points."""


@torch.inference_mode()
def inspect_run(
    method: Method, split: str, student: Layers, outputs: TeacherOutputs
) -> dict[str, Any]:
    """Facts about the targets of a method with `inspect`, and its attention if any, over a split.

    Args:
        method: the run's method with the parameters that it has learned.
        split: the split's name.
        student: the student's layers, for the split's first examples.
        outputs: the teacher's outputs for the split.

    Returns:
        By name, for the m layers of the student and n of the teacher: `target_length` and
        `target_variance_share` (m,) of the states that student layers are matched to; with attention
        also `map` (m, n), the mean weight, and `entropy` (m,), as in `attention_facts`.
    """
    examples = torch.arange(len(student.states))
    tensors = _inspect(method, student, outputs.batch(examples, torch.device("cpu")))
    if not tensors:
        return {}
    target = tensors["target"]
    energy = target.square().sum(-1).mean(0)
    facts = {
        "split": split,
        "examples": len(examples),
        "target_length": target.norm(dim=-1).mean(0).tolist(),
        "target_variance_share": (target.var(0, correction=0).sum(-1) / energy).tolist(),
    }
    if (attention := tensors.get("attention")) is not None:
        facts |= attention_facts(method, attention)
    return {"targets": facts}


def _inspect(method: Method, student: Layers, teacher: Layers) -> dict[str, Tensor]:
    """A method's tensors for inspection by name, each (examples, layers, numbers).

    Raises:
        MethodError: a tensor has another shape.
    """
    tensors = method.inspect(student, teacher)
    for name, values in tensors.items():
        if values.ndim != 3 or len(values) != len(student.states):
            shape = tuple(values.shape)
            raise MethodError(f"{name} has shape {shape}, not (examples, layers, numbers)")
    return tensors


def attention_facts(method: Method, attention: Tensor) -> dict[str, Any]:
    """Mean weights `map` (m, n) and `entropy` (m,) of attention weights (examples, m, n).

    The entropy is a share of its maximum, the log of the number of teacher layers that may be attended
    to: all, or those that the method's buffer `layer_mask` (m, n) allows.
    """
    entropy = -torch.special.xlogy(attention, attention).sum(-1).mean(0)
    mask = dict(method.named_buffers()).get("layer_mask")
    # Weights above 0 would not do as a mask: attention that has collapsed underflows to one layer.
    layer_mask = torch.ones(attention.shape[1:]) if mask is None else mask
    count = layer_mask.sum(-1)
    # A single layer has all the entropy that it can have.
    share = torch.where(count > 1, entropy / count.clamp(min=2).log(), 1.0)
    return {"map": attention.mean(0).tolist(), "entropy": share.tolist()}


class Inspector:
    """Compares students of one task with the teacher, on examples of the first evaluation split.

    The examples are evenly spaced, since GLUE's files are sorted by genre.
    """

    def __init__(self, materials: Materials, blueprint: Blueprint) -> None:
        self.materials = materials
        self.blueprint = blueprint
        self.split = next(iter(materials.data.evaluation))
        inputs = materials.inputs[self.split]
        self.examples = _spread(len(inputs.lengths), COMPARED_EXAMPLES)
        self.points = _spread(len(self.examples), POINT_EXAMPLES)
        self.inputs = inputs.part(self.examples)
        self._teachers: dict[Pooling, tuple[Layers, Tensor, Tensor]] = {}
        self._initial_students: dict[tuple[int, Pooling], tuple[Layers, dict[str, Any]]] = {}
        self._initial_similarities: dict[tuple[int | None, Pooling], dict[str, Any]] = {}

    def teacher(self, pooling: Pooling) -> Layers:
        """The teacher's logits and pooled states for the examples."""
        return self._teacher(pooling)[0]

    def prepare(self, seeds: Iterable[int], pooling: Pooling) -> None:
        """Compute what `initial_student` returns for some seeds, with one model for all of them."""
        missing = [s for s in dict.fromkeys(seeds) if (s, pooling) not in self._initial_students]
        if not missing:
            return
        arithmetic, blueprint = self.materials.arithmetic, self.blueprint
        student = build_classifier(blueprint.config, blueprint.weights(missing[0]))
        student = student.to(arithmetic.device)
        for seed in missing:
            student.load_state_dict(blueprint.weights(seed))
            layers = predict(student, self.inputs, arithmetic, pooling)
            start = seed if blueprint.starts_at_random else None  # else all seeds have equal states
            if (start, pooling) not in self._initial_similarities:
                values = self.similarities(layers, pooling)
                self._initial_similarities[start, pooling] = values
            values = self._initial_similarities[start, pooling]
            self._initial_students[seed, pooling] = layers, values

    def initial_student(self, seed: int, pooling: Pooling) -> tuple[Layers, dict[str, Any]]:
        """The layers of a seed's student before training, and their `similarities`."""
        self.prepare([seed], pooling)
        return self._initial_students[seed, pooling]

    @torch.inference_mode()
    def similarities(self, student: Layers, pooling: Pooling) -> dict[str, Any]:
        """Measures of similarity between m student and n teacher layers, by name, as nested lists.

        `cka` and `cosine` are (m, n), and `angles` are (m, n, n). `cosine` and `angles` are None where
        students and teacher differ in width.
        """
        _, teacher_states, products = self._teacher(pooling)
        states = student.states.to(teacher_states.device)
        same_width = states.shape[-1] == teacher_states.shape[-1]
        return {
            "cka": _round(linear_cka(centred_products(states), products)),
            "cosine": _round(mean_cosines(states, teacher_states)) if same_width else None,
            "angles": _round(teacher_angles(states, teacher_states)) if same_width else None,
        }

    @torch.inference_mode()
    def projection(
        self, student: Layers, mixtures: Tensor | None, pooling: Pooling
    ) -> dict[str, Any]:
        """Points on the plane of the states' first two principal components.

        `mixtures` (examples, m, the teacher's width) are weighted means of the teacher's states, if the
        method has any. Students of another width than the teacher have a plane of their own.
        """
        student_states = student.states[self.points]
        teacher_states = self.teacher(pooling).states[self.points]
        same_width = student_states.shape[-1] == teacher_states.shape[-1]
        states = (
            torch.cat([student_states, teacher_states], dim=1) if same_width else teacher_states
        )
        plane = principal_plane(states.flatten(0, 1))
        student_plane = plane if same_width else principal_plane(student_states.flatten(0, 1))
        labels = self.materials.data.splits[self.split].labels[self.examples[self.points]]
        return {
            "joint": same_width,
            "labels": labels.tolist(),
            "explained": {"student": _round(student_plane[2]), "teacher": _round(plane[2])},
            "student": _points(student_states, student_plane),
            "teacher": _points(teacher_states, plane),
            "fused": None if mixtures is None else _points(mixtures[self.points], plane),
        }

    def _teacher(self, pooling: Pooling) -> tuple[Layers, Tensor, Tensor]:
        """The teacher's outputs for the examples; on the device the states and `centred_products`."""
        if pooling not in self._teachers:
            outputs = self.materials.outputs[self.split][pooling]
            layers = outputs.batch(torch.from_numpy(self.examples), torch.device("cpu"))
            states = layers.states.to(self.materials.arithmetic.device)
            self._teachers[pooling] = layers, states, centred_products(states)
        return self._teachers[pooling]


class InspectionRecorder:
    """Records inspections of a population's runs before, during and after their training.

    `attention` holds, by the run's index, the attention facts by epoch (0 is before training);
    `comparisons` the comparisons of layers after the last epoch.
    """

    def __init__(
        self, inspector: Inspector, runs: Sequence[Run], methods: Sequence[Method], pooling: Pooling
    ) -> None:
        """`methods` are the methods of the `runs` before training."""
        self.inspector = inspector
        self.runs = runs
        self.pooling = pooling
        self.attention: list[dict[int, dict[str, Any]]] = [{} for _ in runs]
        self.comparisons: list[dict[str, object]] = [{} for _ in runs]
        inspector.prepare((run.seed for run in runs), pooling)
        for index, (run, method) in enumerate(zip(runs, methods, strict=True)):
            student, _ = inspector.initial_student(run.seed, pooling)
            record = partial(self._record_attention, index, 0, method.eval(), student)
            self._guard(index, 0, record)
            method.train()

    def __call__(self, epoch: int, population: Population) -> None:
        """Inspect the members of a population after an epoch (from 1)."""
        is_last = epoch == population.recipe.training.epochs
        has_attention = [bool(self.attention[index]) for index in population.indices]
        if not (is_last or any(has_attention)):
            return
        outputs = population.predict(self.inspector.inputs, self.pooling)
        for row, index in enumerate(population.indices):
            student, mixtures = outputs[row], None
            if has_attention[row]:
                with population.lend_method(row) as method:
                    record = partial(self._record_attention, index, epoch, method, student)
                    mixtures = self._guard(index, epoch, record)
            if is_last:
                self._guard(index, epoch, partial(self._record_layers, index, student, mixtures))

    def records(self, index: int) -> dict[str, object]:
        """The inspections of a run, by name."""
        records = dict(self.comparisons[index])
        if epochs := self.attention[index]:
            records["epochs"] = {
                **self._facts(),
                "epochs": list(epochs),
                "map": [facts["map"] for facts in epochs.values()],
                "entropy": [facts["entropy"] for facts in epochs.values()],
            }
        return records

    def _guard(
        self, index: int, epoch: int, inspect: Callable[[], Inspection]
    ) -> Inspection | None:
        """Call `inspect`. Where it raises, say so and return None: the run itself does not fail."""
        try:
            with convert_failures(), torch.inference_mode():
                return inspect()
        except RunFailed as error:
            moment = f"after epoch {epoch}" if epoch else "before training"
            name, seed = self.runs[index].method.name, self.runs[index].seed
            say(f"warning: {name}, seed {seed}: inspect failed {moment}: {error}")
            return None

    def _record_attention(
        self, index: int, epoch: int, method: Method, student: Layers
    ) -> Tensor | None:
        """Record the facts of a method's attention, if it has any.

        Returns:
            The targets (examples, m, the teacher's width) where they are mixtures of teacher states.
        """
        if not method.inspects():
            return None
        teacher = self.inspector.teacher(self.pooling)
        tensors = _inspect(method, student, teacher)
        if (attention := tensors.get("attention")) is None:
            return None
        self.attention[index][epoch] = _round(attention_facts(method, attention))
        _, layers, width = teacher.states.shape
        target = tensors["target"]
        mixture = attention.shape[-1] == layers and target.shape[-1] == width
        return target if mixture and target.isfinite().all() else None

    def _record_layers(self, index: int, student: Layers, mixtures: Tensor | None) -> None:
        """Record how alike layers of student and teacher are before and after training, and points."""
        _, start_values = self.inspector.initial_student(self.runs[index].seed, self.pooling)
        end_values = self.inspector.similarities(student, self.pooling)
        pairs = {
            name: None if values is None else {"before": start_values[name], "after": values}
            for name, values in end_values.items()
        }
        points = self.inspector.projection(student, mixtures, self.pooling)
        self.comparisons[index] = {
            "layers": {**self._facts(), **pairs},
            "projection": {**self._facts(), **points},
        }

    def _facts(self) -> dict[str, object]:
        examples = len(self.inspector.examples)
        return {"split": self.inspector.split, "examples": examples, "pooling": self.pooling}


def _spread(count: int, limit: int) -> npt.NDArray[np.int64]:
    """Numbers of at most `limit` of `count` examples, evenly spaced, in rising order."""
    return np.linspace(0, count - 1, min(limit, count)).round().astype(np.int64)


def _points(states: Tensor, plane: tuple[Tensor, Tensor, Tensor]) -> Any:
    """States (examples, layers, width) on a `principal_plane`, as nested lists (layers, examples, 2)."""
    mean, components, _ = plane
    return _round(((states.double() - mean) @ components).transpose(0, 1))


def _round(values: Any) -> Any:
    """Numbers in nested lists with four significant digits, more than a figure shows; None for NaN."""
    if isinstance(values, dict):
        return {name: _round(value) for name, value in values.items()}
    if isinstance(values, Tensor):
        values = values.tolist()
    if isinstance(values, list):
        return [_round(value) for value in values]
    return float(f"{values:.4g}") if math.isfinite(values) else None
