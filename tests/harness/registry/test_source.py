"""Identities of methods: hashes of their source and of the pieces that they use."""

import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from harness.method import layer_maps, losses, matching
from harness.registry.discovery import registry
from harness.registry.source import function_source, method_source

PACKAGE = {
    "__init__.py": """from harness.method import layer_maps
from harness.method import Method
from plugin_of_a_test.helper import half


class Own(Method):
    name, summary, paper = "own", "-", "-"

    def terms(self, student, teacher, labels, context):
        return {"layer": half(student.states.mean())}
""",
    "helper.py": "from plugin_of_a_test import deep\n\n\ndef half(x):\n    return deep.TWO * x\n",
    "deep.py": '"""A number."""\n\nTWO = 0.5\n',
    "unused.py": "THREE = 3\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "plugin_of_a_test"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.startswith("plugin_of_a_test")]:
        del sys.modules[name]


def source(name: str) -> str:
    method_source.cache_clear()
    return method_source(registry().resolve(name))


@pytest.mark.parametrize(
    ("file", "changes"),
    [("__init__.py", True), ("helper.py", True), ("deep.py", True), ("unused.py", False)],
)
def test_a_packages_own_modules_are_a_part_of_its_method(
    package: Path, file: str, changes: bool
) -> None:
    own = import_module("plugin_of_a_test").Own
    import_module("plugin_of_a_test.unused")
    before = method_source(own)
    with (package / file).open("a") as stream:
        stream.write("\nMORE = 1\n")
    method_source.cache_clear()
    assert (method_source(own) != before) == changes
    (package / "deep.py").write_text('"""Other words."""\n\nTWO = 0.5  # and more\n')
    method_source.cache_clear()
    assert (method_source(own) != before) == changes or file == "deep.py"


@pytest.mark.parametrize(
    ("module", "touched", "untouched"),
    [
        (layer_maps, ["pkd-skip", "alp-no", "tinybert"], ["kd", "uniform", "rail"]),
        (matching, ["pkd-skip", "alp", "uniform", "emd"], ["kd", "rail", "minilm"]),
        (losses, ["kd", "alp", "rail"], []),
    ],
)
def test_a_shared_piece_is_a_part_of_the_methods_that_use_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    module: object,
    touched: list[str],
    untouched: list[str],
) -> None:
    before = {name: source(name) for name in (*touched, *untouched)}
    changed = tmp_path / "changed.py"
    changed.write_text(Path(module.__file__).read_text() + "\nMORE = 1\n")
    monkeypatch.setattr(module, "__file__", str(changed))
    after = {name: source(name) for name in before}
    assert {name for name in before if after[name] != before[name]} == set(touched)
    method_source.cache_clear()


def test_a_method_without_a_source_file_has_no_identity() -> None:
    from harness.errors import MethodError

    own = type("Own", (registry().resolve("kd"),), {"__module__": "builtins_of_a_test"})
    sys.modules["builtins_of_a_test"] = type(sys)("builtins_of_a_test")
    try:
        with pytest.raises(MethodError, match="builtins_of_a_test has no source file"):
            method_source(own)
    finally:
        del sys.modules["builtins_of_a_test"]


def test_a_function_is_its_code_without_comments_and_docstrings(tmp_path: Path) -> None:
    def hashed(text: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "rows.py").write_text(text)
        spec = spec_from_file_location("rows", folder / "rows.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return function_source(module.twice)

    plain = hashed("def twice(x):\n    return 2 * x\n")
    assert hashed('def twice(x):\n    """Two."""\n    return 2 * x  # two\n') == plain
    assert hashed("def twice(x):\n    return x * 2\n") != plain
    first = hashed("twice = lambda x: 2 * x\n")
    assert hashed("twice = lambda x: x * 2\n") != first


def test_a_function_without_a_source_file_is_refused() -> None:
    with pytest.raises((OSError, TypeError)):
        function_source(len)
