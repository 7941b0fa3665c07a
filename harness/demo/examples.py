"""Procedural data sets with the schemas of the GLUE tasks: the source `demo`.

A generator of the task and seed draws the examples from the language of `harness.demo.language`, so
the examples are the same on every machine. A label follows from the facts behind the sentences. A model
has to learn which words of two texts mean the same. The labels of the training split have errors, as
annotators' labels do (`DemoTask.noise`, `SCORE_NOISE`). The labels of validation and of the selection
split have none.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harness.demo.language import text
from harness.demo.lexicon import LEXICON
from harness.demo.tasks import TASKS, DemoTask, Draw

SCORE_NOISE = 3.0
"""Standard deviation of the noise that training scores get, before clipping to [0, 5]."""

Texts = tuple[str, ...]
Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class DemoSplit:
    """Examples of one split.

    texts: num_examples tuples of 1 or 2 texts, in the order of GLUE's columns; words and stops are
        separated by single spaces.
    labels: (num_examples,) int64 class indices in GLUE's order, or float32 scores in [0, 5] (stsb).
    """

    texts: tuple[Texts, ...]
    labels: Labels


def generate(
    task: str,
    seed: int = 0,
    *,
    train_size: int = 700,
    validation_size: int = 800,
    selection_size: int = 500,
) -> dict[str, DemoSplit]:
    """The splits of a task: "train", "validation" (mnli: "validation_matched" and
    "validation_mismatched"), and "selection", unless its size is 0.

    The same task, seed and sizes always give the same splits. No example comes twice. Raises KeyError
    for a task that is not in `TASKS`.
    """
    kind = TASKS[task]
    rng = np.random.default_rng([list(TASKS).index(task), seed])
    drawn_texts: set[Texts] = set()
    train_draw = next(iter(kind.draws.values()))
    train = _draw_split(rng, kind, train_draw, train_size, drawn_texts)
    splits = {"train": replace(train, labels=_annotate(rng, kind, train.labels))}
    for name, draw in kind.draws.items():
        splits[name] = _draw_split(rng, kind, draw, validation_size, drawn_texts)
    if selection_size:
        splits["selection"] = _draw_split(rng, kind, train_draw, selection_size, drawn_texts)
    return splits


def vocabulary() -> tuple[str, ...]:
    """All words and stops that a text may hold, in a fixed order."""
    return tuple(word.text for word in LEXICON)


def _draw_split(
    rng: np.random.Generator, kind: DemoTask, draw: Draw, size: int, drawn_texts: set[Texts]
) -> DemoSplit:
    """Draw `size` examples that are not in `drawn_texts`, and add their texts to `drawn_texts`."""
    ends = np.rint(np.cumsum(kind.shares) * size).astype(np.int64)
    labels = rng.permutation(np.searchsorted(ends, np.arange(size), side="right"))
    texts = []
    for label in labels:
        while (example := tuple(map(text, draw(rng, int(label))))) in drawn_texts:
            continue
        drawn_texts.add(example)
        texts.append(example)
    true_labels: Labels = labels.astype(np.float32) if kind.is_score else labels.astype(np.int64)
    return DemoSplit(tuple(texts), true_labels)


def _annotate(rng: np.random.Generator, kind: DemoTask, labels: Labels) -> Labels:
    """The labels with an annotator's errors: some classes are wrong, and scores have noise."""
    if kind.is_score:
        scores = labels + rng.normal(scale=SCORE_NOISE, size=len(labels))
        return np.clip(scores, 0.0, 5.0).astype(np.float32)
    errors = rng.random(len(labels)) < kind.noise
    shift = rng.integers(1, len(kind.shares), size=len(labels))
    return np.where(errors, (labels + shift) % len(kind.shares), labels).astype(np.int64)
