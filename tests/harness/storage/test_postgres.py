"""The same study on PostgreSQL, by several commands at once, one of them killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import small_study
from tests.killing import Study, result
from tests.postgres import running_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a fresh cluster."""
    with running_server() as running:
        yield running.url()


@pytest.mark.slow
def test_commands_share_a_database_and_outlive_a_killed_one(
    server: str, tmp_path: Path, tiny_encoder: Path
) -> None:
    more = ("--trials", "5", "--seeds", "3")
    alone = Study(small_study(tmp_path / "alone", tiny_encoder, *more), tmp_path, tmp_path / "one")
    alone.join()
    moments = alone.answer()["moments"]
    out = tmp_path / "runs"
    given = small_study(out, tiny_encoder, *more, f"storage='{server}'")
    killed = Study(given, out, tmp_path / "killed", moments // 3)
    others = [Study(given, out, tmp_path / f"other-{number}") for number in range(2)]
    for study in (killed, *others):
        study.join()
    assert killed.killed
    expected = result(alone.answer()["printed"])
    for study in others:
        answer = study.answer()
        assert answer["code"] == 0
        assert result(answer["printed"]) == expected
    written = [run for study in (killed, *others) for run in study.writes()]
    assert len(set(written)) == len(written)
    assert set(written) <= set(alone.writes())
    assert not (out / "ledger.db").exists()
