"""Teacher outputs: equal to a forward pass, computed once, rebuilt when damaged."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.errors import TeacherError
from harness.method import Pooling
from harness.models.reference import layers_of
from harness.models.teacher_outputs import TeacherOutputs, teacher_outputs
from harness.pooling_table import POOLINGS
from harness.runtime.device import Arithmetic
from harness.storage import arrays
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


def test_a_layer_of_zeros_varies_nowhere() -> None:
    states = torch.stack([torch.zeros(5, 4), torch.eye(5, 4)], dim=1).half()
    zero, other = TeacherOutputs(torch.zeros(5, 2), states).variance_shares()
    assert zero == 0.0 < other


def test_variance_shares_of_layers_are_those_of_the_whole() -> None:
    states = torch.randn(300, 5, 24, generator=torch.Generator().manual_seed(0)).half()
    values = states.numpy().astype(np.float64)
    variance = values.var(axis=0).sum(axis=-1)
    expected = variance / np.square(values).mean(axis=0).sum(axis=-1)
    assert TeacherOutputs(torch.zeros(300, 2), states).variance_shares() == expected.tolist()


def test_outputs_are_maps_that_batches_read_in_pieces(
    tmp_path: Path, arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "MOST_RESIDENT", -(2**40))  # give back after every piece
    monkeypatch.setattr(arrays, "PIECE", 3)
    cached = outputs(tmp_path / "cache", arithmetic, [])
    assert cached.mapped_states is not None
    states = np.load(tmp_path / "cache" / "mean.npy")
    assert states.any(axis=(1, 2)).all()
    rows = torch.randint(40, (3, 7), generator=torch.Generator().manual_seed(0))
    batch = cached.batch(rows, arithmetic.device)
    assert np.array_equal(batch.states.numpy(), states[rows.numpy()].astype(np.float32))
    assert torch.equal(batch.logits, cached.logits[rows])
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert all(f"cache/{name}.npy" in maps.read_text() for name in ("logits", "mean"))
    expected = outputs(tmp_path / "again", arithmetic, []).states
    assert torch.equal(cached.states, expected)
