"""Exported students: ONNX Runtime's logits are Hugging Face's, at sizes that the export has not seen."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoModelForSequenceClassification, DistilBertModel

from harness import extras
from harness.errors import TeacherError, UserError
from harness.models import onnx_export
from harness.models.checkpoints import tokenizer_of
from harness.models.export_formats import FORMATS, check_export
from harness.models.families import FAMILIES
from harness.models.onnx_export import ONNX_FILE, export_onnx
from harness.models.student import save_student
from tests.harness.models.test_families import MAKERS
from tests.onnx_files import needs_onnx, onnx_logits

IN_EACH_RUN = ("roberta", "distilbert", "modernbert")
"""Families of the usual run, beside BERT's whole study in test_study_export.py. The others take some
more seconds each (`pytest -m proof`)."""
TEXTS = [
    ("a man is in the house", "the man sleeps"),
    ("the dog", "a cat sees the dog in the house and the man"),
    ("nobody came", "somebody came"),
]


def student(folder: Path, family: str) -> Path:
    """A saved random student whose logits differ; ModernBERT has both kinds of layers."""
    layers = 2 if family == "modernbert" else 1
    changes: dict[str, Any] = {"num_hidden_layers": layers, "initializer_range": 0.5}
    encoder = MAKERS[family](folder / "encoder", **changes)
    model = AutoModelForSequenceClassification.from_pretrained(encoder)
    saved = folder / "student"
    saved.mkdir()
    save_student(model, None, encoder, saved)
    return saved


@needs_onnx
@pytest.mark.parametrize(
    "family",
    [
        pytest.param(kind, marks=() if kind in IN_EACH_RUN else pytest.mark.proof)
        for kind in FAMILIES
    ],
)
def test_each_family_is_exported_with_free_batch_and_length(
    tmp_path: Path, family: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = student(tmp_path, family)
    capfd.readouterr()
    difference = export_onnx(folder, TEXTS, 64)
    assert not [line for line in capfd.readouterr().out.splitlines() if line]
    assert 0 <= difference < 1e-4
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer: Any = tokenizer_of(folder)
    known = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    rng = np.random.default_rng(0)
    found = []
    for batch, length in ((1, 1), (1, 37), (2, 64), (19, 3)):
        ids = torch.tensor(rng.choice(known, size=(batch, length)))
        mask = torch.ones_like(ids)
        if batch > 1:
            ids[0, length // 2 :], mask[0, length // 2 :] = tokenizer.pad_token_id, 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in tokenizer(*TEXTS[0]) and FAMILIES[family].types is not None:
            inputs["token_type_ids"] = torch.zeros_like(ids)
            if model.config.type_vocab_size > 1:
                inputs["token_type_ids"][:, length // 2 :] = 1
        with torch.no_grad():
            expected = model(**inputs).logits.numpy()
        found.append(onnx_logits(folder / ONNX_FILE, inputs))
        np.testing.assert_allclose(found[-1], expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(np.concatenate(found)[:, 0]) > 0.1  # or equal logits would prove nothing
    assert str(Path(torch.__file__).parent).encode() not in (folder / ONNX_FILE).read_bytes()
    assert not list(folder.glob(".*"))


def test_a_file_with_other_logits_is_refused_and_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = student(tmp_path, "distilbert")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def run(file: Path, batch: dict[str, torch.Tensor]) -> npt.NDArray[np.float32]:
        assert file.is_file()
        with torch.no_grad():
            return np.asarray(model(**batch).logits) + np.float32(0.01)

    monkeypatch.setattr(onnx_export, "_write", lambda model, example, file: file.touch())
    monkeypatch.setattr(onnx_export, "_run", run)
    with pytest.raises(
        UserError, match=r"differ from PyTorch's by 0\.01 \(at most [^)]*\): no file"
    ):
        export_onnx(folder, TEXTS, 64)
    assert not [path for path in folder.iterdir() if ONNX_FILE in path.name]


@needs_onnx
def test_a_student_that_the_exporter_cannot_follow_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = student(tmp_path, "distilbert")
    forward = DistilBertModel.forward

    def branching(model: DistilBertModel, *inputs: Any, **more: Any) -> Any:
        states = forward(model, *inputs, **more)
        if states[0].sum() > 0:  # the exporter knows no values
            states.last_hidden_state = -states.last_hidden_state
        return states

    monkeypatch.setattr(DistilBertModel, "forward", branching)
    with pytest.raises(
        UserError, match=r"^'distilbert' students cannot be exported to ONNX"
    ) as error:
        export_onnx(folder, TEXTS, 64)
    assert "\n" not in str(error.value)
    assert not [path for path in folder.iterdir() if ONNX_FILE in path.name]


def test_logits_that_are_not_a_number_count_as_different() -> None:
    logits = np.ones((3, 2), dtype=np.float32)
    assert onnx_export._check(logits, logits) == 0
    assert onnx_export._check(1000 * logits, 1000 * logits + 0.05) == pytest.approx(0.05, rel=1e-2)
    for other in (logits + 0.001, logits * float("nan")):
        with pytest.raises(UserError, match="differ"):
            onnx_export._check(logits, other)


def test_a_folder_without_a_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError):
        export_onnx(tmp_path, TEXTS, 64)


def test_unknown_formats_and_a_missing_extra_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_export(None)
    with pytest.raises(UserError, match="--export pdf: choose from onnx"):
        check_export("pdf")
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"--export onnx needs the extra: pip install -e '\.\[onnx\]'"
    ):
        check_export("onnx")


def test_a_folder_of_a_packages_name_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in FORMATS["onnx"]:
        (tmp_path / package).mkdir()
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match="--export onnx needs the extra"):
        check_export("onnx")
