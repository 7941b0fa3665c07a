"""Device and arithmetic: which ones this machine has, and autocast for them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from harness.config import Precision
from harness.errors import UserError


@dataclass(frozen=True)
class Arithmetic:
    """Where and in which precision the products are computed; losses and logits stay fp32."""

    device: torch.device
    bf16: bool
    tf32: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 autocast, or nothing."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @property
    def name(self) -> str:
        """The precision's name, as fingerprints and reports show it."""
        return "bf16" if self.bf16 else "tf32" if self.tf32 else "fp32"


def choose_arithmetic(device: Literal["auto", "cpu", "cuda"], precision: Precision) -> Arithmetic:
    """Resolve `auto`: CUDA where there is one, bf16 where the processor computes in it.

    `tf32` lets CUDA round the factors of fp32 products to 10 bits, for the whole process; every other
    precision forbids it. Raises `UserError` for a device that is not there or cannot do it.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch sees no CUDA device")
    chosen = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    tf32 = precision == "tf32"
    if tf32 and (chosen.type == "cpu" or not torch.cuda.is_tf32_supported()):
        raise UserError(f"training.precision=tf32: not on this {chosen.type.upper()} device")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    bf16 = _has_bf16(chosen) if precision == "auto" else precision == "bf16"
    return Arithmetic(chosen, bf16, tf32)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
