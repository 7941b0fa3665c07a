"""Imports point one way."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = [
    {"harness.errors", "harness.config", "harness.compose"},
    {"harness.tasks", "harness.artefacts", "harness.storage", "harness.randomness"},
    {"harness.layer_maps", "harness.method", "harness.losses"},
    {"harness.matching", "harness.schedule", "harness.sources", "harness.stats"},
    {"harness.encoder", "harness.student", "harness.ledger", "harness.inputs"},
    {"harness.train", "harness.teacher_outputs"},
    {"harness.teacher"},
    {"harness.materials"},
    {"harness.inspection"},
    {"harness.execute"},
    {"harness.ablation"},
    {"harness.study"},
]
COMMAND_LINE = ["harness.arguments", "harness.listing", "harness.plan", "harness.summary"]
ALLOWED_IN_METHODS = {
    "harness.method",
    "harness.matching",
    "harness.layer_maps",
    "harness.losses",
    "harness.errors",
}
ALLOWED_IN_REPORTS = {
    "harness.ledger",
    "harness.compare",
    "harness.results",
    "harness.predictions",
    "harness.repeats",
    "harness.across",
    "harness.by_example",
    "harness.side_by_side",
    "harness.disagreements",
    "harness.stats",
    "harness.errors",
    "harness.storage",
    "harness.config",
}


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


LEVEL = {name: rank for rank, names in enumerate(ORDER) for name in names}


def rank_of(path: Path) -> int | None:
    return next((rank for name, rank in LEVEL.items() if within(name_of(path), {name})), None)


RANKED = [path for path in modules("harness") if rank_of(path) is not None]


def test_every_rank_names_a_module() -> None:
    names = {name_of(path) for path in RANKED}
    assert set(LEVEL) <= names


@pytest.mark.parametrize("path", RANKED, ids=name_of)
def test_lower_layers_import_no_higher_ones(path: Path) -> None:
    own = rank_of(path)
    assert own is not None
    assert {name for name in imported(path) if LEVEL.get(name, -1) > own} == set()


def test_no_circle_among_the_modules_of_harness() -> None:
    names = {name_of(path): path for path in modules("harness")}
    graph = {
        name: {other for other in imported(path) & set(names) if not within(name, {other})}
        for name, path in names.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(names)


@pytest.mark.parametrize("name", COMMAND_LINE)
def test_only_the_command_knows_the_command_line(name: str) -> None:
    users = {name_of(path) for path in modules("harness") if name in imported(path)}
    assert users == {"harness.command"}
