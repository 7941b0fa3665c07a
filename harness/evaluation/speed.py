"""The speed of teacher and student, measured in turns on this machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from statistics import median

import torch
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from harness.runtime.device import clock_seconds, device_name
from harness.runtime.randomness import global_seed
from harness.storage.compression import Speed, Timing

BATCH = 32
"""Examples of a batch whose throughput is measured."""
MOST_REPEATS = 30
LEAST_REPEATS = 5
ENOUGH_SECONDS = 6.0
"""Seconds after which a measurement ends, once it has `LEAST_REPEATS`."""


def measure_timing(
    models: tuple[PretrainedConfig, PretrainedConfig],
    lengths: tuple[int, int],
    device: torch.device,
) -> Timing:
    """Measure the speeds of a teacher and a student, whose configurations are `models`.

    The weights are random, since no speed depends on them. The models run as Hugging Face's classes do
    when they are loaded: in fp32, with the default attention. Each repeat times one example and one
    batch of both models in turns, so that a disturbance meets both alike.
    """
    with global_seed("speed"), torch.inference_mode():
        classifiers = [_classifier(config, device) for config in models]
        inputs = [
            [torch.ones(size, length, dtype=torch.long, device=device) for size in (1, BATCH)]
            for length in lengths
        ]
        seconds: list[list[list[float]]] = [[[], []], [[], []]]
        start, repeats = time.perf_counter(), 0
        while repeats < LEAST_REPEATS or (
            repeats < MOST_REPEATS and time.perf_counter() - start < ENOUGH_SECONDS
        ):
            for model, batches, timings in zip(classifiers, inputs, seconds, strict=True):
                for ids, timing in zip(batches, timings, strict=True):
                    if not repeats:
                        _seconds(model, ids)  # the first pass sets up memory
                    timing.append(_seconds(model, ids))
            repeats += 1
    teacher, student = map(_speed, seconds)
    return Timing(device_name(device), torch.get_num_threads(), repeats, teacher, student)


def _classifier(config: PretrainedConfig, device: torch.device) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(copy.deepcopy(config))
    return model.to(device).eval()


def _seconds(model: PreTrainedModel, ids: torch.Tensor) -> float:
    """Seconds of a forward pass, until its result is there."""
    start = clock_seconds(ids.device)
    model(input_ids=ids)
    return clock_seconds(ids.device) - start


def _speed(timings: Sequence[Sequence[float]]) -> Speed:
    one, batch = map(median, timings)
    return Speed(latency=one, throughput=BATCH / batch)
