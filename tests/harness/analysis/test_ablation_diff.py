"""Two ablations that no manifest compares: differences by hand, and what is refused."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.ablation_diff import AblationDiff, Change, MethodDiff, read_ablation_diff
from harness.errors import StorageError, UserError
from harness.storage.ledger import Ledger
from harness.storage.record import Result
from tests.manifests import STUDY, manifest
from tests.records import record

SEEDS = (1, 2, 3, 4, 5, 6)
FIRST = {"kd": (0.70, 0.72, 0.74, 0.70, 0.72, 0.74), "alp": (0.80, 0.80, 0.80, 0.80, 0.80, 0.80)}
SECOND = {"kd": (0.72, 0.74, 0.76, 0.72, 0.74, 0.76), "alp": (0.81, 0.81, 0.81, 0.81, 0.81, 0.79)}
MANIFEST: dict[str, Any] = {
    "trials": 1,
    "report_seeds": list(SEEDS),
    "teachers": {"rte": {"fingerprint": "t1"}},
    "config": {"methods": ["kd", "alp"]},
    "provenance": {"revision": "abc"},
}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield opened
    opened.close()


def write(
    ledger: Ledger,
    name: str,
    scores: Mapping[str, tuple[float, ...]],
    *,
    seeds: tuple[int, ...] = SEEDS,
    runs: str | None = None,
    split: str = "s1",
    searched: bool = True,
    **changes: Any,
) -> None:
    """An ablation of the methods on rte; NaN is a failed run. `runs` names whose runs it uses."""
    studies = {"rte": {method: f"{runs or name}-{method}" for method in scores}}
    written = manifest(**MANIFEST | {"name": name, "studies": studies} | changes)
    ledger.write_ablation(written)
    for method, own in scores.items():
        study = studies["rte"][method]
        ledger.write_study(study, STUDY)
        found = [("search", 0, 0.5)] if searched else []
        for role, seed, score in (
            *found,
            *(("report", *pair) for pair in zip(seeds, own, strict=True)),
        ):
            run = record(
                f"{study}-{role}-{seed}",
                None if math.isnan(score) else score,
                written.primary_metric("rte"),
                inputs={"evaluation": [["validation", split]]},
            )
            ledger.write_runs([Result(run, {}, {})])
            ledger.use_run(study, role, 0, seed, run.fingerprint)


def both(found: AblationDiff, method: str) -> MethodDiff:
    (own,) = [pair for pair in found.pairs if pair.method == method]
    return own


def test_differences_are_the_second_minus_the_first_by_seed(ledger: Ledger) -> None:
    write(ledger, "one", FIRST)
    write(ledger, "two", SECOND)
    found = read_ablation_diff(ledger, "one", "two")
    kd, alp = both(found, "kd"), both(found, "alp")
    assert kd.difference is not None
    assert alp.difference is not None
    assert (kd.seeds, kd.unpaired_seeds, kd.failure_counts, kd.refusal) == (SEEDS, (), (0, 0), "")
    assert kd.difference.differences == pytest.approx([0.02] * 6)
    assert alp.difference.differences == pytest.approx([0.01] * 5 + [-0.01])
    # Of 64 patterns of signs, as far from zero: all alike and its mirror; one that differs, of six,
    # and its mirrors, beside those.
    assert kd.difference.p_value == pytest.approx(2 / 64)
    assert alp.difference.p_value == pytest.approx((2 + 12) / 64)
    assert kd.adjusted_p == pytest.approx(2 * 2 / 64)
    assert alp.adjusted_p == pytest.approx(14 / 64)
    assert kd.difference.interval == pytest.approx((0.02, 0.02))
    swapped = both(read_ablation_diff(ledger, "two", "one"), "kd")
    assert swapped.difference is not None
    assert swapped.difference.mean == pytest.approx(-0.02)


def test_only_shared_seeds_are_paired(ledger: Ledger) -> None:
    later = (3, 4, 5, 6, 7, 8)
    write(ledger, "one", {"kd": FIRST["kd"]})
    write(ledger, "two", {"kd": SECOND["kd"]}, seeds=later, report_seeds=list(later))
    kd = both(read_ablation_diff(ledger, "one", "two"), "kd")
    assert kd.difference is not None
    assert (kd.seeds, kd.unpaired_seeds) == ((3, 4, 5, 6), (1, 2, 7, 8))
    expected = [0.72 - 0.74, 0.74 - 0.70, 0.76 - 0.72, 0.72 - 0.74]
    assert kd.difference.differences == pytest.approx(expected)


def test_failed_runs_are_counted(ledger: Ledger) -> None:
    write(ledger, "one", {"kd": (*FIRST["kd"][:5], math.nan)})
    write(ledger, "two", {"kd": SECOND["kd"]})
    kd = both(read_ablation_diff(ledger, "one", "two"), "kd")
    assert (kd.seeds, kd.unpaired_seeds, kd.failure_counts) == (SEEDS[:5], (6,), (1, 0))
    assert kd.adjusted_p == pytest.approx(2 / 32)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"split": "s2"}, "evaluated on different examples"),
        ({"searched": False}, "the search of two has not ended"),
        (
            {"stopping": "sequential", "baseline": "alp"},
            "two added runs",
        ),
        (
            {"tasks": {"rte": {"metrics": ["f1"]}}},
            "scored by accuracy and by f1",
        ),
        (
            {"seeds": (11, 12, 13, 14, 15, 16), "report_seeds": [11, 12, 13, 14, 15, 16]},
            "no report seed in common: unpaired runs are not compared",
        ),
        ({"report_seeds": [99]}, "two has no finished report run"),
    ],
)
def test_what_cannot_be_paired_is_refused(
    changes: dict[str, Any], reason: str, ledger: Ledger
) -> None:
    write(ledger, "one", {"kd": FIRST["kd"]})
    write(ledger, "two", {"kd": SECOND["kd"]}, **changes)
    kd = both(read_ablation_diff(ledger, "one", "two"), "kd")
    assert kd.refusal.startswith(reason)
    assert kd.difference is None
    assert kd.adjusted_p is None


def test_the_very_same_runs_are_no_comparison(ledger: Ledger) -> None:
    write(ledger, "one", FIRST)
    write(ledger, "two", {"kd": FIRST["kd"]}, runs="one")
    found = read_ablation_diff(ledger, "one", "two")
    assert both(found, "kd").refusal == "the very same runs"
    assert found.leftovers == ("alp on rte is in one only",)


def test_refused_pairs_are_not_in_the_family(ledger: Ledger) -> None:
    write(ledger, "one", FIRST)
    write(ledger, "two", {"kd": SECOND["kd"], "alp": (math.nan,) * 6})
    found = read_ablation_diff(ledger, "one", "two")
    assert both(found, "alp").refusal == "two has no finished report run"
    assert both(found, "kd").adjusted_p == pytest.approx(2 / 64)


def repeated(ledger: Ledger, name: str, means: tuple[float, ...], split: str = "s1") -> None:
    """Repeats of the whole with one report seed each, and the manifest that joins them."""
    parts = [f"{name}-r{repeat}" for repeat in range(len(means))]
    for part, mean in zip(parts, means, strict=True):
        write(ledger, part, {"kd": (mean,)}, seeds=(1,), split=split, report_seeds=[1])
    joint = {"name": name, "studies": {"rte": {"kd": ""}}, "repeats": parts}
    seeds = list(range(len(means)))
    ledger.write_ablation(manifest(**MANIFEST | joint | {"report_seeds": seeds}))


def test_repeats_are_paired_with_repeats_only(ledger: Ledger) -> None:
    repeated(ledger, "one", (0.5, 0.6))
    repeated(ledger, "two", (0.6, 0.8))
    repeated(ledger, "three", (0.6, 0.8), split="s2")
    write(ledger, "four", {"kd": FIRST["kd"]})
    kd = both(read_ablation_diff(ledger, "one", "two"), "kd")
    assert kd.difference is not None
    assert kd.difference.differences == pytest.approx([0.1, 0.2])
    assert both(read_ablation_diff(ledger, "one", "three"), "kd").refusal == (
        "evaluated on different examples"
    )
    assert both(read_ablation_diff(ledger, "one", "four"), "kd").refusal.startswith(
        "only one of them repeats whole pipelines"
    )


def test_what_differs_in_the_configuration_is_told(ledger: Ledger) -> None:
    write(ledger, "one", FIRST)
    write(
        ledger,
        "two",
        SECOND,
        config={
            "methods": ["kd", "alp"],
            "protocol": {"name": "paper"},
            "storage": "sqlite:///x",
            "search": {"rungs": [1, 2]},
        },
        teachers={"rte": {"fingerprint": "t2"}},
        provenance={"revision": "def"},
        alpha=0.01,
    )
    found = read_ablation_diff(ledger, "one", "two")
    assert set(found.changes) == {
        Change("protocol.name", "clean", "paper"),
        Change("storage", "not set", "sqlite:///x"),
        Change("search.rungs", "[]", "[1, 2]"),
        Change("protocol.alpha", "0.05", "0.01"),
        Change("teacher fingerprint.rte", "t1", "t2"),
        Change("provenance.revision", "abc", "def"),
    }
    assert found.alpha == 0.01
    kd = both(found, "kd").difference
    assert kd is not None
    assert kd.confidence == pytest.approx(0.99)


def test_other_sources_are_never_compared(ledger: Ledger) -> None:
    write(ledger, "one", FIRST)
    write(ledger, "two", SECOND, source={"kind": "hub", "folder": None})
    with pytest.raises(UserError, match="one is of the source demo, two of hub"):
        read_ablation_diff(ledger, "one", "two")


def test_an_unknown_name_is_refused(ledger: Ledger) -> None:
    write(ledger, "one", FIRST)
    with pytest.raises(StorageError, match="no ablation 'two'"):
        read_ablation_diff(ledger, "one", "two")
