"""`--latency`: the speeds of teachers and students, measured when all runs are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from harness.evaluation.speed import measure_timing
from harness.runtime.device import Arithmetic, device_name
from harness.runtime.progress import progress
from harness.storage.compression import Compression, Timing
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from harness.workers.prepared_task import PreparedTask


def with_earlier_timings(ledger: Ledger, manifest: Manifest) -> Manifest:
    """The manifest with the timings that an earlier command of the same name measured."""
    if not manifest.compression or manifest.name not in ledger.ablations():
        return manifest
    earlier = ledger.manifest(manifest.name).compression
    compression = {
        task: replace(sizes, timing=earlier[task].timing)
        if task in earlier and sizes.has_shapes_of(earlier[task])
        else sizes
        for task, sizes in manifest.compression.items()
    }
    return replace(manifest, compression=compression)


def measure_speeds(
    ledger: Ledger, name: str, prepared: Mapping[str, PreparedTask], arithmetic: Arithmetic
) -> None:
    """Measure what was not measured on this device, once for each pair of shapes, into the manifest.

    `prepared` are the tasks of the ablation `name`, with their cells.
    """
    manifest = ledger.manifest(name)
    here = device_name(arithmetic.device), torch.get_num_threads()
    timings: dict[str, Timing] = {}
    compression = dict(manifest.compression)
    with progress("latency and throughput", len(compression)) as advance:
        for task, sizes in manifest.compression.items():
            there = sizes.timing and (sizes.timing.device, sizes.timing.threads)
            if there != here:
                compression[task] = replace(
                    sizes, timing=_timing(prepared[task], sizes, timings, arithmetic)
                )
            advance(1)
    ledger.write_ablation(replace(manifest, compression=compression))


def _timing(
    prepared: PreparedTask,
    sizes: Compression,
    timings: dict[str, Timing],
    arithmetic: Arithmetic,
) -> Timing:
    """A timing of the two models, taken from `timings` where this pair is there already."""
    models = prepared.outcome.teacher_encoder, prepared.outcome.student_encoder
    lengths = sizes.teacher.length, sizes.student.length
    key = "\n".join([*(model.to_json_string(use_diff=False) for model in models), str(lengths)])
    if key not in timings:
        timings[key] = measure_timing(models, lengths, arithmetic.device)
    return timings[key]
