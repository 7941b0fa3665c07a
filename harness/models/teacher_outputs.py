"""A teacher's outputs for every example, from one pass. All runs map the files in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.data.batches import Batch, Indices, LengthSchedule
from harness.data.tokens import EncodedSplit
from harness.errors import TeacherError
from harness.method import Layers, Pooling
from harness.models.families import family_of
from harness.models.network import pool
from harness.pooling_table import POOLINGS
from harness.runtime.device import Arithmetic
from harness.runtime.memory import Portions
from harness.storage.arrays import MappedRows, map_array
from harness.storage.folders import build_once

SHARE_SAMPLE = 4096
OUTPUT_BATCH = 64
"""Examples of which a teacher computes the outputs at once."""
GPU_TOKENS = 1 << 16
"""Tokens of which a GPU computes outputs at once, where these are more than a batch has."""
SHARE_OF_GPU = 0.25
"""The share of a GPU's free memory that a split's outputs may take."""


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's outputs for one split.

    `logits` are (examples, outputs) in fp32, and `states` are (examples, layers, width) in fp16. Both
    lie on the GPU or in mapped files. The operating system reads only the rows of a file that are used.
    Batches of mapped states come from `mapped_states`, which bounds the pages in this process.
    """

    logits: Tensor
    states: Tensor
    mapped_states: MappedRows | None = None

    def to_device(self, device: torch.device) -> TeacherOutputs:
        """The outputs in a GPU's memory. Outputs above `SHARE_OF_GPU` stay in their files."""
        if device.type == "cpu":
            return self
        free_bytes, _ = torch.cuda.mem_get_info(device)
        if self.states.nbytes > free_bytes * SHARE_OF_GPU:
            return self
        return TeacherOutputs(self.logits.to(device), self.states.to(device))

    def lies_on(self, device: torch.device) -> bool:
        """Whether the outputs are in a device's memory, and not in files or on another device."""
        return self.mapped_states is None and self.states.device.type == device.type

    def part(self, rows: Tensor) -> TeacherOutputs:
        """The outputs for some rows (k,), on the same device."""
        rows = rows.to(self.states.device)
        return TeacherOutputs(self.logits[rows], self.states[rows])

    def batch(self, rows: Tensor, device: torch.device) -> Layers:
        """The outputs for rows (...,): tensors (..., outputs) and (..., layers, width).

        The tensors are in fp32 on the device. The rows of mapped outputs must be on the CPU.
        """
        rows = rows.to(self.states.device, non_blocking=True)
        if self.mapped_states is None:
            states = self.states[rows]
        else:
            flat_states = torch.from_numpy(self.mapped_states.read(rows.flatten().numpy()))
            states = flat_states.unflatten(0, rows.shape)
        logits = self.logits[rows].to(device, non_blocking=True)
        return Layers(logits, states.to(device, non_blocking=True).float())

    def variance_shares(self) -> list[float]:
        """The variance between examples as a share of energy, for each layer, in [0, 1].

        The shares come from the first `SHARE_SAMPLE` examples.
        """
        sample = self.states[:SHARE_SAMPLE].numpy()
        return [_variance_share(sample[:, layer]) for layer in range(sample.shape[1])]


def _variance_share(layer_states: npt.NDArray[np.float16]) -> float:
    """The share for one layer's states (examples, width); 0 for a layer of zeros."""
    states = layer_states.astype(np.float64)
    variance, energy = states.var(axis=0).sum(), np.square(states).mean(axis=0).sum()
    return float(variance / energy) if energy else 0.0


def teacher_outputs(
    folder: Path,
    model: PreTrainedModel,
    inputs: EncodedSplit,
    arithmetic: Arithmetic,
    advance: Callable[[int], None],
) -> dict[Pooling, TeacherOutputs]:
    """A teacher's outputs by pooling, from the files in a folder.

    Where the files are missing or damaged, the function computes the outputs and writes the files first.
    `advance` is called with the number of batches done, of `OUTPUT_BATCH` examples each.

    Raises:
        TeacherError: the model is in training mode, or its outputs are not finite.
    """

    def build(new_folder: Path) -> dict[str, Any]:
        _compute(new_folder, model, inputs, arithmetic, advance)
        return {"examples": len(inputs.lengths)}

    build_once(folder, build)
    logits = torch.from_numpy(map_array(folder / "logits.npy"))
    outputs: dict[Pooling, TeacherOutputs] = {}
    for pooling in POOLINGS:
        states = map_array(folder / f"{pooling}.npy")
        outputs[pooling] = TeacherOutputs(logits, torch.from_numpy(states), MappedRows(states))
    return outputs


def _reserve(file: Path) -> None:
    """Reserve a file's blocks on disk. Without disk space a write to the map would kill the process."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)


def output_batches(lengths: Indices, device: torch.device) -> Iterator[Batch]:
    """The batches in which a teacher's outputs are computed for examples of `lengths` (examples,)."""
    most_tokens = GPU_TOKENS if device.type == "cuda" else 0
    return LengthSchedule(lengths, OUTPUT_BATCH).in_order(most_tokens)


@torch.inference_mode()
def outputs_of_batch(
    model: PreTrainedModel, tensors: Mapping[str, Tensor], arithmetic: Arithmetic
) -> tuple[npt.NDArray[np.float32], dict[Pooling, npt.NDArray[np.float16]]]:
    """A teacher's logits (B, outputs) and, by pooling, states (B, layers, width) of a padded batch."""
    with arithmetic.autocast():
        outputs = model(**family_of(model.config).model_inputs(tensors), output_hidden_states=True)
    mask = tensors["attention_mask"]
    # On a GPU half the bytes are copied, and all poolings at once.
    pooled = [pool(outputs.hidden_states[1:], mask, pooling).half() for pooling in POOLINGS]
    states = dict(zip(POOLINGS, torch.stack(pooled).cpu().numpy(), strict=True))
    return outputs.logits.float().cpu().numpy(), states


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
        pooling: MappedRows(create(folder / f"{pooling}.npy", "w+", np.float16, shape))
        for pooling in POOLINGS
    }
    for file in folder.glob("*.npy"):
        _reserve(file)
    tokens = inputs.tokens(arithmetic.device)
    portions = Portions()

    def write(rows: npt.NDArray[np.int64], width: int) -> None:
        tensors = tokens.batch(torch.from_numpy(rows), width)
        logits[rows], row_states = outputs_of_batch(model, tensors, arithmetic)
        if not np.isfinite(logits[rows]).all():
            raise TeacherError("the teacher's logits are not finite numbers")
        for pooling, target in states.items():
            target.write(rows, row_states[pooling])
            if not np.isfinite(row_states[pooling]).all():
                raise TeacherError("the teacher's states do not fit 16-bit floats")

    for batch in output_batches(inputs.lengths, arithmetic.device):
        portions.work(batch.rows, partial(write, width=batch.width))
        advance(-(-len(batch.rows) // OUTPUT_BATCH))
    logits.flush()
    for target in states.values():
        target.flush()
