"""What tests of exports share: whether the extra is there, and a file's logits."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from harness.models.export_formats import FORMATS

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in FORMATS["onnx"]),
    reason="the extra 'onnx' is not installed",
)


def onnx_logits(file: Path, inputs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """The logits (B, outputs) that ONNX Runtime computes from NumPy arrays or tensors (B, T)."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [entry.shape for entry in session.get_inputs()] == [["batch", "length"]] * len(inputs)
    (logits,) = session.run(None, {name: np.asarray(rows) for name, rows in inputs.items()})
    return np.asarray(logits)
