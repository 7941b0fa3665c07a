"""Trained members to predictions, metrics and what the report shows of their inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.data.scores import evaluate
from harness.evaluation.inspection import inspect_run
from harness.method import Layers, Method, Pooling
from harness.runtime.failures import RunFailed, recorded
from harness.runtime.progress import say
from harness.storage.ledger import Predictions
from harness.training.population import Population
from harness.training.run import Run
from harness.training.task_setup import Materials

INSPECTED = 2048
"""Examples of a split whose pooled states are looked at: those of all would not fit a large task."""


class Evaluation:
    """Evaluates the members of populations on the splits of one task."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials

    def selection_scores(self, population: Population) -> list[dict[str, float]]:
        """Metrics of each member on the selection split, as far as it has been trained."""
        data = self.materials.data
        found = population.predict(self.materials.inputs["selection"], None)
        return [
            evaluate(data.task, data.selection.labels, layers.logits.numpy()) for layers in found
        ]

    def predict(self, population: Population, runs: Sequence[Run]) -> dict[str, list[Layers]]:
        """By split: what every member says of its examples; of the first one its pooled states too.

        The states are of the first `INSPECTED` examples. Test splits are for report runs.
        """
        if not population.members:
            return {}
        looked_at = any(group.inspects for group in population.groups)
        found: dict[str, list[Layers]] = {}
        for run in runs:
            for position, (name, _) in enumerate(run.inputs["evaluation"]):
                if name in found:
                    continue
                inputs = self.materials.inputs[name]
                pooling = population.recipe.view.pooling if looked_at and position == 0 else None
                if pooling is None or len(inputs.lengths) <= INSPECTED:
                    found[name] = population.predict(inputs, pooling)
                    continue
                part = population.predict(inputs.part(np.arange(INSPECTED)), pooling)
                whole = population.predict(inputs, None)
                found[name] = [
                    Layers(own.logits, looked.states)
                    for own, looked in zip(whole, part, strict=True)
                ]
        if any(run.role == "report" for run in runs):
            for name in self.materials.data.test:
                found[name] = population.predict(self.materials.inputs[name], None)
        return found

    def of(
        self, run: Run, method: Method | None, layers: Mapping[str, Layers], pooling: Pooling
    ) -> tuple[dict[str, Predictions], dict[str, object], dict[str, float]]:
        """A run's predictions by split, inspections and metrics, from its outputs by split.

        Raises:
            RunFailed: its logits are not finite numbers.
        """
        predictions: dict[str, Predictions] = {}
        inspections: dict[str, object] = {}
        metrics: dict[str, float] = {}
        data = self.materials.data
        for position, name in enumerate(name for name, _ in run.inputs["evaluation"]):
            split = data.splits[name]
            logits = layers[name].logits.numpy()
            if not np.isfinite(logits).all():
                raise RunFailed(f"the logits of {name} are not finite numbers")
            scores = evaluate(data.task, split.labels, logits)
            # The first split's metrics carry plain names; a further one (MNLI's) its own.
            metrics |= scores if position == 0 else {f"{k} ({name})": v for k, v in scores.items()}
            predictions[name] = Predictions(logits, split.labels.astype(np.float64), split.ids)
            if position == 0 and method is not None and method.inspects():
                outputs = self.materials.outputs[name][pooling]
                try:
                    with recorded():
                        inspections |= inspect_run(method, name, layers[name], outputs)
                except RunFailed as error:
                    say(f"warning: {method.name}, seed {run.seed}: inspect failed: {error}")
        if run.role == "report":
            predictions |= self._test_predictions(layers)
        return predictions, inspections, metrics

    def _test_predictions(self, layers: Mapping[str, Layers]) -> dict[str, Predictions]:
        """Of splits without labels: whatever the logits are, the run's score does not depend on them."""
        return {
            name: Predictions(
                layers[name].logits.numpy(), split.labels.astype(np.float64), split.ids
            )
            for name, split in self.materials.data.test.items()
        }
