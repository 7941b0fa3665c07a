"""GLUE's submission files: official names, label words, sizes and form (gluebenchmark.com/faq)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

from harness.errors import DataError
from harness.storage.record import Predictions

SCORES = (0.0, 5.0)
"""STS-B's lowest and highest score: the server refuses scores outside."""
BINARY_WORDS = ("0", "1")
ENTAILMENT_WORDS = ("entailment", "not_entailment")
INFERENCE_WORDS = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class OfficialFile:
    """One file of a submission: the predictions of a task's student on one test split.

    `rows` is the number of examples of the official split. `words` are the server's names of the
    outputs, in the order of the task's labels; empty for scores.
    """

    name: str
    task: str
    split: str
    rows: int
    words: tuple[str, ...]

    def table(self, predictions: Predictions) -> str:
        """The file's text: a header, then on each line an index from 0 and a label word or score.

        Scores are clipped to `SCORES` and have three decimals. Raises `DataError` for predictions that
        the server would refuse.
        """
        logits, outputs = predictions.logits, len(self.words) or 1
        if logits.shape != (self.rows, outputs):
            raise DataError(
                f"{len(logits)} examples of split {self.split} with {logits.shape[1]} outputs; the "
                f"official split has {self.rows} with {outputs}"
            )
        if not np.array_equal(predictions.ids, np.arange(self.rows)):
            raise DataError(f"the examples are not numbered from 0 to {self.rows - 1} in order")
        if not np.isfinite(logits).all():
            raise DataError("the logits are not all finite numbers")
        if self.words:
            answers = [self.words[label] for label in logits.argmax(axis=1)]
        else:
            answers = [f"{score:.3f}" for score in np.clip(logits[:, 0], *SCORES)]
        lines = (f"{index}\t{answer}\n" for index, answer in enumerate(answers))
        return "index\tprediction\n" + "".join(lines)


FILES = (
    OfficialFile("CoLA.tsv", "cola", "test", 1_063, BINARY_WORDS),
    OfficialFile("SST-2.tsv", "sst2", "test", 1_821, BINARY_WORDS),
    OfficialFile("MRPC.tsv", "mrpc", "test", 1_725, BINARY_WORDS),
    OfficialFile("STS-B.tsv", "stsb", "test", 1_379, ()),
    OfficialFile("QQP.tsv", "qqp", "test", 390_965, BINARY_WORDS),
    OfficialFile("MNLI-m.tsv", "mnli", "test_matched", 9_796, INFERENCE_WORDS),
    OfficialFile("MNLI-mm.tsv", "mnli", "test_mismatched", 9_847, INFERENCE_WORDS),
    OfficialFile("QNLI.tsv", "qnli", "test", 5_463, ENTAILMENT_WORDS),
    OfficialFile("RTE.tsv", "rte", "test", 3_000, ENTAILMENT_WORDS),
    OfficialFile("WNLI.tsv", "wnli", "test", 146, BINARY_WORDS),
    OfficialFile("AX.tsv", "mnli", "diagnostic", 1_104, INFERENCE_WORDS),
)
"""All files that the server requires. The student of MNLI answers the diagnostic set, AX."""


def zip_files(files: Mapping[str, str]) -> bytes:
    """A zip of texts by file name, the same bytes for the same texts."""
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, text in files.items():
            entry = ZipInfo(name)  # with a constant date, 1980
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text, ZIP_DEFLATED)
    return content.getvalue()
