"""Splits without labels: read where they are, predicted by report runs, a part of no run's identity."""

import dataclasses
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from harness.config import ProtocolConfig, SourceConfig
from harness.data.sources import load_task_data
from harness.data.split_files import read_test_file
from harness.data.splits import TaskData
from harness.data.tasks import FolderLayout, load_task, read_task, task_names
from harness.demo.examples import generate
from harness.errors import DataError, UserError
from harness.models.checkpoints import tokenizer_of
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main
from reports import submission

MNLI = ["index", "promptID", "pairID", "genre", "parse1", "parse2", "tree1", "tree2"]
STSB = ["index", "genre", "filename", "year", "old_index", "source1", "source2"]
PAIR = ["sentence1", "sentence2"]
HEADERS: dict[str, list[str]] = {
    "cola": ["index", "sentence"],
    "mnli": [*MNLI, *PAIR],
    "mrpc": ["index", "#1 ID", "#2 ID", "#1 String", "#2 String"],
    "qnli": ["index", "question", "sentence"],
    "qqp": ["id", "question1", "question2"],
    "rte": ["index", *PAIR],
    "sst2": ["index", "sentence"],
    "stsb": [*STSB, *PAIR],
    "wnli": ["index", *PAIR],
}
"""Columns of the official test files in their order."""
TEXTS = {"#1 String", "#2 String", "question1", "question2", "question", "sentence", *PAIR}
ROWS = 146


def table(header: list[str], rows: int = 3, text: str = "text") -> str:
    """Lines of texts that say where they stand, and decoys in all other cells."""
    lines = [
        "\t".join(f"{text} {n} {c}" if c in TEXTS else f"decoy {n}" for c in header)
        for n in range(rows)
    ]
    return "\n".join(["\t".join(header), *lines]) + "\n"


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("label", [None, "Quality"])
def test_official_test_files_are_read(tmp_path: Path, name: str, label: str | None) -> None:
    """With a column of labels before the others, too: it is not read."""
    header = [*([label] if label else []), *HEADERS[name]]
    path = tmp_path / "test.tsv"
    path.write_text(table(header))
    split = read_test_file(path, load_task(name).folder)
    texts = [column for column in header if column in TEXTS]
    assert tuple(split.texts) == tuple(tuple(f"text {n} {c}" for c in texts) for n in range(3))
    assert split.ids.tolist() == [0, 1, 2]
    assert np.isnan(split.labels).all()
    assert split.labels.shape == (3,)


def test_every_task_has_a_layout_here() -> None:
    assert sorted(HEADERS) == task_names()


def glue(folder: Path, task_name: str) -> SourceConfig:
    """A folder of one pair task, with labels and without test files."""
    task = load_task(task_name)
    words = {label: word for word, label in task.folder.words.items()}
    made = generate(task_name, train_size=240, validation_size=60)
    path = folder / task.folder.path
    path.mkdir(parents=True)
    for name, file in {"train": task.folder.train, **task.evaluation}.items():
        header = "\t".join(["index", *task.folder.columns, task.folder.label])
        lines = [
            "\t".join([str(n), *texts, words.get(task.labels[label], task.labels[label])])
            for n, (texts, label) in enumerate(
                zip(made[name].texts, made[name].labels, strict=True)
            )
        ]
        (path / file).write_text("\n".join([header, *lines]) + "\n")
    return SourceConfig(kind="folder", folder=str(folder))


def loaded(name: str, source: SourceConfig, protocol: str = "clean") -> TaskData:
    return load_task_data(load_task(name), source, ProtocolConfig(name=protocol))


@pytest.mark.parametrize("protocol", ["clean", "paper"])
def test_mnli_has_three_test_files_and_any_may_be_missing(tmp_path: Path, protocol: str) -> None:
    source = glue(tmp_path, "mnli")
    before = loaded("mnli", source, protocol)
    assert before.test == {}
    (tmp_path / "diagnostic").mkdir()
    for file in ("MNLI/test_mismatched.tsv", "diagnostic/diagnostic.tsv"):
        (tmp_path / file).write_text(table(["index", *PAIR], text=file))
    data = loaded("mnli", source, protocol)
    assert {name: split.texts[2][1] for name, split in data.test.items()} == {
        "test_mismatched": "MNLI/test_mismatched.tsv 2 sentence2",
        "diagnostic": "diagnostic/diagnostic.tsv 2 sentence2",
    }
    assert {name: split.sha256 for name, split in data.splits.items()} == {
        name: split.sha256 for name, split in before.splits.items()
    }


