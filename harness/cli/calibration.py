"""The rates of this machine: a few real steps, measured once and kept in the user's cache.

The seconds of a step are a sum: products at one rate, moved bytes at another, weights in training at a
third (the optimiser), and a constant for each call of an operation. The four rates fit the measured
steps with the least squares of the relative deviations.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from scipy.optimize import nnls
from transformers import BertConfig

from harness.cli.step_counts import (
    META,
    Values,
    Work,
    count_live,
    count_step,
    member_of,
    on_meta,
    recipe_of,
)
from harness.config import TrainingConfig
from harness.kernels.support import has_kernels
from harness.models.student import new_classifier
from harness.models.teacher_outputs import outputs_of_batch
from harness.runtime.cpu import release_memory
from harness.runtime.device import Arithmetic, clock_seconds, device_name
from harness.runtime.progress import say
from harness.runtime.provenance import provenance
from harness.runtime.randomness import global_seed
from harness.storage.fingerprint import fingerprint
from harness.storage.folders import build_once
from harness.training.population import Population
from harness.training.recipe import Recipe

VERSION = 3
"""The version of the kept rates: another version measures anew."""
_measured_here = False
"""Whether this process has measured rates."""
WARM_UP = {"cpu": 1, "cuda": 3}
"""Steps before the timed ones, by device: on a GPU the second one of a shape may record a graph."""
TIMINGS = 3
WORDS = 1000
"""Words of the calibration's encoders."""


class Sample(NamedTuple):
    """A step that is measured: an encoder's depth and width, runs, examples and their length."""

    layers: int
    width: int
    runs: int
    rows: int
    length: int
    trains: bool = True
    """False for a forward pass of a teacher, which gives its outputs."""


SAMPLES = {
    "cpu": (
        Sample(4, 48, 1, 16, 32),
        Sample(2, 768, 1, 8, 48),
        Sample(2, 768, 1, 4, 16),
        Sample(2, 768, 1, 8, 48, trains=False),
        Sample(3, 384, 1, 16, 48),
        Sample(3, 384, 2, 8, 24),
        Sample(3, 384, 1, 16, 48, trains=False),
        Sample(4, 48, 16, 16, 32),
        Sample(12, 48, 1, 32, 32),
        Sample(12, 48, 1, 64, 32, trains=False),
    ),
    "cuda": (
        Sample(4, 768, 1, 32, 64),
        Sample(4, 768, 8, 32, 64),
        Sample(4, 768, 16, 32, 128),
        Sample(12, 768, 1, 512, 128, trains=False),
        Sample(12, 768, 1, 32, 128),
        Sample(3, 384, 1, 32, 64),
        Sample(3, 384, 32, 32, 64),
        Sample(6, 384, 1, 512, 64, trains=False),
        Sample(4, 48, 1, 16, 32),
        Sample(4, 48, 64, 16, 32),
        Sample(12, 48, 1, 64, 32, trains=False),
    ),
}
"""The measured steps, by device."""


@dataclass(frozen=True)
class Rates:
    """Seconds of the parts of a step: of one operation of a product, one byte, one weight and one call.

    `deviation` is the largest relative deviation of a measured step. `measured` is a date in words.
    `start_bytes` are those that training leaves in a process for good, for the libraries' own use.
    """

    product: float
    byte: float
    weight: float
    call: float
    deviation: float
    measured: str
    start_bytes: int = 0

    @property
    def words(self) -> str:
        """When the rates were measured, and how well they fit."""
        return (
            f"rates of {self.measured}, which fit this machine's measured steps within "
            f"{100 * self.deviation:.0f} %"
        )

    def seconds(self, work: Work, weights: float = 0.0, steps: float = 1.0, runs: int = 1) -> float:
        """The seconds of `work`, the work of one of `runs` runs in `steps` steps.

        `weights` are a run's numbers in training, or 0 for a forward pass. A call serves all runs.
        """
        return (
            self.product * work.products
            + self.byte * work.moved
            + self.weight * weights * steps
            + self.call * work.calls / runs
        )


def machine_rates(arithmetic: Arithmetic) -> Rates:
    """This machine's rates, from the cache; measured first where the cache has none.

    `start_bytes` are 0 in a process that has measured: its memory has them already.

    Raises:
        StorageError: the cache cannot be written.
    """
    rates = Rates(**kept("rates", arithmetic, lambda: asdict(measure(arithmetic))))
    return replace(rates, start_bytes=0) if _measured_here else rates


