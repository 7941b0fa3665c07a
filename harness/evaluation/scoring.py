"""Scoring: predictions, metrics and inspections of the members of a population."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.data.scores import evaluate, label_loss
from harness.data.splits import Split
from harness.evaluation.inspection import inspect_run
from harness.method import Layers, Method, Pooling
from harness.runtime.failures import RunFailed, convert_failures
from harness.runtime.progress import say
from harness.storage.record import LABEL_LOSS, Predictions
from harness.training.population import Population
from harness.training.run import Run
from harness.training.task_setup import Materials

INSPECTED_EXAMPLES = 2048
"""The most examples with pooled states in an inspection. All states of a large task would not fit."""


@dataclass
class RunScores:
    """A run's metrics, its scores on the selection split if it is a search run or a pool's trial, its
    predictions by split, and its inspections by name."""

    metrics: dict[str, float] = field(default_factory=dict)
    selection: dict[str, float] = field(default_factory=dict)
    predictions: dict[str, Predictions] = field(default_factory=dict)
    inspections: dict[str, object] = field(default_factory=dict)


class Evaluation:
    """The evaluation of populations' members on the splits of one task."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials

    def selection_scores(self, population: Population) -> list[dict[str, float]]:
        """Each row's scores on the selection split, with the member's present weights."""
        predictions = population.predict(self.materials.inputs["selection"], None)
        return [self._selection_scores(layers.logits.numpy()) for layers in predictions]

    def predict(self, population: Population, runs: Sequence[Run]) -> dict[str, list[Layers]]:
        """Each row's logits by split, in the splits' order. Report runs have test splits too.

        Where a method inspects, the layers of the first evaluation split also have pooled states, for
        the first `INSPECTED_EXAMPLES` examples.
        """
        if not population.members:
            return {}
        inspecting = any(group.inspects for group in population.groups)
        outputs: dict[str, list[Layers]] = {}
        for run in runs:
            for position, (name, _) in enumerate(run.inputs.evaluation):
                if name not in outputs:
                    outputs[name] = self._predict_split(
                        population, name, with_states=inspecting and position == 0
                    )
        if any(run.inputs.selection is not None for run in runs):
            outputs["selection"] = self._predict_split(population, "selection", with_states=False)
        if any(run.role == "report" for run in runs):
            for name in self.materials.data.test:
                outputs[name] = population.predict(self.materials.inputs[name], None)
        return outputs

    def _predict_split(
        self, population: Population, name: str, *, with_states: bool
    ) -> list[Layers]:
        inputs = self.materials.inputs[name]
        pooling = population.recipe.view.pooling if with_states else None
        if pooling is None or len(inputs.lengths) <= INSPECTED_EXAMPLES:
            return population.predict(inputs, pooling)
        states = population.predict(inputs.part(np.arange(INSPECTED_EXAMPLES)), pooling)
        logits = population.predict(inputs, None)
        return [
            Layers(row_logits.logits, row_states.states)
            for row_logits, row_states in zip(logits, states, strict=True)
        ]

    def score(
        self, run: Run, method: Method | None, outputs: Mapping[str, Layers], pooling: Pooling
    ) -> RunScores:
        """A run's scores, from its member's outputs by split.

        A metric of the first evaluation split has the metric's name. The name of another split's metric
        (MNLI's mismatched) ends in the split's name. Only the first split has inspections.

        Raises:
            RunFailed: a logit on an evaluation split or the selection split is not a finite number.
        """
        scores = RunScores()
        data = self.materials.data
        for position, name in enumerate(name for name, _ in run.inputs.evaluation):
            split = data.splits[name]
            logits = _finite_logits(outputs, name)
            metrics = evaluate(data.task, split.labels, logits)
            if position > 0:
                metrics = {f"{metric} ({name})": value for metric, value in metrics.items()}
            scores.metrics |= metrics
            scores.predictions[name] = _predictions(split, outputs[name])
            if position == 0 and method is not None and method.inspects():
                teacher = self.materials.outputs[name][pooling]
                try:
                    with convert_failures():
                        scores.inspections |= inspect_run(method, name, outputs[name], teacher)
                except RunFailed as error:
                    say(f"warning: {method.name}, seed {run.seed}: inspect failed: {error}")
        if run.role == "search" or run.inputs.selection is not None:
            scores.selection = self._selection_scores(_finite_logits(outputs, "selection"))
        if run.role == "report":
            # Test splits have no labels: the run's metrics do not depend on these logits.
            for name, split in data.test.items():
                scores.predictions[name] = _predictions(split, outputs[name])
        return scores

    def _selection_scores(self, logits: npt.NDArray[np.float32]) -> dict[str, float]:
        """The metrics and the label loss of logits (examples, outputs) on the selection split."""
        data = self.materials.data
        labels = data.selection.labels
        metrics = evaluate(data.task, labels, logits)
        return metrics | {LABEL_LOSS: label_loss(data.task, labels, logits)}


def _finite_logits(outputs: Mapping[str, Layers], split: str) -> npt.NDArray[np.float32]:
    """The logits of a split (examples, outputs). Raises `RunFailed` unless all are finite."""
    logits: npt.NDArray[np.float32] = outputs[split].logits.numpy()
    if not np.isfinite(logits).all():
        raise RunFailed(f"the logits of {split} are not finite numbers")
    return logits


def _predictions(split: Split, outputs: Layers) -> Predictions:
    return Predictions(outputs.logits.numpy(), split.labels.astype(np.float64), split.ids)