def test_an_empty_line_of_a_file_with_one_column_is_an_example(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text('text\na film\n\n""\nlast\n\n')
    split = read_test_file(path, FolderLayout(columns=("text",), label="label"))
    assert [text for (text,) in split.texts] == ["a film", "", "", "last", ""]
    assert split.ids.tolist() == [0, 1, 2, 3, 4]
    path.write_text("id,text\n1,a film\n\n2,last\n\n")
    split = read_test_file(path, FolderLayout(columns=("text",), label="label"))
    assert [text for (text,) in split.texts] == ["a film", "last"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index\tsentence1\n0\ta\n", r"test\.tsv:1: no column 'sentence2'"),
        ("index\tsentence1\tsentence2\n0\ta\tb\n1\tb\n", r"test\.tsv:3: 2 columns, expected 3"),
        ("index\tsentence1\tsentence2\n", "rte: split 'test' has no examples"),
        ("", r"test\.tsv:1: no column"),
        (None, r"test\.tsv: cannot be read \(Is a directory\)"),
    ],
)
def test_a_broken_test_file_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    source, path = glue(tmp_path, "rte"), tmp_path / "RTE" / "test.tsv"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        loaded("rte", source)


def test_no_row_of_a_test_file_is_left_out(tmp_path: Path) -> None:
    """Those of QQP's other files are: here the ids of all that follow would be wrong."""
    (tmp_path / "test.tsv").write_text("id\tquestion1\tquestion2\n0\ta\n1\tb\tc\n")
    with pytest.raises(DataError, match=r"test\.tsv:2: 2 columns, expected 3"):
        read_test_file(tmp_path / "test.tsv", load_task("qqp").folder)


JOBS: dict[str, Any] = {
    "title": "Jobs",
    "labels": ["no", "yes"],
    "metrics": ["accuracy"],
    "test": {"unseen": "unseen.csv", "more": "more.jsonl"},
    "folder": {
        "train": "dev.tsv",
        "columns": ["text"],
        "label": "fits",
        "test_columns": ["other"],
    },
}


def jobs(place: Path, **changes: Any) -> Path:
    path = place / "jobs.yaml"
    path.write_text(json.dumps({**JOBS, **changes}))
    return path


def test_a_users_test_files_are_all_read(tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text("text\tfits\na\tno\nb\tyes\n")
    (tmp_path / "unseen.csv").write_text('n,other\n1,"two, words"\n2,c\n')
    task, source = read_task(jobs(tmp_path)), SourceConfig(kind="folder", folder=str(tmp_path))
    with pytest.raises(DataError, match=r"more\.jsonl: cannot be read \(No such file"):
        load_task_data(task, source, ProtocolConfig(name="paper"))
    (tmp_path / "more.jsonl").write_text('{"other": "d"}\n')
    data = load_task_data(task, source, ProtocolConfig(name="paper"))
    assert {name: tuple(split.texts) for name, split in data.test.items()} == {
        "unseen": (("two, words",), ("c",)),
        "more": (("d",),),
    }


@pytest.mark.parametrize("name", ["train", "selection", "validation"])
def test_a_test_split_has_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="test: the name of another split"):
        read_task(jobs(tmp_path, test={name: "unseen.csv"}))


def test_test_files_have_as_many_texts_as_the_others(tmp_path: Path) -> None:
    folder = {**JOBS["folder"], "test_columns": ["a", "b"]}
    with pytest.raises(UserError, match="folder: as many test_columns as columns"):
        read_task(jobs(tmp_path, folder=folder))


def on_hub(monkeypatch: pytest.MonkeyPatch, splits: dict[str, dict[str, list[Any]]]) -> None:
    made = {name: datasets.Dataset.from_dict(columns) for name, columns in splits.items()}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict(made))


