"""Reading task data: official TSV files, the hub, and the part carved out for selection."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from harness.config import ProtocolConfig, SourceConfig
from harness.data import sources
from harness.data.readers import read_rows
from harness.data.sources import load_task_data
from harness.data.split_files import read_file
from harness.data.splits import Split, TaskData
from harness.data.tasks import load_task, task_names
from harness.data.texts import ArrowTexts
from harness.errors import DataError

PAIR = ["index", "sentence1", "sentence2"]
MNLI = ["index", "promptID", "pairID", "genre", "parse1", "parse2", "tree1", "tree2"]
STSB = ["index", "genre", "filename", "year", "old_index", "source1", "source2"]
LAYOUTS: dict[str, list[str]] = {
    "cola": ["source", "label", "star", "sentence"],
    "mnli": [*MNLI, "sentence1", "sentence2", "label1", "gold_label"],
    "mrpc": ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
    "qnli": ["index", "question", "sentence", "label"],
    "qqp": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
    "rte": [*PAIR, "label"],
    "sst2": ["sentence", "label"],
    "stsb": [*STSB, "sentence1", "sentence2", "score"],
    "wnli": [*PAIR, "label"],
}
"""Columns of the official files in their order; CoLA's have no header line."""
LABEL = {"cola": "label", "mnli": "gold_label", "mrpc": "Quality", "qqp": "is_duplicate"}
TEXTS = {
    "cola": ["sentence"],
    "mrpc": ["#1 String", "#2 String"],
    "qnli": ["question", "sentence"],
    "qqp": ["question1", "question2"],
    "sst2": ["sentence"],
}
WORDS: dict[str, list[tuple[str, float]]] = {
    "cola": [("0", 0), ("1", 1)],
    "mnli": [("entailment", 0), ("neutral", 1), ("contradiction", 2)],
    "mrpc": [("0", 0), ("1", 1)],
    "qnli": [("entailment", 0), ("not_entailment", 1)],
    "qqp": [("0", 0), ("1", 1)],
    "rte": [("entailment", 0), ("not_entailment", 1)],
    "sst2": [("0", 0), ("1", 1)],
    "stsb": [("0", 0), ("5.000", 5), ("2.75", 2.75)],
    "wnli": [("0", 0), ("1", 1)],
}
tasks = pytest.mark.parametrize("name", LAYOUTS)


def label_column(name: str) -> str:
    return LABEL.get(name, "score" if name == "stsb" else "label")


def row(name: str, number: int, word: str, text: str = "text") -> str:
    """One line: texts that say where they stand, the label, and a decoy in every other cell."""
    cells = {column: f"decoy {column}" for column in LAYOUTS[name]}
    for column in TEXTS.get(name, ["sentence1", "sentence2"]):
        cells[column] = f"{text} {number} {column}"
    cells[label_column(name)] = word
    return "\t".join(cells.values())


def lines(name: str, rows: list[str]) -> list[str]:
    return rows if name == "cola" else ["\t".join(LAYOUTS[name]), *rows]


def rows_of(name: str, text: str = "text") -> list[str]:
    return [row(name, number, word, text) for number, (word, _) in enumerate(WORDS[name])]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(tmp_path: Path, name: str, content: str | bytes) -> Split:
    task = load_task(name)
    assert task.folder is not None
    return read_file(write(tmp_path / "train.tsv", content), task, task.folder)


def check(split: Split, name: str, text: str = "text") -> None:
    columns = TEXTS.get(name, ["sentence1", "sentence2"])
    assert tuple(split.texts) == tuple(
        tuple(f"{text} {number} {column}" for column in columns)
        for number in range(len(WORDS[name]))
    )
    assert split.labels.tolist() == [value for _, value in WORDS[name]]
    assert split.labels.dtype == (np.float32 if name == "stsb" else np.int64)
    assert split.ids.tolist() == list(range(len(WORDS[name])))


def test_every_task_has_a_layout_here() -> None:
    assert sorted(LAYOUTS) == task_names()


@tasks
@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_official_layouts_are_read(
    tmp_path: Path, name: str, end: str, line_end: str, mark: bytes
) -> None:
    text = line_end.join(lines(name, rows_of(name))) + (line_end if end else "")
    check(read(tmp_path, name, mark + text.encode()), name)


