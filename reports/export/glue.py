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
"""STS-B's lowest and highest: the server refuses others."""
BINARY = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")
INFERENCE = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class OfficialFile:
    """One file of a submission: the predictions of a task's student on one test split.

    rows: examples of the official split. words: what the server calls the outputs, in the order of the
    task's labels; empty for scores.
    """

    name: str
    task: str
    split: str
    rows: int
    words: tuple[str, ...]

    def table(self, predicted: Predictions) -> str:
        """The file's text: a header, then an index from 0 and a label word or score a line.

        Scores are held to `SCORES` and have three decimals. Raises `DataError` with what is wrong with
        predictions that the server would refuse.
        """
        logits, outputs = predicted.logits, len(self.words) or 1
        if logits.shape != (self.rows, outputs):
            raise DataError(
                f"{len(logits)} examples of split {self.split} with {logits.shape[1]} outputs; the "
                f"official one has {self.rows} with {outputs}"
            )
        if not np.array_equal(predicted.ids, np.arange(self.rows)):
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
    OfficialFile("CoLA.tsv", "cola", "test", 1_063, BINARY),
    OfficialFile("SST-2.tsv", "sst2", "test", 1_821, BINARY),
    OfficialFile("MRPC.tsv", "mrpc", "test", 1_725, BINARY),
    OfficialFile("STS-B.tsv", "stsb", "test", 1_379, ()),
    OfficialFile("QQP.tsv", "qqp", "test", 390_965, BINARY),
    OfficialFile("MNLI-m.tsv", "mnli", "test_matched", 9_796, INFERENCE),
    OfficialFile("MNLI-mm.tsv", "mnli", "test_mismatched", 9_847, INFERENCE),
    OfficialFile("QNLI.tsv", "qnli", "test", 5_463, ENTAILMENT),
    OfficialFile("RTE.tsv", "rte", "test", 3_000, ENTAILMENT),
    OfficialFile("WNLI.tsv", "wnli", "test", 146, BINARY),
    OfficialFile("AX.tsv", "mnli", "diagnostic", 1_104, INFERENCE),
)
"""All that the server wants. The diagnostic set, AX, is answered by the student for MNLI."""


def zipped(files: Mapping[str, str]) -> bytes:
    """A zip of texts by file name, the same bytes for the same texts."""
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, text in files.items():
            entry = ZipInfo(name)  # dated 1980, not now
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text, ZIP_DEFLATED)
    return content.getvalue()