def test_the_hubs_test_splits_are_read_without_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"premise": ["a", "b"], "hypothesis": ["c", "d"]}
    names = ("train", "validation_matched", "validation_mismatched")
    labelled = {name: {**texts, "label": [0, 2]} for name in names}
    hub = SourceConfig(kind="hub")
    on_hub(monkeypatch, labelled)
    assert loaded("mnli", hub, "paper").test == {}
    on_hub(
        monkeypatch, labelled | {"test_matched": {**texts, "label": [-1, -1]}, "other": {"x": [1]}}
    )
    data = loaded("mnli", hub, "paper")
    (split,) = data.test.values()
    assert list(data.test) == ["test_matched"]
    assert tuple(split.texts) == (("a", "c"), ("b", "d"))
    assert np.isnan(split.labels).all()
    assert "test_matched" not in data.splits
    on_hub(monkeypatch, labelled | {"test_matched": {"premise": ["a"], "label": [-1]}})
    with pytest.raises(DataError, match="hub split 'test_matched' has no column 'hypothesis'"):
        loaded("mnli", hub, "paper")
    on_hub(monkeypatch, labelled)
    task = dataclasses.replace(load_task("mnli"), name="own", custom=True, folder=None)
    with pytest.raises(DataError, match="has no split 'test_matched'"):
        load_task_data(task, hub, ProtocolConfig(name="paper"))


def study(data: Path, out: Path, encoder: Path) -> list[str]:
    flags = "--preset minilm --task wnli --method kd --baseline none --trials 2 protocol.budget=1 --json"
    small = "teacher.epochs=1 training.epochs=1 student.layers=2 training.max_length=64 threads=1"
    words = f"{flags} --keep report --data {data} --out {out} --allow-weak-teacher {small}".split()
    return [*words, f"teacher.pretrained={encoder}", "training.precision=fp32"]


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with weights so large that it says something else of every example."""
    folder = tmp_path_factory.mktemp("loud") / "encoder"
    shutil.copytree(tiny_encoder, folder)
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim == 2:
                weights.mul_(60)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WNLI with as many test examples as the official file, in words of the demo."""
    made = tmp_path_factory.mktemp("glue")
    glue(made, "wnli")
    texts = generate("wnli", train_size=200, validation_size=ROWS)["validation"].texts
    lines = ["\t".join([str(n), *own]) for n, own in enumerate(texts)]
    (made / "WNLI" / "test.tsv").write_text(
        "\n".join(["index\tsentence1\tsentence2", *lines]) + "\n"
    )
    return made


Run = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def trained(
    folder: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Run]:
    """The same study on data with and without a test file: its folder, and its runs as stored."""
    found = {}
    for kind in ("with", "without"):
        data, out = tmp_path_factory.mktemp("data") / "glue", tmp_path_factory.mktemp(kind)
        shutil.copytree(folder, data)
        if kind == "without":
            (data / "WNLI" / "test.tsv").unlink()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(data.parent)
            assert main(study(Path("glue"), out, encoder)) == 0
        found[kind] = (out, stored(out))
    return found


def stored(out: Path) -> dict[str, Any]:
    """By run: its role, metrics, losses, and predictions of both splits."""
    ledger = Ledger(storage_url(out, None))
    (name,) = ledger.ablations()
    (own,) = ledger.manifest(name).studies["wnli"].values()
    found = {
        run.record.fingerprint: {
            "role": run.role,
            "seed": run.seed,
            "metrics": run.record.metrics,
            "curves": run.record.curves,
            "inputs": run.record.inputs,
            "validation": ledger.predictions(run.record.fingerprint, "validation"),
            "test": ledger.predictions(run.record.fingerprint, "test"),
        }
        for run in ledger.study_runs(own)
    }
    ledger.close()
    return {"ablation": name, "study": own, "runs": found}