@tasks
@pytest.mark.parametrize(
    "text",
    ['an " odd quote', '"whole', 'end"', "u\u2028line", "v\x0btab", "n\x85ext", "f\x0ced", "c\rr"],
)
def test_quotes_and_other_line_ends_are_text(tmp_path: Path, name: str, text: str) -> None:
    check(read(tmp_path, name, "\n".join(lines(name, rows_of(name, text))) + "\n"), name, text)


def test_spaces_around_a_sentence_are_kept(tmp_path: Path) -> None:
    split = read(tmp_path, "sst2", "sentence\tlabel\n a film \t1\n")
    assert tuple(split.texts) == ((" a film ",),)


def test_columns_are_found_by_name_wherever_they_stand(tmp_path: Path) -> None:
    split = read(tmp_path, "rte", "label\tsentence2\textra\tsentence1\nentailment\ttwo\tx\tone\n")
    assert tuple(split.texts) == (("one", "two"),)


def test_mnlis_development_files_have_more_labels_in_front(tmp_path: Path) -> None:
    header = [*MNLI, "sentence1", "sentence2", *(f"label{n}" for n in range(1, 6)), "gold_label"]
    cells = [*"abcdefgh", "one", "two", *["entailment"] * 5, "contradiction"]
    split = read(tmp_path, "mnli", "\t".join(header) + "\n" + "\t".join(cells) + "\n")
    assert (tuple(split.texts), split.labels.tolist()) == ((("one", "two"),), [2])


refusing = pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"qqp"}))
"""QQP's official file has broken rows, which are left out."""


def broken(name: str, change: Callable[[list[str]], list[str]]) -> str:
    return "\n".join(change(lines(name, rows_of(name)))) + "\n"


@refusing
def test_wrong_columns_name_file_and_line(tmp_path: Path, name: str) -> None:
    expected = len(LAYOUTS[name])
    for change, found in ((lambda last: f"{last}\tmore", expected + 1), (lambda last: "one", 1)):
        content = broken(name, lambda all_lines, c=change: [*all_lines[:-1], c(all_lines[-1])])
        number = len(lines(name, rows_of(name)))
        with pytest.raises(DataError) as caught:
            read(tmp_path, name, content)
        place = f"{tmp_path / 'train.tsv'}:{number}"
        assert str(caught.value) == f"{place}: {found} columns, expected {expected}"


@refusing
def test_a_blank_line_names_file_and_line(tmp_path: Path, name: str) -> None:
    content = broken(name, lambda all_lines: [*all_lines, "", all_lines[-1]])
    number = len(lines(name, rows_of(name))) + 1
    with pytest.raises(DataError, match=rf"train\.tsv:{number}: 1 columns"):
        read(tmp_path, name, content)


@tasks
@pytest.mark.parametrize("word", ["", "2x", "maybe", "-1", "nan", "inf", "5.01", "-0.01"])
def test_unknown_labels_and_bad_scores_name_file_and_line(
    tmp_path: Path, name: str, word: str
) -> None:
    rows = [*rows_of(name), row(name, 9, word)]
    content = "\n".join(lines(name, rows))
    number = len(lines(name, rows))
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, content)
    start = f"{tmp_path / 'train.tsv'}:{number}: "
    kind = f"score '{word}' is not" if name == "stsb" else f"unknown label '{word}' (expected "
    assert str(caught.value).startswith(start + kind)
    accepted = "from 0 to 5" if name == "stsb" else WORDS[name][0][0]
    assert accepted in str(caught.value)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf_8_name_file_and_line(tmp_path: Path, mark: bytes) -> None:
    content = mark + b"sentence\tlabel\nfine\t1\ncaf\xe9\t0\n"
    with pytest.raises(DataError, match=r"train\.tsv:3: byte .*not UTF-8"):
        read(tmp_path, "sst2", content)


