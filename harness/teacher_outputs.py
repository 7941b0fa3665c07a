"""A teacher's outputs for every example, computed once and memory-mapped by all runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from harness.artefacts import cached
from harness.encoder import Pooling, pool
from harness.errors import TeacherError
from harness.inputs import EncodedSplit
from harness.method import Layers
from harness.precision import Arithmetic
from harness.schedule import LengthSchedule

SHARE_SAMPLE = 4096


@dataclass(frozen=True)
class TeacherOutputs:
    """Memory-mapped `logits` (examples, outputs) fp32 and `states` (examples, layers, width) fp16."""

    logits: npt.NDArray[np.float32]
    states: npt.NDArray[np.float16]

    def batch(self, rows: npt.NDArray[np.int64], device: torch.device) -> Layers:
        """The outputs for those rows in fp32; only they are read from the file."""
        states = torch.from_numpy(self.states[rows]).to(device).float()
        return Layers(torch.from_numpy(self.logits[rows]).to(device), states)

    def variance_shares(self) -> list[float]:
        """Share of each layer's energy that varies between examples, from up to 4,096 of them."""
        states = self.states[:SHARE_SAMPLE].astype(np.float64)
        variance = states.var(axis=0).sum(axis=-1)
        energy = np.square(states).mean(axis=0).sum(axis=-1)
        return [float(share) for share in variance / energy]


def teacher_outputs(
    folder: Path,
    model: PreTrainedModel,
    inputs: EncodedSplit,
    arithmetic: Arithmetic,
    pooling: Pooling,
    advance: Callable[[int], None],
) -> TeacherOutputs:
    """Open the outputs in a folder, computing them first when they are missing or damaged."""

    def build(fresh: Path) -> dict[str, Any]:
        _compute(fresh, model, inputs, arithmetic, advance)
        return {"examples": len(inputs.lengths)}

    cached(folder, build)
    logits = np.load(folder / "logits.npy", mmap_mode="r", allow_pickle=False)
    states = np.load(folder / f"{pooling}.npy", mmap_mode="r", allow_pickle=False)
    return TeacherOutputs(logits, states)


def _reserve(file: Path) -> None:
    """Have the file's blocks on disk: where they lack, a write to the map would kill the process."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)


@torch.inference_mode()
def _compute(
    folder: Path,
    model: PreTrainedModel,
    inputs: EncodedSplit,
    arithmetic: Arithmetic,
    advance: Callable[[int], None],
) -> None:
    if model.training:
        raise TeacherError("a teacher must be in eval mode when it teaches")
    examples, config = len(inputs.lengths), model.config
    shape = (examples, config.num_hidden_layers, config.hidden_size)
    create = np.lib.format.open_memmap
    logits = create(folder / "logits.npy", "w+", np.float32, (examples, int(config.num_labels)))
    states = {
        pooling: create(folder / f"{pooling}.npy", "w+", np.float16, shape)
        for pooling in ("cls", "mean")
    }
    for file in folder.glob("*.npy"):
        _reserve(file)
    for batch in LengthSchedule(inputs.lengths, 64).in_order():
        tensors = inputs.batch(batch, arithmetic.device)
        with arithmetic.autocast():
            outputs = model(**tensors, output_hidden_states=True)
        logits[batch.rows] = outputs.logits.float().cpu().numpy()
        if not np.isfinite(logits[batch.rows]).all():
            raise TeacherError("the teacher's logits are not finite numbers")
        for pooling, target in states.items():
            pooled = pool(outputs.hidden_states[1:], tensors["attention_mask"], pooling)  # type: ignore[arg-type]
            target[batch.rows] = pooled.cpu().numpy().astype(np.float16)
            if not np.isfinite(target[batch.rows]).all():
                raise TeacherError("the teacher's states do not fit 16-bit floats")
        advance(1)
    for array in (logits, *states.values()):
        array.flush()