def test_a_test_split_changes_no_run(trained: dict[str, Run]) -> None:
    """Nor a study's name, nor what is computed of a teacher, which has nothing to teach on it."""
    (out, seen), (other, unseen) = trained["with"], trained["without"]
    assert (seen["ablation"], seen["study"]) == (unseen["ablation"], unseen["study"])
    assert list(seen["runs"]) == list(unseen["runs"])
    for key, run in seen["runs"].items():
        before = unseen["runs"][key]
        assert [run[name] for name in ("role", "metrics", "curves", "inputs")] == [
            before[name] for name in ("role", "metrics", "curves", "inputs")
        ]
        assert before["test"] is None
        assert (run["test"] is not None) == (run["role"] == "report")
        if run["role"] == "report":
            np.testing.assert_array_equal(run["validation"].logits, before["validation"].logits)
    outputs = [
        sorted(
            path.name for path in (place / "cache" / "teacher-outputs").iterdir() if path.is_dir()
        )
        for place in (out, other)
    ]
    assert outputs[0] == outputs[1]


def asked(out: Path, folder: Path, fingerprint: str) -> tuple[list[str], np.ndarray[Any, Any]]:
    """The words and logits of a kept student, loaded by Hugging Face, for one test example at a time."""
    (place,) = (out / "students").glob(f"*/{fingerprint[:16]}")
    model = AutoModelForSequenceClassification.from_pretrained(place).eval()
    tokenizer = tokenizer_of(place)
    words = {"not_entailment": "0", "entailment": "1"}
    logits = []
    for line in (folder / "WNLI" / "test.tsv").read_text().splitlines()[1:]:
        _, first, second = line.split("\t")
        inputs = tokenizer(first, second, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            logits.append(model(**inputs).logits[0].numpy())
    found = np.stack(logits)
    return [words[model.config.id2label[int(label)]] for label in found.argmax(axis=1)], found


def test_the_zip_says_what_the_kept_students_say(
    trained: dict[str, Run], folder: Path, tmp_path: Path
) -> None:
    out, seen = trained["with"]
    zip_file = tmp_path / "one.zip"
    reported = {key: run for key, run in seen["runs"].items() if run["role"] == "report"}
    assert len(reported) == 2
    for key, run in reported.items():
        expected, logits = asked(out, folder, key)
        assert set(expected) == {"0", "1"}
        assert logits.std(axis=0).min() > 0.01
        np.testing.assert_allclose(run["test"].logits, logits, atol=1e-4)
        assert run["test"].ids.tolist() == list(range(ROWS))
        assert np.isnan(run["test"].labels).all()
        given = [str(out), "--method", "kd", "--seed", str(run["seed"]), "--out", str(zip_file)]
        assert submission.main(given) == 0
        with ZipFile(zip_file) as archive:
            assert archive.namelist() == ["WNLI.tsv"]
            lines = archive.read("WNLI.tsv").decode().splitlines()
        assert lines == ["index\tprediction", *(f"{n}\t{word}" for n, word in enumerate(expected))]


def test_runs_that_predicted_nothing_are_named(
    trained: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = trained["without"]
    assert submission.main([str(out), "--method", "kd"]) == 2
    assert "WNLI.tsv: the run with seed" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["with", "without"])
def test_a_run_repeats_whatever_test_file_there_is_now(
    trained: dict[str, Run],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    """The file is gone, or it is another one: a run's result does not depend on it."""
    out, seen = trained[kind]
    chosen = next(key for key, run in seen["runs"].items() if run["role"] == "report")
    shutil.copytree(out, tmp_path / "runs")
    data = tmp_path / "glue"
    shutil.copytree(folder, data)
    change_data(tmp_path / "runs", data)
    test = data / "WNLI" / "test.tsv"
    for content in (None, "\n".join(test.read_text().splitlines()[:9]) + "\n"):
        test.unlink(missing_ok=True)
        if content is not None:
            test.write_text(content)
        capsys.readouterr()
        assert main(["--replay", chosen, "--out", str(tmp_path / "runs"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["differences"] == []


def change_data(runs: Path, data: Path) -> None:
    """Let the ablation's data lie elsewhere."""
    ledger = Ledger(storage_url(runs, None))
    (name,) = ledger.ablations()
    manifest = ledger.manifest(name)
    source = replace(manifest.config.source, folder=str(data))
    ledger.write_ablation(replace(manifest, config=replace(manifest.config, source=source)))
    ledger.close()