def test_a_missing_column_names_the_header(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.tsv:1: no column 'label' in the header \(index"):
        read(tmp_path, "rte", "index\tsentence1\tsentence2\n0\ta\tb\n")
    with pytest.raises(DataError, match=r"train\.tsv:1: 1 columns, expected at least 4"):
        read(tmp_path, "cola", "only one cell\n")
    with pytest.raises(DataError, match=r"train\.tsv:1: "):
        read(tmp_path, "rte", "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.tsv"
    task = load_task("rte")
    assert task.folder is not None
    with pytest.raises(DataError, match=r"none\.tsv: cannot be read \(No such file"):
        read_file(path, task, task.folder)


def folder(tmp_path: Path, name: str, train: int, dev: int = 4) -> SourceConfig:
    """A folder of one task's official files, with cycling labels."""
    task, words = load_task(name), WORDS[name]
    for file, count in {"train.tsv": train, **dict.fromkeys(task.evaluation.values(), dev)}.items():
        rows = [row(name, n, words[n * n % 7 % len(words)][0], file) for n in range(count)]
        write(tmp_path / task.folder.path / file, "\n".join(lines(name, rows)) + "\n")
    return SourceConfig(kind="folder", folder=str(tmp_path))


@tasks
def test_a_folder_gives_training_selection_and_evaluation(tmp_path: Path, name: str) -> None:
    source = folder(tmp_path, name, 250)
    data = load_task_data(load_task(name), source, ProtocolConfig())
    expected = ["validation"]
    if name == "mnli":
        expected = ["validation_matched", "validation_mismatched"]
    assert list(data.splits) == ["train", "selection", *expected]
    assert [len(split) for split in data.splits.values()] == [150, 100, *[4] * len(expected)]
    for split, file in zip(expected, load_task(name).evaluation.values(), strict=True):
        assert data.evaluation[split].texts[0][0].startswith(file)


SHA256 = {
    "mnli": {
        "train": "1dca7f8ea674afd2",
        "selection": "3ab485773e6df78d",
        "validation_matched": "1681ea44871ac0ad",
        "validation_mismatched": "c62cd2610b66e649",
    },
    "qqp": {
        "train": "75c9da9017124c94",
        "selection": "6a6ee417d6431cf2",
        "validation": "f34ab0dcb48ea1e4",
    },
    "stsb": {
        "train": "1c87694faef200cb",
        "selection": "1c6dbd835c540ea2",
        "validation": "874817b240a974e3",
    },
}
"""Hashes of the splits by the first version, which held all rows in memory."""


@pytest.mark.parametrize("name", SHA256)
def test_the_identity_of_splits_is_what_it_was(tmp_path: Path, name: str) -> None:
    data = load_task_data(load_task(name), folder(tmp_path, name, 250), ProtocolConfig())
    assert {key: split.sha256[:16] for key, split in data.splits.items()} == SHA256[name]
    assert all(isinstance(split.texts, ArrowTexts) for split in data.splits.values())


def test_faults_of_a_folder_are_named(tmp_path: Path) -> None:
    source = folder(tmp_path, "rte", 250)
    with pytest.raises(DataError, match="no folder MRPC for task mrpc"):
        load_task_data(load_task("mrpc"), source, ProtocolConfig())
    write(tmp_path / "RTE" / "dev.tsv", "\t".join(LAYOUTS["rte"]) + "\n")
    with pytest.raises(DataError, match="rte: split 'validation' has no examples"):
        load_task_data(load_task("rte"), source, ProtocolConfig())
    (tmp_path / "RTE" / "dev.tsv").unlink()
    with pytest.raises(DataError, match=r"dev\.tsv: cannot be read"):
        load_task_data(load_task("rte"), source, ProtocolConfig())


def carved(
    monkeypatch: pytest.MonkeyPatch,
    labels: np.ndarray[Any, Any],
    task: str,
    protocol: str = "clean",
) -> TaskData:
    """The splits that a protocol makes of a training split with these labels."""
    texts = tuple((f"example {number}",) for number in range(len(labels)))
    train = Split(texts, labels, np.arange(len(labels)))
    ends = np.array([labels.argmin(), labels.argmax()])
    dev = Split((("dev",),) * 2, labels[ends], np.arange(2))
    splits = {"train": train, "validation": dev}
    monkeypatch.setitem(sources._READERS, "demo", lambda *_: splits)
    return load_task_data(load_task(task), SourceConfig(), ProtocolConfig(name=protocol))


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        (
            "cola",
            [1, 1, 1],
            "cola: matthews is undefined on the split 'validation', where every one of the 3 labels "
            "is acceptable",
        ),
        ("mrpc", [0, 0], "mrpc: f1 is undefined on the split 'validation'"),
        ("stsb", [2.5], "stsb: pearson is undefined on the split 'validation'"),
    ],
)
def test_labels_for_which_a_metric_is_undefined_are_refused(
    monkeypatch: pytest.MonkeyPatch, task: str, labels: list[float], message: str
) -> None:
    kind = np.float32 if task == "stsb" else np.int64
    train_labels = np.tile([0, 1], 150).astype(kind)
    train = Split((("text",),) * 300, train_labels, np.arange(300))
    dev = Split((("dev",),) * len(labels), np.array(labels, dtype=kind), np.arange(len(labels)))
    splits = {"train": train, "validation": dev}
    monkeypatch.setitem(sources._READERS, "demo", lambda *_: splits)
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        load_task_data(load_task(task), SourceConfig(), ProtocolConfig())
    # Accuracy of one class is defined.
    if task != "stsb":
        assert load_task_data(load_task("rte"), SourceConfig(), ProtocolConfig()).evaluation


def test_a_selection_split_without_a_metric_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.ones(300, dtype=np.int64)
    labels[0] = 0
    train = Split((("text",),) * 300, labels, np.arange(300))
    dev = Split((("dev",),) * 2, np.array([0, 1]), np.arange(2))
    monkeypatch.setitem(sources._READERS, "demo", lambda *_: {"train": train, "validation": dev})
    with pytest.raises(DataError, match="matthews is undefined on the split 'selection'"):
        load_task_data(load_task("cola"), SourceConfig(), ProtocolConfig())


def shares(size: int, shares: list[float]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(size).choice(len(shares), size, p=shares).astype(np.int64)


@pytest.mark.parametrize(
    ("examples", "selected"),
    [(200, 100), (999, 100), (1000, 100), (1234, 123), (2490, 249), (20000, 2000), (67349, 2000)],
)
def test_selection_is_a_tenth_from_100_to_2000(
    monkeypatch: pytest.MonkeyPatch, examples: int, selected: int
) -> None:
    data = carved(monkeypatch, shares(examples, [0.3, 0.7]), "rte")
    assert (len(data.selection), len(data.train)) == (selected, examples - selected)
    chosen, rest = set(data.selection.ids.tolist()), set(data.train.ids.tolist())
    assert not chosen & rest
    assert chosen | rest == set(range(examples))
    for split in (data.train, data.selection):
        assert all(t == (f"example {i}",) for t, i in zip(split.texts, split.ids, strict=True))
        assert (np.diff(split.ids) > 0).all()


@pytest.mark.parametrize(
    ("name", "weights"),
    [("rte", [0.5, 0.5]), ("cola", [0.3, 0.7]), ("rte", [0.01, 0.99]), ("mnli", [0.2, 0.5, 0.3])],
)
@pytest.mark.parametrize("examples", [207, 1003, 5000])
def test_selection_has_every_class_in_its_share_within_one_example(
    name: str, weights: list[float], examples: int
) -> None:
    labels = shares(examples, weights)
    texts = tuple((str(number),) for number in range(examples))
    train = Split(texts, labels, np.arange(examples))
    _, selection = sources._carve(train, ProtocolConfig(), load_task(name))
    for label in range(len(weights)):
        exact = (labels == label).sum() * len(selection) / examples
        assert abs((selection.labels == label).sum() - exact) <= 1


def test_selection_of_scores_spreads_over_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).uniform(0, 5, 2000).astype(np.float32)
    selection = carved(monkeypatch, scores, "stsb").selection
    for score in range(6):
        exact = (np.round(scores) == score).sum() / 10
        assert abs((np.round(selection.labels) == score).sum() - exact) <= 1


def test_selection_is_the_same_at_every_call_and_not_simply_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = shares(1000, [0.5, 0.5])
    first, second = (carved(monkeypatch, labels, "rte").selection for _ in range(2))
    assert first.ids.tolist() == second.ids.tolist()
    assert first.sha256 == second.sha256
    assert first.ids.max() > 900
    assert first.ids.min() < 100
    assert len(set(np.diff(first.ids).tolist())) > 3
    labels[0] = 1 - labels[0]
    assert carved(monkeypatch, labels, "rte").selection.ids.tolist() != first.ids.tolist()


def test_too_few_examples_to_carve_from_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="rte: 199 training examples are too few to carve 100"):
        carved(monkeypatch, shares(199, [0.5, 0.5]), "rte")


