"""`--export onnx`: kept students get a checked file, a failed export costs no study."""

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from harness import extras
from harness.demo.examples import generate
from harness.errors import UserError
from harness.experiment import exports
from harness.models.checkpoints import tokenizer_of
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main
from tests.conftest import small_pools, write_bert
from tests.onnx_files import needs_onnx, onnx_logits

EXPORT = ("--export", "onnx", "--baseline", "none", "--trials", "2", "protocol.budget=1")


@needs_onnx
def test_a_kept_student_gets_a_file_with_the_recorded_logits_and_a_card_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tmp_path / "encoder"
    write_bert(encoder, layers=4, positions=64, initializer_range=0.3)
    words = small_pools(tmp_path, encoder, *EXPORT)
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["refused"] == {}
    (file,) = tmp_path.glob("students/*/*/model.onnx")
    folder = file.parent
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        (run,) = (
            run
            for run in ledger.study_runs(folder.parent.name)
            if run.record.fingerprint.startswith(folder.name)
        )
        recorded = ledger.predictions(run.record.fingerprint, "validation")
    assert recorded is not None
    tokenizer: Any = tokenizer_of(folder)
    columns = [list(c) for c in zip(*generate("rte")["validation"].texts, strict=True)]
    inputs = tokenizer(*columns, padding=True, truncation=True, max_length=64, return_tensors="np")
    np.testing.assert_allclose(onnx_logits(file, inputs), recorded.logits, atol=1e-5)
    assert np.ptp(recorded.logits[:, 0]) > 1e-3
    text = (folder / "README.md").read_text()
    assert ModelCard(text).data.to_dict()["library_name"] == "transformers"
    monkeypatch.chdir(folder)
    (block,) = re.findall(r"```python\n(from onnxruntime.*?)```", text, re.S)
    found: dict[str, Any] = {}
    exec(block, found)
    assert found["logits"].shape == (1, 2)

    written = file.stat().st_mtime_ns
    assert main(words) == 0
    assert file.stat().st_mtime_ns == written
    assert (folder / "README.md").read_text() == text
    assert text.count("## ONNX") == 1


def test_exports_of_all_repeats_are_tried_and_a_failed_one_is_code_3(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tried: list[tuple[Path, int, int]] = []

    def export(folder: Path, texts: list[tuple[str, ...]], max_length: int) -> float:
        tried.append((folder, len(texts), max_length))
        if len(tried) == 1:
            raise UserError("of another kind")
        (folder / "model.onnx").write_bytes(b"")
        return 0.0

    monkeypatch.setattr(exports, "export_onnx", export)
    monkeypatch.setattr(extras, "_is_installed", lambda package: True)
    words = small_pools(tmp_path, tiny_encoder, *EXPORT, "--repeat-search", "2")
    assert main(words) == 3
    streams = capsys.readouterr()
    answer = json.loads(streams.out)
    ((name, reason),) = answer["refused"].items()
    assert name.startswith("ONNX of alp, rte, seed ")
    assert reason == "of another kind"
    assert streams.err.splitlines()[-1] == f"left out: {name} (of another kind)"
    assert Path(answer["report"]).is_file()
    kept = [path.parent for path in tmp_path.glob("students/*/*/README.md")]
    assert sorted(kept) == sorted(folder for folder, *_ in tried)
    assert [sizes for _, *sizes in tried] == [[16, 64]] * 2
    sections = {folder: "## ONNX" in (folder / "README.md").read_text() for folder in kept}
    assert [sections[folder] for folder, *_ in tried] == [False, True]


@pytest.mark.parametrize(
    ("words", "installed", "expected"),
    [
        (("--export", "pdf"), True, "--export pdf: choose from onnx"),
        (
            ("--export", "onnx", "--keep", "none"),
            True,
            "--export onnx: --keep none keeps no student",
        ),
        (("--export", "onnx"), False, "--export onnx needs the extra: pip install -e '.[onnx]'"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_prepared(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], installed: bool, expected: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(extras, "_is_installed", lambda package: installed)
    out = tmp_path / "runs"
    for form in ((), ("--dry-run",)):
        assert main(small_pools(out, tiny_encoder, *words, *form)) == 2
        assert capsys.readouterr().err.splitlines() == [f"error: {expected}"]
    assert not out.exists()
