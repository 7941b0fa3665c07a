"""The formats of `--export` with the packages that each needs; imported fast, before what exports."""

from __future__ import annotations

from harness.extras import check_choice

FORMATS = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
"""The formats, each with the packages of the extra of its name."""


def check_export(name: str | None) -> None:
    """Refuse an unknown format, and one without its extra. Raises `UserError`."""
    check_choice("--export", name, FORMATS)