def test_the_papers_protocol_selects_on_validation_and_trains_on_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = carved(monkeypatch, shares(150, [0.5, 0.5]), "rte", "paper")
    assert data.selection is data.evaluation["validation"]
    assert len(data.train) == 150


def test_the_identity_of_a_split_covers_texts_labels_and_ids() -> None:
    def split(texts: tuple[tuple[str, ...], ...], label: int = 0, number: int = 0) -> str:
        labels = np.full(len(texts), label, np.int64)
        return Split(texts, labels, np.arange(len(texts)) + number).sha256

    base = split((("a", "b"), ("c", "d")))
    assert base == split((("a", "b"), ("c", "d")))
    others = {
        split((("a", "bc"), ("", "d"))),
        split((("ab", ""), ("c", "d"))),
        split((("a", "b"), ("c", "d")), label=1),
        split((("a", "b"), ("c", "d")), number=1),
        split((("c", "d"), ("a", "b"))),
    }
    assert len(others | {base}) == 6


def hub(
    monkeypatch: pytest.MonkeyPatch,
    label: datasets.ClassLabel | datasets.Value,
    labels: list[float],
    columns: tuple[str, ...] = ("sentence1", "sentence2"),
    splits: tuple[str, ...] = ("train", "validation"),
) -> list[tuple[str, str]]:
    """Let the hub answer with a small data set; returns what it was asked for."""
    features = datasets.Features({**{c: datasets.Value("string") for c in columns}, "label": label})
    made = {
        split: datasets.Dataset.from_dict(
            {c: [f"{split} {n} {c}" for n in range(len(labels))] for c in columns}
            | {"label": labels},
            features=features,
        )
        for split in splits
    }
    asked: list[tuple[str, str]] = []

    def load_dataset(path: str, config: str) -> datasets.DatasetDict:
        asked.append((path, config))
        return datasets.DatasetDict(made)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def from_hub(name: str = "rte") -> TaskData:
    return load_task_data(load_task(name), SourceConfig(kind="hub"), ProtocolConfig(name="paper"))


