"""Devices and precisions, and what is refused of them."""

from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch

from harness.errors import UserError
from harness.runtime.device import choose_arithmetic, device_name
from harness.runtime.provenance import provenance


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_tf32_supported", lambda: True)
    capability(monkeypatch, 9)


def capability(monkeypatch: pytest.MonkeyPatch, major: int) -> None:
    """A CUDA device of that compute capability, whose bf16 tensors can be made in any case."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: Mock(major=major))
    monkeypatch.setattr("torch.cuda._check_bf16_tensor_supported", lambda device: True)


@pytest.mark.parametrize(("major", "precision"), [(7, "fp32"), (8, "bf16"), (9, "bf16")])
def test_bf16_is_chosen_where_the_gpu_computes_in_bf16(
    monkeypatch: pytest.MonkeyPatch, major: int, precision: str
) -> None:
    """T4 and V100 have compute capability 7: torch emulates bf16 there and says that it is supported."""
    capability(monkeypatch, major)
    assert torch.cuda.is_bf16_supported()
    assert choose_arithmetic("auto", "auto").name == precision
    assert choose_arithmetic("auto", "bf16").name == "bf16"


@pytest.mark.usefixtures("cuda")
def test_tf32_is_let_in_by_its_own_flag_only() -> None:
    names = {}
    for precision in ("auto", "tf32", "bf16", "fp32"):
        made = choose_arithmetic("auto", precision)
        assert made.device.type == "cuda"
        names[precision] = (made.name, torch.get_float32_matmul_precision())
    assert names == {
        "auto": ("bf16", "highest"),
        "tf32": ("tf32", "high"),
        "bf16": ("bf16", "highest"),
        "fp32": ("fp32", "highest"),
    }


def test_what_the_device_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="tf32: not on this CPU device"):
        choose_arithmetic("auto", "tf32")
    with pytest.raises(UserError, match="torch sees no CUDA device"):
        choose_arithmetic("cuda", "auto")
    assert choose_arithmetic("cpu", "fp32").name == "fp32"


def test_a_processor_without_a_name_is_named_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = replace(provenance(), processor="", machine="riscv64")
    monkeypatch.setattr("harness.runtime.device.provenance", lambda: nameless)
    assert device_name(torch.device("cpu")) == "riscv64"
    named = replace(nameless, processor="a processor")
    monkeypatch.setattr("harness.runtime.device.provenance", lambda: named)
    assert device_name(torch.device("cpu")) == "a processor"