def kept(
    name: str, arithmetic: Arithmetic, measure: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What `measure` gives, measured once on this machine with these libraries and threads."""
    folder = cache_folder() / f"{name}-{fingerprint(machine_key(arithmetic))[:16]}"

    def build(new_folder: Path) -> dict[str, Any]:
        say(f"this machine's rates are measured once, and kept in {folder}")
        return measure()

    facts: dict[str, Any] = dict(build_once(folder, build))
    return facts


def cache_folder() -> Path:
    """The folder of this machine's measures: below XDG_CACHE_HOME, or below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "distillation-harness"


def machine_key(arithmetic: Arithmetic) -> dict[str, Any]:
    """What the rates depend on, in plain values."""
    own = provenance()
    return {
        "version": VERSION,
        "samples": SAMPLES[arithmetic.device.type],
        "processor": own.processor,
        "cores": own.cores,
        "memory": own.memory_bytes,
        "device": device_name(arithmetic.device),
        "kernels": has_kernels(arithmetic.device),
        "precision": arithmetic.name,
        "threads": torch.get_num_threads(),
        "libraries": {name: own.libraries[name] for name in ("torch", "transformers")},
    }


def measure(arithmetic: Arithmetic) -> Rates:
    """Measure the samples, and fit the rates to them."""
    global _measured_here
    _measured_here = True
    training = TrainingConfig()
    rows, seconds = [], []
    process = psutil.Process()
    before = process.memory_info().rss
    for sample in SAMPLES[arithmetic.device.type]:
        config = BertConfig(
            vocab_size=WORDS,
            num_hidden_layers=sample.layers,
            hidden_size=sample.width,
            num_attention_heads=max(sample.width // 64, 2),
            intermediate_size=4 * sample.width,
            num_labels=2,
        )
        counted = recipe_of(config, training, sample.rows, sample.length, META)
        real = recipe_of(config, training, sample.rows, sample.length, arithmetic)
        weights = dict(on_meta(config).state_dict())
        if sample.trains:
            work = count_step(replace(counted, words=torch.arange(1)), member_of(weights))
            numbers = float(sum(value.numel() for value in weights.values()))
            seconds.append(_seconds_of_training(real, config, sample.runs))
        else:
            work = count_live(replace(counted, live_teacher=on_meta(config)))
            numbers = 0.0
            seconds.append(_seconds_of_outputs(real, config))
        runs = sample.runs
        rows.append([runs * work.products, runs * work.moved, runs * numbers, work.calls])
    gc.collect()
    release_memory()
    start_bytes = max(process.memory_info().rss - before, 1)
    return replace(fit(np.array(rows), np.array(seconds)), start_bytes=start_bytes)


def fit(rows: Values, seconds: Values) -> Rates:
    """Rates, not below 0, with the least squares of the relative deviations.

    Args:
        rows: products, moved bytes, weights and calls of each step (steps, 4).
        seconds: the measured seconds (steps,).
    """
    scales = rows.max(axis=0)
    shares, _ = nnls(rows / scales / seconds[:, None], np.ones(len(seconds)))
    rates = shares / scales
    deviation = float(np.abs(rows @ rates / seconds - 1.0).max())
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    product, byte, weight, call = rates.tolist()
    return Rates(product, byte, weight, call, deviation, today)


def _seconds_of_training(recipe: Recipe, config: BertConfig, runs: int) -> float:
    with global_seed("calibration"):
        weights = dict(new_classifier(config).state_dict())
    members = [member_of(weights, seed=seed) for seed in range(runs)]
    population = Population(members, replace(recipe, words=torch.arange(WORDS)))
    examples = torch.arange(len(recipe.inputs.lengths)).expand(runs, -1)
    width = int(recipe.inputs.lengths.max())
    return _timed(lambda: population.train_batch(examples, width, 0), recipe.arithmetic)


def _seconds_of_outputs(recipe: Recipe, config: BertConfig) -> float:
    with global_seed("calibration"):
        model = new_classifier(config).to(recipe.arithmetic.device).eval()
    width = int(recipe.inputs.lengths.max())
    tensors = recipe.tokens.batch(torch.arange(len(recipe.inputs.lengths)), width)
    return _timed(lambda: outputs_of_batch(model, tensors, recipe.arithmetic), recipe.arithmetic)


def _timed(step: Callable[[], object], arithmetic: Arithmetic) -> float:
    """The least seconds of a step: other work on the machine can only add to them."""
    release_memory()
    timings = []
    warm_up = WARM_UP[arithmetic.device.type]
    for number in range(warm_up + TIMINGS):
        start = clock_seconds(arithmetic.device)
        step()
        end = clock_seconds(arithmetic.device)
        if number >= warm_up:
            timings.append(end - start)
    return min(timings)
