"""Imports point one way."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEVELS = [
    {"errors", "metric_table", "paths", "pooling_table", "axis_names", "loss_stages"}
    | {"validation_faults"},
    {"config", "own_packages", "extras"},
    {"compose"},
    {"grid"},
    {"kernels"},
    {"runtime", "method", "stats"},
    {"storage", "demo"},
    {"data", "tracking"},
    {"models", "analysis"},
    {"registry"},
    {"training"},
    {"evaluation"},
    {"workers"},
    {"experiment"},
    {"cli"},
    {"study", "power", "api"},
]
"""The packages and modules of harness/: each imports from itself and from lower levels."""
REPORT_LEVELS = [
    {"evidence"},
    {"kit"},
    {"export"},
    {"sections"},
    {"page"},
    {"report", "submission"},
    {"build", "running"},
]
"""The packages and modules of reports/, in the same way."""
ALLOWED_IN_METHODS = {"harness.method", "harness.errors"}
ALLOWED_IN_REPORTS = {
    "harness.analysis",
    "harness.storage",
    "harness.stats",
    "harness.errors",
    "harness.config",
    "harness.paths",
    "harness.pooling_table",
    "harness.axis_names",
    "harness.runtime.imports",
    "harness.runtime.output",
    "harness.runtime.progress",
    "harness.runtime.threads",
}
WITHOUT_TORCH = (
    "harness.analysis",
    "harness.storage",
    "harness.stats",
    "harness.config",
    "harness.metric_table",
    "harness.pooling_table",
    "harness.loss_stages",
    "harness.runtime.imports",
    "harness.runtime.output",
    "harness.runtime.progress",
    "harness.runtime.threads",
    "reports",
)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def within(name: str, allowed: set[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in allowed)


@pytest.mark.parametrize("path", modules("methods"), ids=name_of)
def test_methods_import_only_the_contract(path: Path) -> None:
    ours = {name for name in imported(path) if name.startswith(("harness.", "reports", "studies"))}
    assert {name for name in ours if not within(name, ALLOWED_IN_METHODS)} == set()


@pytest.mark.parametrize("path", modules("reports"), ids=name_of)
def test_reports_import_neither_torch_nor_the_core(path: Path) -> None:
    names = imported(path)
    assert not {
        n for n in names if n.split(".")[0] in {"torch", "transformers", "optuna", "methods"}
    }
    ours = {name for name in names if name.startswith("harness.")}
    assert {name for name in ours if not within(name, ALLOWED_IN_REPORTS)} == set()


@pytest.mark.parametrize("path", modules("harness"), ids=name_of)
def test_harness_names_no_method(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] == "methods"}


LEVEL = {
    f"{tree}.{name}": level
    for tree, levels in (("harness", LEVELS), ("reports", REPORT_LEVELS))
    for level, names in enumerate(levels)
    for name in names
}


def room(name: str) -> str:
    """The package, or the module of a tree itself, that a dotted name is in."""
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("tree", ["harness", "reports"])
def test_levels_name_all_of_a_tree(tree: str) -> None:
    levels = {name for name in LEVEL if within(name, {tree})}
    assert levels == {room(name_of(path)) for path in modules(tree)} - {tree}


@pytest.mark.parametrize("path", [*modules("harness"), *modules("reports")], ids=name_of)
def test_imports_go_down(path: Path) -> None:
    own = room(name_of(path))
    if own == "harness":
        assert {room(name) for name in imported(path) if within(name, {own})} == {"harness.api"}
        return
    others = {room(name) for name in imported(path) if room(name) in LEVEL} - {own}
    tree = own.split(".")[0]
    assert {o for o in others if within(o, {tree}) and LEVEL[o] >= LEVEL[own]} == set()


@pytest.mark.parametrize("path", modules("reports/sections"), ids=name_of)
def test_a_section_imports_no_other_section(path: Path) -> None:
    sections = {
        name.removeprefix("reports.sections.").split(".")[0]
        for name in (name_of(path), *imported(path))
        if name.startswith("reports.sections.")
    }
    assert len(sections) <= 1


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_a_report_needs_runs_without_torch(name: str) -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        f"package = importlib.import_module({name!r})\n"
        "for found in pkgutil.walk_packages(getattr(package, '__path__', []), package.__name__ + '.'):\n"
        "    importlib.import_module(found.name)\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("tree", ["harness", "reports"])
def test_no_circle_among_the_modules_of_a_tree(tree: str) -> None:
    names = {name_of(path): path for path in modules(tree)}
    graph = {
        name: {other for other in imported(path) & set(names) if not within(name, {other})}
        for name, path in names.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(names)


def test_only_the_doors_know_the_command_line() -> None:
    users = {
        room(name_of(path))
        for path in modules("harness")
        if any(within(name, {"harness.cli"}) for name in imported(path))
    }
    assert users == {"harness.api", "harness.cli", "harness.study", "harness.power"}
