"""Imports without garbage collections."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runtime.imports import import_at_once

MODULE = "import gc\nWAS_ENABLED = gc.isenabled()\nKEPT = [[] for _ in range(1000)]\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "a_module_for_the_collector.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "a_module_for_the_collector"
    sys.modules.pop("a_module_for_the_collector", None)


def test_no_collection_runs_in_an_import(module: str) -> None:
    before = gc.get_freeze_count()
    import_at_once(module)
    assert not sys.modules[module].WAS_ENABLED
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + 1000


def test_a_second_import_freezes_nothing(module: str) -> None:
    import_at_once(module)
    before = gc.get_freeze_count()
    garbage: list[list[int]] = [[] for _ in range(1000)]
    import_at_once(module)
    assert gc.get_freeze_count() <= before
    assert len(garbage) == 1000


def test_collections_go_on_after_an_import_that_fails() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_at_once("a_module_that_is_not_there")
    assert gc.isenabled()
