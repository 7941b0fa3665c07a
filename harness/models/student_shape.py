"""The shape of students: that of the model they start from, or one of their own."""

from __future__ import annotations

import copy

from transformers import PretrainedConfig

from harness.config import StudentConfig
from harness.errors import MethodError
from harness.method.layer_maps import skip_map
from harness.models.families import set_depth

INTERMEDIATE = ("intermediate_size", "hidden_dim")
"""Names of the inner width of the feed-forward layers, in the configurations of the families."""


def student_shape(start: PretrainedConfig, student: StudentConfig) -> PretrainedConfig:
    """The configuration of students, made from that of the model `start`.

    `student.width`, `student.heads` and `student.intermediate` replace the model's sizes. A width keeps
    the width of a head and the ratio of the inner width, unless their numbers are given too. Embeddings
    as wide as the model stay as wide as the student.

    Raises:
        MethodError: students that copy layers would be deeper than the model, or the sizes do not fit.
    """
    depth = int(start.num_hidden_layers)
    layers = depth if student.layers is None else student.layers
    if layers > depth and student.init != "random":
        model = "the teacher" if student.checkpoint is None else student.checkpoint
        raise MethodError(f"--student-layers {layers}: {model} has {depth}")
    shape = copy.deepcopy(start)
    set_depth(shape, copied_layers(student.init, layers, depth))
    if student.width is None and student.heads is None and student.intermediate is None:
        return shape
    old_width, old_heads = int(start.hidden_size), int(start.num_attention_heads)
    width = student.width or old_width
    heads = student.heads or _scaled("heads", old_heads, width, old_width)
    if width % heads:
        raise MethodError(
            f"student.width={width} is no multiple of {heads} attention heads (student.heads)"
        )
    inner_key = next((name for name in INTERMEDIATE if hasattr(start, name)), None)
    if inner_key is None:
        raise MethodError(
            f"student.width: '{start.model_type}' encoders do not say how wide their layers are; give a "
            "checkpoint of the wished shape (--student)"
        )
    old_inner = int(getattr(start, inner_key))
    inner = student.intermediate or _scaled("intermediate", old_inner, width, old_width)
    shape.hidden_size, shape.num_attention_heads = width, heads
    setattr(shape, inner_key, inner)
    if getattr(start, "embedding_size", None) == old_width:
        shape.embedding_size = width
    return shape


def copied_layers(init: str, student_layers: int, teacher_layers: int) -> list[int]:
    """0-based teacher layers copied into student layers 1..m; `skip` rounds j·n/m half up.

    With `random` no weights are copied; the layers are those of `first`.
    """
    if init != "skip":
        return list(range(student_layers))
    return [layer - 1 for layer in skip_map(student_layers, teacher_layers)]


def _scaled(key: str, size: int, width: int, old_width: int) -> int:
    """A size in its ratio to the width. Raises `MethodError` where that is no whole number."""
    if size * width % old_width or not size * width // old_width:
        raise MethodError(
            f"student.width={width} has no whole number for student.{key} in the teacher's ratio "
            f"({size} at a width of {old_width}); give student.{key}"
        )
    return size * width // old_width
