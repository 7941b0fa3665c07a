"""The ledger with many runs: few statements, and the same rows as one run at a time."""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, text

from harness.errors import StorageError
from harness.storage import ledger as ledger_module
from harness.storage.database import put
from harness.storage.ledger import Ledger
from harness.storage.record import Predictions, Result, Use
from harness.storage.schema import USES
from tests.manifests import STUDY, manifest
from tests.postgres import Server, running_server
from tests.records import record
from tests.statements import statements


def uses(count: int, fingerprint: str = "a") -> list[Use]:
    """Uses of two studies, not in the order of their keys."""
    keys = [("st"[n % 2], "report", n // 2, n % 3) for n in reversed(range(count))]
    return [Use(*key, fingerprint=f"{fingerprint}{n}") for n, key in enumerate(keys)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("server")
        url = server.new_database(f"d{uuid.uuid4().hex}")
    with closing(Ledger(url)) as opened:
        yield opened


def rows(ledger: Ledger) -> list[tuple[object, ...]]:
    query = select(USES).order_by(*USES.primary_key)
    return ledger.transact(lambda connection: [tuple(row) for row in connection.execute(query)])


@pytest.fixture
def studies(ledger: Ledger) -> Ledger:
    for name in "st":
        ledger.write_study(name, STUDY)
    return ledger


def test_many_uses_leave_the_rows_of_single_uses(studies: Ledger, tmp_path: Path) -> None:
    with statements() as few:
        studies.use_runs(uses(4))
    with statements() as many:
        studies.use_runs([*uses(40), *uses(10, "b"), *uses(5, "c")])
    assert len(many) == len(few)
    other = Ledger(f"sqlite:///{tmp_path / 'other.db'}")
    for name in "st":
        other.write_study(name, STUDY)
    for use in [*uses(4), *uses(40), *uses(10, "b"), *uses(5, "c")]:
        with other.engine.begin() as connection:
            put(connection, USES, use._asdict())
    assert rows(studies) == rows(other)
    assert len(rows(studies)) == 40
    other.close()


def test_no_use_at_all_needs_no_statement(studies: Ledger) -> None:
    with statements() as executed:
        studies.use_runs([])
    assert executed == []


def test_a_use_that_is_there_already_is_not_written_again(studies: Ledger) -> None:
    studies.use_runs(uses(6))
    trigger = "CREATE TRIGGER refusal BEFORE UPDATE ON harness_study_runs "
    refusals = [f"{trigger}BEGIN SELECT RAISE(ABORT, 'written'); END"]
    if studies.engine.dialect.name == "postgresql":
        body = "BEGIN RAISE EXCEPTION 'written'; END"
        refusals = [
            f"CREATE FUNCTION refuse() RETURNS trigger AS $$ {body} $$ LANGUAGE plpgsql",
            f"{trigger}FOR EACH ROW EXECUTE FUNCTION refuse()",
        ]
    for refusal in refusals:
        studies.transact(lambda connection, refusal=refusal: connection.execute(text(refusal)))
    studies.use_runs(uses(6))
    with pytest.raises(StorageError, match="written"):
        studies.use_runs(uses(6, "b"))
    assert [row[-1] for row in rows(studies)] == [use.fingerprint for use in sorted(uses(6))]


def test_more_runs_than_a_statement_takes_are_read_in_parts(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"run-{number}" for number in range(20)]
    one = Predictions(np.ones((1, 2), dtype=np.float32), np.ones(1), np.zeros(1, dtype=np.int64))
    ledger.write_runs(
        [Result(record(name), {"validation": one}, {"layers": {"n": name}}) for name in names]
    )
    monkeypatch.setattr(ledger_module, "MOST_KEYS", 7)
    with statements() as executed:
        records = ledger.records(names)
    assert sum("harness_runs" in statement for statement in executed) == 3
    assert {key: found.fingerprint for key, found in records.items()} == {
        name: name for name in names
    }
    assert ledger.predictions_of(names, "validation").keys() == set(names)
    found = ledger.inspections_of(names, "layers")
    assert found == {name: {"n": name} for name in names}
    assert ledger.records([]) == {}


def test_a_statement_has_fewer_keys_than_sqlite_takes() -> None:
    assert ledger_module.MOST_KEYS + 10 < 32_766
    connection = sqlite3.connect(":memory:")
    connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
    marks = ",".join("?" * ledger_module.MOST_KEYS)
    connection.execute(f"SELECT 1 WHERE 1 IN ({marks})", [1] * ledger_module.MOST_KEYS)
    connection.close()


def test_report_runs_are_found_among_studies(studies: Ledger) -> None:
    studies.write_runs([Result(record(name), {}, {}) for name in ("a", "b")])
    assert not studies.has_report_runs(["s", "t"])
    studies.use_runs([Use("s", "search", 0, 0, "a"), Use("t", "report", 0, 1, "unfinished")])
    assert not studies.has_report_runs(["s", "t"])
    studies.use_run("t", "report", 0, 2, "b")
    assert not studies.has_report_runs(["s"])
    assert studies.has_report_runs(["s", "t"])
    assert not studies.has_report_runs([])


def test_ablations_of_another_budget_or_criterion_are_found_by_name(ledger: Ledger) -> None:
    made = {
        f"{budget} {criterion}": manifest(
            name=f"{budget} {criterion}",
            unit="methods",
            config={
                "protocol": {"budget": budget},
                "search": {"criterion": criterion, "trials": 20},
            },
        )
        for budget in (2, 4)
        for criterion in ("metric", "loss")
    }
    for ablation in made.values():
        ledger.write_ablation(ablation)
    for budget, criterion in ((2, "metric"), (4, "loss"), (5, "metric")):
        expected = [
            name
            for name, found in made.items()
            if (found.config.protocol.budget, found.config.search.criterion) != (budget, criterion)
        ]
        assert ledger.ablations_unlike(budget, criterion) == expected  # type: ignore[arg-type]
    assert len(ledger.ablations_unlike(2, "metric")) == 3


def test_a_manifest_without_a_budget_counts_as_unlike(ledger: Ledger) -> None:
    """So the manifest is read, and its damage is named."""
    ledger.write_ablation(manifest(name="x"))
    ledger.write_ablation(manifest(name="y"))
    damage = "UPDATE harness_ablations SET manifest = '{}' WHERE name = 'y'"
    ledger.transact(lambda connection: connection.execute(text(damage)))
    plain = manifest(name="x").config
    assert ledger.ablations_unlike(plain.protocol.budget, plain.search.criterion) == ["y"]
