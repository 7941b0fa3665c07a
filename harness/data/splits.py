"""Splits of a task: texts, labels and the numbers of rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from harness.data.labels import Labels
from harness.data.overlap import count_common, text_keys
from harness.data.tasks import Task
from harness.data.texts import ArrowTexts, Texts


@dataclass(frozen=True)
class Split:
    """Examples of one split: `texts` (examples,) tuples of 1 or 2 sentences, and `labels` (examples,).

    Texts of files and of the hub stay on disk, and a read makes Python strings. `ids` (examples,) are
    the rows' numbers in the file or data set, from 0. Labels of a test split are NaN. `left_out` counts
    the rows of the file or data set that are no examples: broken rows, and rows without a label.
    """

    texts: Texts
    labels: Labels
    ids: npt.NDArray[np.int64]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def sha256(self) -> str:
        """Hash of texts, labels and ids: the identity of the split."""
        digest = hashlib.sha256()
        for texts in self.texts:
            digest.update("\x1f".join(texts).encode() + b"\x1e")
        digest.update(self.labels.astype("<f8").tobytes() + self.ids.astype("<i8").tobytes())
        return digest.hexdigest()

    def take(self, rows: npt.NDArray[np.int64]) -> Split:
        """The examples at these positions. `left_out` is 0: no row of theirs is left out."""
        texts = self.texts
        part = texts.take(rows) if isinstance(texts, ArrowTexts) else [texts[row] for row in rows]
        return Split(part, self.labels[rows], self.ids[rows])


@dataclass(frozen=True)
class TaskData:
    """One task's examples under a protocol.

    `train` trains teacher and students, and `selection` chooses the setting. The demo has a selection
    split; other sources give a part of their training split. `evaluation` has the splits of the report,
    two for MNLI and one for other tasks; the tests use the first. `test` splits have no labels: report
    runs predict them, and no run's identity depends on them. Students are distilled from the texts of
    `transfer` too, which have no labels.
    """

    task: Task
    train: Split
    selection: Split
    evaluation: dict[str, Split]
    test: dict[str, Split] = field(default_factory=dict)
    transfer: Split | None = None

    @property
    def mean_score(self) -> float | None:
        """Mean training score of a regression task; None for classes."""
        return float(self.train.labels.mean()) if self.task.regression else None

    @cached_property
    def duplicates(self) -> dict[str, int]:
        """The number of examples whose texts students train on too, by split, without `train`.

        The unlabelled texts of `transfer` count as training examples.
        Of an evaluation split the examples of a carved selection split count as training examples: both
        come from the training file, and the selection decides which students are reported.
        """
        training = text_keys(self.train.texts)
        for split in self.unlabelled.values():
            training = np.union1d(training, text_keys(split.texts))
        evaluation = {name: text_keys(split.texts) for name, split in self.evaluation.items()}
        counts = {}
        if self.has_own_selection:
            selection = text_keys(self.selection.texts)
            counts["selection"] = count_common(selection, training)
            training = np.union1d(training, selection)
        counts |= {name: count_common(keys, training) for name, keys in evaluation.items()}
        return {"selection": counts[next(iter(evaluation))], **counts}

    @property
    def has_own_selection(self) -> bool:
        """Whether no evaluation split selects. With the protocol `paper` the first one does."""
        return all(split is not self.selection for split in self.evaluation.values())

    @cached_property
    def unlabelled_duplicates(self) -> dict[str, int]:
        """The number of examples whose texts are among those of `transfer`, by evaluation split."""
        if self.transfer is None:
            return dict.fromkeys(self.evaluation, 0)
        keys = text_keys(self.transfer.texts)
        return {
            name: count_common(text_keys(split.texts), keys)
            for name, split in self.evaluation.items()
        }

    @property
    def unlabelled(self) -> dict[str, Split]:
        """The split `transfer` by name; empty for a task without one."""
        return {} if self.transfer is None else {"transfer": self.transfer}

    @property
    def transfer_ratio(self) -> float:
        """The number of unlabelled texts for each training example."""
        return sum(map(len, self.unlabelled.values())) / len(self.train)

    @property
    def splits(self) -> dict[str, Split]:
        """All splits with labels by name, training first."""
        return {"train": self.train, "selection": self.selection, **self.evaluation}
