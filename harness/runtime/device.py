"""Device and arithmetic: the choice among those that this machine has, and autocast."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from harness.config import Precision
from harness.errors import UserError
from harness.runtime.provenance import provenance


@dataclass(frozen=True)
class Arithmetic:
    """The device and the precision of products. Losses and logits are fp32 with every precision."""

    device: torch.device
    bf16: bool
    tf32: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """A context with bf16 autocast; without bf16 the context does nothing."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @property
    def name(self) -> Precision:
        """The precision's name, as fingerprints and reports show it."""
        return "bf16" if self.bf16 else "tf32" if self.tf32 else "fp32"


def choose_arithmetic(device: Literal["auto", "cpu", "cuda"], precision: Precision) -> Arithmetic:
    """Resolve `auto`: CUDA where there is a device, and bf16 where the processor computes in bf16.

    Elsewhere `auto` is fp32: also on a GPU of compute capability below 8 (T4, V100, RTX 20), where torch
    emulates bf16.
    `tf32` lets CUDA round the factors of fp32 products to 10 bits, in the whole process. Every other
    precision forbids this rounding.

    Raises:
        UserError: the device is not there, or does not have the precision.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch sees no CUDA device")
    torch_device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    tf32 = precision == "tf32"
    if tf32 and (torch_device.type == "cpu" or not torch.cuda.is_tf32_supported()):
        raise UserError(f"training.precision=tf32: not on this {torch_device.type.upper()} device")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    bf16 = _has_bf16(torch_device) if precision == "auto" else precision == "bf16"
    return Arithmetic(torch_device, bf16, tf32)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def clock_seconds(device: torch.device) -> float:
    """Seconds of a clock, after a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def device_name(device: torch.device) -> str:
    """The name of a GPU or of the processor; the kind of machine where the processor has no name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return provenance().processor or provenance().machine
