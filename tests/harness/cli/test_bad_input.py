"""Whatever is given, the answer is a result or one line: never a traceback, a warning or a hang."""

import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from harness.cli import choices, command, entrance
from harness.cli.arguments import Request
from harness.compose import compose_config
from harness.config import ProtocolConfig, SourceConfig, json_values
from harness.data.sources import load_task_data
from harness.data.tasks import load_task, read_task, task_names
from harness.errors import DataError, StorageError, UserError
from harness.registry.discovery import chosen_methods
from harness.registry.space import check_names, space_of
from harness.runtime.device import choose_arithmetic
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main
from reports.report import build_report
from tests.conftest import small_study

MANY = settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def keys(values: dict[str, Any], prefix: str = "") -> list[str]:
    """All dotted keys of a configuration."""
    found = []
    for name, value in values.items():
        found.append(prefix + name)
        if isinstance(value, dict):
            found += keys(value, f"{prefix}{name}.")
    return found


KEYS = keys(json_values(compose_config(["preset=demo", "methods=[kd]", "tasks=[rte]"])))
SPACES = [f"search.space.{name}" for name in ("temperature", "kd_weight", "layer_weight", "scaled")]
scraps = st.text(
    st.characters(codec="utf-8") | st.sampled_from("[]{}(),:='\"\\$~+*/.-_ \t\n\r#@&%!?0123456789"),
    max_size=12,
)
numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, 1, -1, 2**63, 10**400, 1e308, -0.0])
)
words = st.sampled_from(
    [
        *("null", "true", "???", "${out}", "${oc.env:HOME}", "[]", "{}", "[1,2]", "{a: 1}", "'a"),
        *("1e5", "choice(1,2)", "range(1,9)", "auto", "cuda", "cpu", "alp", "simplex", "[2.0]"),
        *("[0.1,0.9]", "../up", "/etc", "a/b", "a\0b"),
    ]
)
plausible = st.integers(1, 8).map(str) | st.floats(0.01, 0.9).map(str)
values = st.one_of(plausible, plausible, numbers.map(str), words, scraps)
settable = [key for key in KEYS if key not in ("methods", "tasks", "preset", "baseline")]
overrides = st.one_of(
    *[st.builds("{}={}".format, st.sampled_from([*settable, *SPACES]), values)] * 4,
    st.builds("{}{}={}".format, st.sampled_from(["+", "~", "++", "", "_target_."]), scraps, values),
    scraps,
)
FLAGS = ("--method", "--task", "--preset", "--trials", "--seeds", "--student-layers", "--baseline")
flags = st.tuples(
    st.sampled_from([*FLAGS, "--protocol", "--sampler", "--keep", "--teacher", "--replay"]),
    values | scraps,
).map(list)


def one_line(code: Any, printed: str, errors: str) -> None:
    """A result, or exit code 2 and one line that says what is wrong."""
    assert code in (0, 2), errors
    told = [line for line in errors.splitlines() if "error:" in line]
    assert len(told) == (1 if code == 2 else 0), errors
    assert "Traceback" not in errors


@MANY
@given(more=st.lists(overrides.map(lambda text: [text]) | flags, min_size=1, max_size=3))
def test_any_configuration_is_taken_or_refused_in_one_line(more: list[list[str]]) -> None:
    base = ["--method", "alp", "--task", "rte", "--preset", "demo"]
    chosen = [word for words in more for word in words if word != "--"]

    def prepared(asked: Request, words: object, cluster: object) -> int:
        config = asked.config
        check_names(chosen_methods(config), config.search)
        for method in chosen_methods(config):
            space_of(method, config.search, regression=False)
        choose_arithmetic(asked.config.device, asked.config.training.precision)
        return 0

    printed, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr(command, "run_study", prepared)
        patch.setattr(entrance, "connected", lambda asked: contextlib.nullcontext())
        patch.setattr(choices, "_hub_answers", lambda: False)
        try:
            code: Any = main([*base, *chosen])
        except SystemExit as stopped:  # argparse's own
            code = stopped.code
    one_line(code, printed.getvalue(), errors.getvalue())


SUFFIXES = [".tsv", ".csv", ".jsonl", ".parquet"]
LABELS = ["entailment", "not_entailment", "0", "1", "2.5", "5"]
cells = st.sampled_from(["a b", "x", "Ä", ""]) | scraps
labels = st.sampled_from([*LABELS, *LABELS, "nan", "inf", "-1", "", "2x"]) | scraps
json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, str, list[list[Any]]]:
    """A GLUE task, a suffix, and rows for it: mostly of the right width and with labels it may have."""
    name, suffix = draw(st.sampled_from(task_names())), draw(st.sampled_from(SUFFIXES))
    width = len(header_of(name))
    typed = suffix in (".jsonl", ".parquet")
    row = st.tuples(*[cells] * (width - 1), labels).map(list)
    odd = st.lists(json_values if typed else cells, min_size=1, max_size=5)
    mostly = row if draw(st.integers(0, 2)) else row | odd
    return name, suffix, draw(st.lists(mostly, min_size=draw(st.integers(0, 2)), max_size=6))