OFFICIAL = datasets.ClassLabel(names=["entailment", "not_entailment"])


def test_the_hub_gives_texts_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(monkeypatch, OFFICIAL, [0, 1, 1])
    data = from_hub()
    assert asked == [("nyu-mll/glue", "rte")]
    assert data.train.texts[1] == ("train 1 sentence1", "train 1 sentence2")
    assert data.evaluation["validation"].labels.tolist() == [0, 1, 1]
    assert data.train.labels.dtype == np.int64


def test_texts_of_the_hub_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, OFFICIAL, [0, 1, 1])
    texts = from_hub().train.texts
    assert isinstance(texts, ArrowTexts)
    assert list(texts) == [(f"train {n} sentence1", f"train {n} sentence2") for n in range(3)]


def test_a_cell_of_the_hub_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"sentence1": ["a", None], "sentence2": ["b", "c"], "label": [0, 1]}
    splits = dict.fromkeys(("train", "validation"), datasets.Dataset.from_dict(rows))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict(splits))
    reason = r"'train', row 1: no text in the column sentence1 \(1 of 2 cells have none\)"
    with pytest.raises(DataError, match=reason):
        from_hub()
    numbers = datasets.Dataset.from_dict(rows | {"sentence1": [1, 2]})
    splits = dict.fromkeys(("train", "validation"), numbers)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict(splits))
    with pytest.raises(DataError, match="'train': the column sentence1 has the type int64"):
        from_hub()
    nothing = datasets.Dataset.from_dict(rows | {"sentence1": [None, None]})
    splits = dict.fromkeys(("train", "validation"), nothing)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict(splits))
    with pytest.raises(DataError, match=r"row 0: no text in the column sentence1 \(2 of 2"):
        from_hub()


