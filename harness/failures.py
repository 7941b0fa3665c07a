"""What a run may raise: most of it is recorded as that run's failure, and the study goes on."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from harness.errors import DeviceError, StorageError, UserError

LONGEST = 300
"""Characters of a message that are kept."""
LIBRARIES = {"torch", "transformers", "numpy"}


class RunFailed(Exception):
    """One run cannot be trained or evaluated; the message is the reason, in one line."""


@contextmanager
def recorded() -> Iterator[None]:
    """Turn what the block raises into `RunFailed`.

    Raises:
        StorageError: as it is: nothing can be recorded.
        DeviceError: the device can do nothing more in this process (CUDA's sticky errors).
    """
    try:
        yield
    except (RunFailed, StorageError):
        raise
    except torch.AcceleratorError as error:
        raise DeviceError(f"the device failed: {_first_line(error)}") from error
    except Exception as error:
        raise RunFailed(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Kind, message and place; the place is the last one outside of the libraries."""
    text = _first_line(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return f"out of memory: {text}" if text else "out of memory"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if LIBRARIES.isdisjoint(Path(frame.filename).parts)]
    place = (own or frames)[-1]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}, line {place.lineno})"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:LONGEST] if lines else ""