def written(path: Path, names: list[str], rows: list[list[Any]]) -> None:
    """Rows in the format of the path's suffix, without the checks that a writer would make."""
    if path.suffix == ".parquet":
        columns = {name: [(*row, *names)[i] for row in rows] for i, name in enumerate(names)}
        with contextlib.suppress(pa.ArrowException, OverflowError):
            parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=False))) for row in rows]
        path.write_text("\n".join(lines))
    else:
        separator = "," if path.suffix == ".csv" else "\t"
        path.write_text("\n".join(separator.join(row) for row in [names, *rows]))


def header_of(name: str) -> list[str]:
    """A header with the columns that a task's official file names, as many as it reads."""
    layout = load_task(name).folder
    assert layout is not None
    return [str(column) for column in (*layout.columns, layout.label)]


@MANY
@given(table=tables(), broken=st.none() | st.none() | st.tuples(st.integers(0, 200), st.binary()))
def test_any_rows_are_read_or_refused_with_their_file(
    table: tuple[str, str, list[list[Any]]], broken: tuple[int, bytes] | None
) -> None:
    name, suffix, rows = table
    names = header_of(name)
    task = load_task(name)
    assert task.folder is not None
    evaluation = dict.fromkeys(task.evaluation, f"dev{suffix}")
    with tempfile.TemporaryDirectory() as folder:
        described = {
            "title": "x",
            "metrics": list(task.metrics),
            "labels": list(task.labels),
            "evaluation": evaluation,
            "folder": {
                "columns": list(task.folder.columns),
                "label": task.folder.label,
                "train": f"train{suffix}",
                "header": task.folder.header,
                "words": dict(task.folder.words),
            },
        }
        if task.scores is not None:
            described["scores"] = list(task.scores)
        path = Path(folder) / "own.yaml"
        path.write_text(yaml.safe_dump(described))
        for file in ("train", "dev"):
            place = Path(folder) / f"{file}{suffix}"
            written(place, names, rows)
            if broken is not None and place.exists():
                position, inserted = broken
                data = place.read_bytes()
                place.write_bytes(data[:position] + inserted + data[position:])
        source = SourceConfig(kind="folder", folder=folder)
        told = ""
        try:
            read = load_task_data(read_task(path), source, ProtocolConfig(name="paper"))
            assert len(read.train) > 0
        except DataError as error:
            told = str(error)
        assert told == "" or folder in told or told.startswith("own: ")


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), scraps, st.dates(), st.binary(max_size=5)
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scraps, inner, max_size=3),
    max_leaves=8,
)
TASK_KEYS = [
    "title",
    "labels",
    "scores",
    "metrics",
    "evaluation",
    "folder",
    "hub",
    "name",
    "custom",
]
GOOD = {
    "title": "Jobs",
    "labels": ["no", "yes"],
    "metrics": ["accuracy"],
    "folder": {"columns": ["text"], "label": "label"},
}


@MANY
@given(
    changes=st.dictionaries(st.sampled_from(TASK_KEYS) | scraps, trees, max_size=3),
    text=st.sampled_from([None] * 12 + ["!!python/name:os.system", "&a [*a]", "? ? ?", "", "-"]),
)
def test_any_task_file_is_read_or_refused(changes: dict[str, Any], text: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.yaml"
        written = yaml.safe_dump({**GOOD, **changes}) if text is None else text
        path.write_bytes(written.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(UserError):
            assert read_task(path).name == "jobs"


@pytest.fixture(scope="module")
def finished(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    assert main(small_study(out, tiny_encoder)) == 0
    return out


PAGE = 4096


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["zeros", "noise", "cut"])
def test_a_damaged_ledger_is_read_or_refused(finished: Path, tmp_path: Path, damage: str) -> None:
    """Every page in turn; what the report does not read, or SQLite not notice, may stand."""
    rng = np.random.default_rng(0)
    whole = (finished / "ledger.db").read_bytes()
    (ablation,) = [path.parent.name for path in finished.glob("*/report.html")]
    told = []
    for page in range(0, len(whole) // PAGE, 3):
        fill = {"zeros": bytes(PAGE), "noise": rng.bytes(PAGE), "cut": b""}[damage]
        rest = b"" if damage == "cut" else whole[(page + 1) * PAGE :]
        out = tmp_path / str(page)
        out.mkdir()
        (out / "ledger.db").write_bytes(whole[: page * PAGE] + fill + rest)
        try:
            ledger = Ledger(storage_url(out, None))
            build_report(ledger, ablation, out / "report.html")
            ledger.close()
        except StorageError as error:
            told.append(str(error))
        shutil.rmtree(out)
    assert len(told) > 5
    assert all(text.startswith("ledger sqlite") for text in told)


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_study_on_a_damaged_ledger_ends_in_one_line(
    finished: Path,
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    part: float,
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "runs"))
    whole = (out / "ledger.db").read_bytes()
    page = round(part * len(whole) / PAGE) * PAGE
    (out / "ledger.db").write_bytes(whole[:page] + bytes(PAGE) + whole[page + PAGE :])
    code = main(small_study(out, tiny_encoder, "--trials", "3"))
    one_line(code, *capsys.readouterr())