@pytest.mark.parametrize(
    ("name", "text"),
    [("dev.tsv", "sentence\tlabel\ra\tx\rb\ty\r"), ("dev.jsonl", '{"a": 1}\r{"a": 2}\r')],
)
def test_the_lines_of_an_old_mac_are_named_and_not_printed(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text, newline="")
    with pytest.raises(DataError, match=rf"{name}:1: its lines end in CR alone") as found:
        list(read_rows(tmp_path / name, ["a"]))
    assert len(str(found.value)) < 300
    table = tmp_path / "dev.csv"  # where CSV knows this end of a line
    table.write_text("a,label\rone,x\r", newline="")
    assert [row.cells for row in read_rows(table, ["a"])] == [["one"]]


def test_the_hubs_scores_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, datasets.Value("float32"), [0.0, 2.5, 5.0])
    labels = from_hub("stsb").train.labels
    assert (labels.tolist(), labels.dtype) == ([0.0, 2.5, 5.0], np.float32)


@pytest.mark.parametrize("score", [5.5, -1.0, float("nan")])
def test_the_hubs_scores_are_held_to_their_range(
    monkeypatch: pytest.MonkeyPatch, score: float
) -> None:
    hub(monkeypatch, datasets.Value("float32"), [0.0, score])
    with pytest.raises(DataError, match=r"stsb: hub split 'train', row 1: score .* from 0 to 5"):
        from_hub("stsb")


@pytest.mark.parametrize(
    ("label", "labels", "words"),
    [
        (
            datasets.ClassLabel(names=["no", "yes"]),
            [0, 1],
            r"rte: hub split 'train' has labels \['no', 'yes'\], expected \['entailment'",
        ),
        (OFFICIAL, [0, -1], r"rte: hub split 'train', row 1: unknown label '-1'"),
        (datasets.Value("int64"), [0, 2], r"rte: hub split 'train', row 1: unknown label '2'"),
    ],
)
def test_labels_of_other_names_or_range_are_refused(
    monkeypatch: pytest.MonkeyPatch, label: Any, labels: list[float], words: str
) -> None:
    hub(monkeypatch, label, labels)
    with pytest.raises(DataError, match=words):
        from_hub()


