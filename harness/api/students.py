"""Kept students, ready for use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from harness.models.checkpoints import tokenizer_of
from harness.models.student import load_classifier


def load_student(folder: str | Path, device: str = "cpu") -> tuple[PreTrainedModel, Any]:
    """A kept student in eval mode on a torch device, and its tokenizer.

    `folder` is a row of `Ablation.students()`, or a folder under `<out>/students`.

    Raises:
        TeacherError: the folder has no classifier that can be read.
    """
    path = Path(folder).expanduser()
    return load_classifier(path, torch.device(device)), tokenizer_of(path)
