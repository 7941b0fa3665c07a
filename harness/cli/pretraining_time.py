"""The time of the demo encoder's pre-training on this machine, from a few of its steps."""

from __future__ import annotations

import time

import numpy as np

from harness.cli.calibration import kept
from harness.demo import encoder as demo_encoder
from harness.demo.tasks import TASKS
from harness.runtime.cpu import one_thread, release_memory
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import global_seed
from harness.storage.fingerprint import file_sha256, fingerprint

PRETRAINING_STEPS = 8
"""Timed steps of each stage of the demo encoder's pre-training."""


def pretraining_seconds(task: str, arithmetic: Arithmetic) -> float:
    """Seconds of the demo encoder's pre-training, from a few of its steps, measured once a machine.

    An edit of the demo measures anew.
    """
    sources = fingerprint([file_sha256(path) for path in demo_encoder.source_files()])
    name = f"pretraining-{task}-{sources[:8]}"
    return float(kept(name, arithmetic, lambda: {"seconds": time_pretraining(task)})["seconds"])


def time_pretraining(task: str) -> float:
    """Seconds of the demo encoder's pre-training, from one pool of examples and a few steps."""
    size = demo_encoder.BATCHES_PER_POOL * demo_encoder.BATCH_SIZE
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    corpus = demo_encoder.draw_corpus(demo_encoder.build_tokenizer(), task, rng, size)
    seconds = (time.perf_counter() - start) * demo_encoder.CORPUS_SIZE / size
    stages = [stage._replace(steps=PRETRAINING_STEPS) for stage in demo_encoder.STAGES]
    moments: list[float] = []
    with global_seed("plan"), one_thread():
        demo_encoder.pretrain(
            corpus, TASKS[task], rng, stages, lambda steps: moments.append(time.perf_counter())
        )
    for stage, ends in zip(
        demo_encoder.STAGES, np.reshape(moments, (-1, PRETRAINING_STEPS)), strict=True
    ):
        seconds += float(np.diff(ends).mean()) * stage.steps
    release_memory()
    return seconds