def test_unlabelled_rows_of_the_hub_can_be_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hidden labels are -1 on the hub."""
    hub(monkeypatch, OFFICIAL, [0, -1, 1, -1, 1])
    task = dataclasses.replace(load_task("rte"), drop_labels=(-1,))
    data = load_task_data(task, SourceConfig(kind="hub"), ProtocolConfig(name="paper"))
    assert data.train.labels.tolist() == [0, 1, 1]
    assert data.train.ids.tolist() == [0, 2, 4]
    assert [first for first, _ in data.train.texts] == [f"train {n} sentence1" for n in (0, 2, 4)]
    assert data.train.left_out == data.evaluation["validation"].left_out == 2
    assert "hub split 'train': 2 rows without a label are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "values"),
    [(("1", "2", "3"), [1, 2, 3]), (("-1", "0", "1"), [-1, 0, 1]), (("a", "b"), [0, 1])],
)
def test_integers_are_spellings_before_they_are_indices(
    monkeypatch: pytest.MonkeyPatch, labels: tuple[str, ...], values: list[int]
) -> None:
    hub(monkeypatch, datasets.Value("int64"), values)
    task = dataclasses.replace(load_task("rte"), name="own", labels=labels, folder=None)
    data = load_task_data(task, SourceConfig(kind="hub"), ProtocolConfig(name="paper"))
    assert data.train.labels.tolist() == list(range(len(values)))


@pytest.mark.parametrize(
    ("label", "values", "shown"),
    [(OFFICIAL, [0, None], "null"), (datasets.Value("float64"), [0.0, 1.0], "0.0")],
)
def test_labels_that_are_no_integers_are_refused(
    monkeypatch: pytest.MonkeyPatch, label: Any, values: list[Any], shown: str
) -> None:
    hub(monkeypatch, label, values)
    with pytest.raises(DataError, match=f"unknown label '{shown}'"):
        from_hub()


def test_labels_of_another_order_are_matched_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, datasets.ClassLabel(names=["not_entailment", "entailment"]), [0, 1])
    assert from_hub().train.labels.tolist() == [1, 0]


def test_a_hub_data_set_of_another_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, OFFICIAL, [0, 1], columns=("sentence1", "text"))
    with pytest.raises(DataError, match="rte: hub split 'train' has no column 'sentence2'"):
        from_hub()
    hub(monkeypatch, OFFICIAL, [0, 1], splits=("train",))
    with pytest.raises(DataError, match="rte: nyu-mll/glue has no split 'validation'"):
        from_hub()


def test_a_hub_that_does_not_answer_says_what_else_can_be_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(path: str, config: str) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(DataError, match=r"cannot be reached.* \(or give --data DIR") as caught:
        from_hub()
    assert "\n" not in str(caught.value)


def test_an_error_without_a_message_is_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: str, config: str) -> None:
        raise TimeoutError

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(DataError, match="TimeoutError"):
        from_hub()


@pytest.mark.parametrize("name", ["rte", "stsb", "sst2"])
def test_the_demo_has_a_selection_split_and_is_not_carved(name: str) -> None:
    first, second = (
        load_task_data(load_task(name), SourceConfig(), ProtocolConfig()) for _ in range(2)
    )
    assert {k: s.sha256 for k, s in first.splits.items()} == {
        k: s.sha256 for k, s in second.splits.items()
    }
    assert [len(split) for split in first.splits.values()] == [700, 500, 800]
    texts = [set(split.texts) for split in first.splits.values()]
    assert len(set.union(*texts)) == 2000
    paper = load_task_data(load_task(name), SourceConfig(), ProtocolConfig(name="paper"))
    assert paper.train.sha256 == first.train.sha256
    assert paper.selection.sha256 == first.evaluation["validation"].sha256


GLUE: dict[str, tuple[dict[str, int], list[int] | None, list[int] | None]] = {
    "rte": ({"train": 2490, "dev": 277}, [1249, 1241], [146, 131]),
    "mrpc": ({"train": 3668, "dev": 408}, [1194, 2474], [129, 279]),
    "cola": ({"train": 8551, "dev": 1043}, [2528, 6023], [322, 721]),
    "stsb": ({"train": 5749, "dev": 1500}, None, None),
    "sst2": ({"train": 67349, "dev": 872}, [29780, 37569], [428, 444]),
}
"""Rows, and examples of each label in official order, as documented for the official files."""


@pytest.mark.glue
@pytest.mark.parametrize("name", GLUE)
def test_real_files_have_the_documented_rows_and_labels(glue_folder: Path, name: str) -> None:
    task = load_task(name)
    assert task.folder is not None
    if not (glue_folder / task.folder.path).is_dir():
        pytest.skip(f"no {task.folder.path} in {glue_folder}")
    rows, train, dev = GLUE[name]
    for file, counts in (("train", train), ("dev", dev)):
        split = read_file(glue_folder / task.folder.path / f"{file}.tsv", task, task.folder)
        assert len(split) == rows[file]
        assert {len(texts) for texts in split.texts} == {len(task.folder.columns)}
        assert all(text.strip() for texts in split.texts for text in texts)
        if counts is None:
            assert 0 <= split.labels.min() < 1
            assert 4 < split.labels.max() <= 5
        else:
            assert np.bincount(split.labels.astype(np.int64)).tolist() == counts


@pytest.mark.glue
def test_real_data_is_carved_by_the_clean_protocol(glue_folder: Path) -> None:
    source = SourceConfig(kind="folder", folder=str(glue_folder))
    found = load_task_data(load_task("rte"), source, ProtocolConfig())
    assert [len(split) for split in found.splits.values()] == [2241, 249, 277]
    assert abs((found.selection.labels == 0).sum() - 249 * 1249 / 2490) <= 1
