"""Checkpoints: found, or refused with the reason; identified by every file that matters."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from harness.errors import TeacherError
from harness.models.checkpoints import checkpoint_fingerprint, locate, read_config
from harness.models.families import can_stack
from harness.models.student import load_classifier
from tests.conftest import tiny_bert


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "merges.txt",
        "special_tokens_map.json",
    ],
)
def test_every_file_that_matters_is_part_of_the_identity(tmp_path: Path, file: str) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    (tmp_path / file).write_text("one")
    before = checkpoint_fingerprint(tmp_path)
    assert checkpoint_fingerprint(tmp_path) == before
    (tmp_path / file).write_text("two")
    assert checkpoint_fingerprint(tmp_path) != before


def test_shards_are_part_of_the_identity_and_notes_are_not(tmp_path: Path) -> None:
    tiny_bert().save_pretrained(tmp_path, max_shard_size="10KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    before = checkpoint_fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("a note")
    assert checkpoint_fingerprint(tmp_path) == before
    content = bytearray(shards[-1].read_bytes())
    content[-1] ^= 1
    shards[-1].write_bytes(content)
    assert checkpoint_fingerprint(tmp_path) != before


def test_weights_that_are_not_safetensors_are_refused(tmp_path: Path) -> None:
    model = tiny_bert()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(TeacherError, match="no weights in safetensors format"):
        locate(str(tmp_path), "rte", tmp_path)


def test_the_demo_encoder_of_a_task_without_demo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TeacherError, match=r"jobs: the demo's encoder knows .*wnli only; name an encoder"
    ):
        locate("demo", "jobs", tmp_path)


def test_each_task_has_a_demo_encoder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def write(folder: Path, task: str, **_: object) -> None:
        made.append(task)
        (folder / "config.json").write_text(task)

    monkeypatch.setattr("harness.demo.encoder.write_encoder", write)
    folders = [locate("demo", task, tmp_path) for task in ("rte", "mrpc", "rte")]
    assert made == ["rte", "mrpc"]
    assert [(folder / "config.json").read_text() for folder in folders] == ["rte", "mrpc", "rte"]


def test_a_demo_encoder_of_another_recipe_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: Path, task: str, **_: object) -> None:
        (folder / "config.json").write_text(task)

    monkeypatch.setattr("harness.demo.encoder.write_encoder", write)
    source = tmp_path / "demo.py"
    monkeypatch.setattr("harness.demo.encoder.source_files", lambda: [source])
    source.write_text("noise = 0.1")
    before = locate("demo", "rte", tmp_path)
    assert locate("demo", "rte", tmp_path) == before
    source.write_text("noise = 0.2")
    assert locate("demo", "rte", tmp_path) != before


def test_the_task_may_be_part_of_the_name(tmp_path: Path, tiny_encoder: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "teacher-rte")
    assert locate(f"{tmp_path}/teacher-{{task}}", "rte", tmp_path) == tmp_path / "teacher-rte"


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"no config\.json"):
        locate(str(tmp_path), "rte", tmp_path)


def test_other_minilm_weights_than_the_expected_are_refused(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "model")
    monkeypatch.setattr("harness.models.minilm.minilm_installed", lambda: True)
    monkeypatch.setattr("harness.models.minilm.resources.files", lambda package: tmp_path)
    with pytest.raises(TeacherError, match=r"SHA-256 of the weights is .*, expected 53aa5117"):
        locate("minilm", "rte", tmp_path)


@pytest.mark.parametrize(
    "value", [{"quant_method": "bitsandbytes", "load_in_4bit": True}, {"quant_method": "other"}]
)
def test_quantized_weights_are_refused(tmp_path: Path, value: dict[str, object]) -> None:
    tiny_bert().save_pretrained(tmp_path)
    change_config(tmp_path, "quantization_config", value)
    for load in (read_config, lambda folder: load_classifier(folder, torch.device("cpu"))):
        with pytest.raises(TeacherError, match="quantized weights cannot be trained"):
            load(tmp_path)


def test_chunks_of_a_feed_forward_change_nothing(tmp_path: Path) -> None:
    """Hugging Face's class refuses lengths that are no multiple of the chunk's."""
    tiny_bert().save_pretrained(tmp_path)
    ids = torch.arange(5, 16)[None]
    expected = load_classifier(tmp_path, torch.device("cpu"))(ids).logits
    change_config(tmp_path, "chunk_size_feed_forward", 7)
    assert can_stack(read_config(tmp_path))
    assert torch.equal(load_classifier(tmp_path, torch.device("cpu"))(ids).logits, expected)


def change_config(folder: Path, key: str, value: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
