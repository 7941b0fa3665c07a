"""Devices and precisions, and what is refused of them."""

import pytest
import torch

from harness.errors import UserError
from harness.runtime.device import choose_arithmetic


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_tf32_supported", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)


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
