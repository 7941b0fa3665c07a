"""What kernels lack on a machine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.kernels import support
from harness.kernels.support import FORBIDDEN, lack_on_gpu


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., str | None]]:
    """The lack of a machine without GPU, with some programs, modules and header files."""

    def lack(
        programs: set[str], modules: frozenset[str] = frozenset({"triton"}), headers: bool = True
    ) -> str | None:
        include = tmp_path / "include"
        include.mkdir()
        if headers:
            (include / "Python.h").touch()
        monkeypatch.setattr("shutil.which", lambda name: name if name in programs else None)
        monkeypatch.setattr(support, "find_spec", lambda name: name if name in modules else None)
        monkeypatch.setattr("sysconfig.get_paths", lambda **scheme: {"include": str(include)})
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        lack_on_gpu.cache_clear()
        return lack_on_gpu()

    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv(FORBIDDEN, raising=False)
    yield lack
    lack_on_gpu.cache_clear()


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_machine_that_lacks_nothing(machine: Callable[..., str | None], compiler: str) -> None:
    assert machine({compiler}) is None


def test_triton_looks_for_no_other_compiler(machine: Callable[..., str | None]) -> None:
    lack = machine({"cc"})
    assert lack is not None
    assert "C compiler" in lack


@pytest.mark.parametrize(("programs", "lacks"), [({"gcc"}, True), ({"icx"}, False)])
def test_triton_takes_the_named_compiler_alone(
    machine: Callable[..., str | None],
    monkeypatch: pytest.MonkeyPatch,
    programs: set[str],
    lacks: bool,
) -> None:
    monkeypatch.setenv("CC", "icx")
    assert (machine(programs) is not None) == lacks


def test_python_without_header_files(machine: Callable[..., str | None]) -> None:
    lack = machine({"gcc"}, headers=False)
    assert lack is not None
    assert "Python.h" in lack


def test_python_without_triton(machine: Callable[..., str | None]) -> None:
    assert machine({"gcc"}, modules=frozenset()) == "Triton is not installed"


def test_forbidden_kernels(
    machine: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FORBIDDEN, "1")
    assert machine({"gcc"}) == f"{FORBIDDEN}=1 forbids them"
