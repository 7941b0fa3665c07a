"""Teacher outputs: equal to a forward pass, computed once, rebuilt when damaged."""

from pathlib import Path

import pytest
import torch

from harness.errors import TeacherError
from harness.method import Pooling
from harness.models.reference import layers_of
from harness.models.teacher_outputs import TeacherOutputs, teacher_outputs
from harness.pooling_table import POOLINGS
from harness.runtime.device import Arithmetic
from tests.conftest import tiny_batch, tiny_bert, tiny_inputs


def outputs(
    folder: Path, arithmetic: Arithmetic, computed: list[int], pooling: Pooling = "mean"
) -> TeacherOutputs:
    model = tiny_bert().eval()
    return teacher_outputs(folder, model, tiny_inputs(), arithmetic, computed.append)[pooling]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_rows_equal_a_live_forward(
    tmp_path: Path, arithmetic: Arithmetic, pooling: Pooling
) -> None:
    cached = outputs(tmp_path / "cache", arithmetic, [], pooling)
    rows = [3, 39, 0]
    with torch.no_grad():
        batch = tiny_batch(tiny_inputs(), rows, 24)
        live = layers_of(tiny_bert().eval(), batch, pooling)
    found = cached.batch(torch.tensor(rows), arithmetic.device)
    torch.testing.assert_close(found.logits, live.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.states, live.states, atol=2e-3, rtol=2e-3)
    assert (cached.logits.dtype, cached.states.dtype) == (torch.float32, torch.float16)


def test_computed_once(tmp_path: Path, arithmetic: Arithmetic) -> None:
    computed: list[int] = []
    outputs(tmp_path / "cache", arithmetic, computed)
    first = len(computed)
    outputs(tmp_path / "cache", arithmetic, computed)
    assert first > 0
    assert len(computed) == first


@pytest.mark.parametrize("damage", ["truncate", "flip", "no manifest", "empty manifest", "missing"])
def test_damage_is_found_and_rebuilt(tmp_path: Path, arithmetic: Arithmetic, damage: str) -> None:
    folder = tmp_path / "cache"
    expected = outputs(folder, arithmetic, [])
    states = expected.states.clone()
    target, manifest = folder / "mean.npy", folder / "manifest.json"
    content = bytearray(target.read_bytes())
    if damage == "truncate":
        target.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[-3] ^= 1
        target.write_bytes(content)
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "empty manifest":
        manifest.write_text("{}")
    else:
        target.unlink()
    computed: list[int] = []
    found = outputs(folder, arithmetic, computed)
    assert computed
    assert torch.equal(found.states, states)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".cache.lock", "cache"]


def test_a_teacher_in_train_mode_is_refused(tmp_path: Path, arithmetic: Arithmetic) -> None:
    with pytest.raises(TeacherError, match="eval mode"):
        teacher_outputs(
            tmp_path / "c", tiny_bert().train(), tiny_inputs(), arithmetic, lambda n: None
        )


def test_variance_share_by_hand() -> None:
    states = torch.tensor([[[3.0, 0.0]], [[1.0, 0.0]]], dtype=torch.float16)
    found = TeacherOutputs(torch.zeros(2, 2), states).variance_shares()
    assert found == pytest.approx([1.0 / 5.0])
