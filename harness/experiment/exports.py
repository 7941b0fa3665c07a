"""`--export`: kept students in other formats, beside their checkpoints, when all runs are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.analysis.compare import AblationResult
from harness.analysis.repeats import read_parts
from harness.analysis.results import MethodResult
from harness.errors import UserError
from harness.experiment.ablation import refuse
from harness.experiment.kept_students import add_to_card
from harness.models.onnx_export import CHECKED_EXAMPLES, MOST_DIFFERENCE, ONNX_FILE, export_onnx
from harness.runtime.progress import progress
from harness.storage.folders import folder_lock
from harness.storage.ledger import Ledger
from harness.storage.record import StudyRun
from harness.storage.students import student_name, students_folder

TITLE = "## ONNX"


def _section(texts: int, max_length: int) -> str:
    """The card's section, for examples of so many texts that are cut at `max_length` tokens."""
    words = ", ".join(['["a first text"]', '["a second text"]'][:texts])
    return f"""{TITLE}

`{ONNX_FILE}` is this student for ONNX Runtime, with free batch size and length. When it was written,
its logits were within {MOST_DIFFERENCE:g} of PyTorch's on {CHECKED_EXAMPLES} examples, in units of the
largest logit (at least 1).

```python
from onnxruntime import InferenceSession
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")  # this folder
session = InferenceSession("{ONNX_FILE}")
inputs = tokenizer({words}, truncation=True, max_length={max_length}, return_tensors="np")
names = [entry.name for entry in session.get_inputs()]
logits = session.run(["logits"], {{name: inputs[name] for name in names}})[0]
```
"""


def export_students(ledger: Ledger, result: AblationResult, runs_folder: Path) -> dict[str, str]:
    """Export the kept students of an ablation that are not exported yet.

    Returns:
        The reasons why students are not exported, by the names of the exports.
    """
    refusals: dict[str, str] = {}
    students = list(_students(ledger, result, runs_folder))
    with progress("export to ONNX", len(students)) as advance:
        for name, run, folder in students:
            try:
                _export(ledger, run, folder)
            except UserError as error:
                refuse(refusals, name, error)
            advance(1)
    return refusals


def _students(
    ledger: Ledger, result: AblationResult, runs_folder: Path
) -> Iterator[tuple[str, StudyRun, Path]]:
    """The kept students of an ablation, or of its repeats: name, run and folder."""
    parts = read_parts(ledger, result.manifest).values() or [result.results]
    results: list[MethodResult] = [entry for part in parts for entry in part]
    for entry in results:
        for run in entry.report:
            folder = students_folder(runs_folder, entry.study) / student_name(
                run.record.fingerprint
            )
            if folder.is_dir():
                yield f"ONNX of {entry.method}, {entry.task}, seed {run.seed}", run, folder


def _export(ledger: Ledger, run: StudyRun, folder: Path) -> None:
    """Write a student's file and the card's section, unless they are there. Raises `UserError`."""
    inputs = run.record.inputs
    texts = list(ledger.texts(inputs.split.sha256).values())[:CHECKED_EXAMPLES]
    with folder_lock(folder):
        if not (folder / ONNX_FILE).is_file():
            export_onnx(folder, texts, inputs.training.max_length)
        add_to_card(folder, TITLE, _section(len(texts[0]), inputs.training.max_length))
