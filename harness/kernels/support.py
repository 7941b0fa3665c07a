"""Whether this machine can run the kernels. This module imports no Triton."""

from __future__ import annotations

import os
import shutil
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

FORBIDDEN = "HARNESS_NO_KERNELS"
"""An environment variable: with the value 1 a GPU computes without kernels."""


def has_kernels(device: torch.device) -> bool:
    """Whether kernels run on a device: on a GPU, with Triton and a C compiler, which starts them."""
    return device.type == "cuda" and lack_on_gpu() is None


def forbid_kernels() -> None:
    """Let this process compute without kernels, to compare."""
    lack_on_gpu.cache_clear()
    os.environ[FORBIDDEN] = "1"


@cache
def lack_on_gpu() -> str | None:
    """What kernels lack on a machine with a GPU. None where they lack nothing."""
    if os.environ.get(FORBIDDEN) == "1":
        return f"{FORBIDDEN}=1 forbids them"
    if find_spec("triton") is None:
        return "Triton is not installed"
    compiler = os.environ.get("CC")
    if not any(map(shutil.which, ("gcc", "clang") if compiler is None else (compiler,))):
        return "there is no C compiler (CC, gcc or clang), which Triton needs"
    if not (_headers() / "Python.h").exists():
        return "there is no Python.h (python3-dev), which Triton needs"
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < (7, 0):
        return "the GPU is older than compute capability 7.0, which Triton needs"
    return None


def _headers() -> Path:
    """The folder of Python's headers, as Triton finds it: Debian's own scheme has another."""
    scheme = sysconfig.get_default_scheme()
    scheme = "posix_prefix" if scheme == "posix_local" else scheme
    return Path(sysconfig.get_paths(scheme=scheme)["include"])
