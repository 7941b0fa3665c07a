"""Export of a saved student to ONNX, by torch's exporter, checked against the PyTorch logits."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.errors import UserError, first_line
from harness.models.checkpoints import tokenizer_of
from harness.models.export_formats import FORMATS
from harness.models.families import family_of
from harness.models.student import load_classifier
from harness.runtime import interrupt

ONNX_FILE = "model.onnx"
MOST_DIFFERENCE = 1e-4
"""The largest difference of logits, in units of the largest PyTorch logit, or of 1 if that is larger."""
CHECKED_BATCHES = (1, 4, 11)
"""Sizes of the batches, of different lengths, whose logits are compared."""
CHECKED_EXAMPLES = sum(CHECKED_BATCHES)

Batch = Mapping[str, Tensor]


class _Logits(nn.Module):
    """A classifier as a function of its inputs by name, with the logits alone."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self.model(**inputs).logits
        return logits


def export_onnx(folder: Path, texts: Sequence[tuple[str, ...]], max_length: int) -> float:
    """Write `model.onnx` beside a student that `save_student` has written.

    The file takes what the folder's tokenizer gives, each input (B, T), for every B and every T up to
    the encoder's own limit. It gives the logits (B, outputs) in fp32.

    Args:
        folder: the student's folder.
        texts: examples, at least one, whose logits are compared.
        max_length: tokens at which the examples are cut.

    Returns:
        The largest difference between the two logits.

    Raises:
        UserError: the student cannot be exported, or its logits differ.
        TeacherError: the folder has no classifier that can be read.
    """
    model = load_classifier(folder, torch.device("cpu"))
    if family_of(model.config).attention:
        model.set_attn_implementation(
            "eager"
        )  # Hugging Face's own operations, as in other families
    batches = list(_batches(model, folder, texts, max_length))
    new_file = folder / f".{ONNX_FILE}"
    try:
        try:
            with _silence():
                _write(_Logits(model).eval(), batches[-1], new_file)
                found = [_run(new_file, batch) for batch in batches]
        except Exception as error:  # exporter and runtime raise anything
            interrupt.check(error)
            kind, reason = model.config.model_type, first_line(error.__cause__ or error)
            raise UserError(f"'{kind}' students cannot be exported to ONNX ({reason})") from error
        with torch.inference_mode():
            expected = [model(**batch).logits.numpy() for batch in batches]
        difference = _check(np.concatenate(expected), np.concatenate(found))
        new_file.replace(folder / ONNX_FILE)
    finally:
        new_file.unlink(missing_ok=True)
    return difference


def _batches(
    model: PreTrainedModel, folder: Path, texts: Sequence[tuple[str, ...]], max_length: int
) -> Iterator[dict[str, Tensor]]:
    """The tokens of examples, in batches of different sizes. Few texts are taken again."""
    tokenizer: Any = tokenizer_of(folder)
    rows = [texts[row % len(texts)] for row in range(CHECKED_EXAMPLES)]
    for size in CHECKED_BATCHES:
        part, rows = rows[:size], rows[size:]
        columns = [list(column) for column in zip(*part, strict=True)]
        tokens = tokenizer(
            *columns, truncation=True, max_length=max_length, padding=True, return_tensors="pt"
        )
        yield family_of(model.config).model_inputs(dict(tokens))


def _write(classifier: nn.Module, example: Batch, file: Path) -> None:
    """Write a classifier with batch and length as free dimensions, without words of this machine."""
    shapes = {name: {0: "batch", 1: "length"} for name in example}
    program = torch.onnx.export(
        classifier,
        (dict(example), {}),  # an empty last mapping: the first one is an argument, not keywords
        dynamo=True,
        dynamic_shapes={"inputs": shapes},
        input_names=list(example),
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # the exporter notes the source lines, with their folders
    program.save(str(file), external_data=False)


def _run(file: Path, batch: Batch) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The logits (B, outputs) of a file."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {name: rows.numpy() for name, rows in batch.items()})
    return np.asarray(logits)


def _check(
    expected: np.ndarray[Any, np.dtype[np.float32]], found: np.ndarray[Any, np.dtype[np.float32]]
) -> float:
    """The largest difference of logits (examples, outputs). Raises `UserError` if it is too large."""
    difference = float(np.abs(expected - found).max())
    limit = MOST_DIFFERENCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= limit:  # NaN too
        raise UserError(
            f"the ONNX logits differ from PyTorch's by {difference:.2g} (at most {limit:.2g}): "
            "no file is written"
        )
    return difference


@contextmanager
def _silence() -> Iterator[None]:
    """Without the exporter's progress and its warnings of its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", *FORMATS["onnx"], "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
