"""The table of poolings: what is refused, and a new row on both engines and in an older runs folder."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from harness.compose import compose_config
from harness.errors import ConfigError, MethodError
from harness.method import Context, Layers, Method, View
from harness.metric_table import METRICS, Values
from harness.models.network import pool
from harness.pooling_table import POOLINGS, PoolingRow
from harness.registry.discovery import _methods_of as methods_of
from harness.runtime.device import Arithmetic
from harness.study import main
from tests.conftest import small_study
from tests.harness.models import test_stacked as engines
from tests.harness.training.test_loop import close, mixed, recipe, trained


def largest(layers: Sequence[Tensor], mask: Tensor) -> Tensor:
    """The largest of the tokens' values, (B, layers, width)."""
    padding = mask[..., None] == 0
    return torch.stack([own.masked_fill(padding, -torch.inf).amax(dim=1) for own in layers], dim=1)


@pytest.fixture
def new_row(monkeypatch: pytest.MonkeyPatch) -> PoolingRow:
    """A third pooling, in the table."""
    row = PoolingRow(name="largest", words="states of largest values", tokens="all", pool=largest)
    monkeypatch.setitem(POOLINGS, "largest", row)
    return row


def test_an_unknown_pooling_is_refused_wherever_it_is_named() -> None:
    asked = ["methods=[alp]", "tasks=[rte]", "pooling=largest"]
    with pytest.raises(
        ConfigError, match=rf"^pooling: unknown pooling 'largest'; known are {', '.join(POOLINGS)}$"
    ):
        compose_config(asked)
    with pytest.raises(ValueError, match="unknown pooling 'largest'"):
        pool([torch.zeros(1, 2, 3)], torch.ones(1, 2), "largest")

    class Plugin(Method):
        name, summary, paper = "plugin", "-", "-"
        pooling: ClassVar[str | None] = "largest"

        def terms(
            self, student: Layers, teacher: Layers, labels: Tensor, context: Context
        ) -> dict[str, Tensor]:
            return {}

    with pytest.raises(
        MethodError,
        match=rf"^Plugin \(.*\): unknown pooling 'largest'; known are {', '.join(POOLINGS)}$",
    ):
        methods_of(Plugin)
    Plugin.pooling = None
    Plugin.needs = frozenset({"token"})  # type: ignore[arg-type]
    with pytest.raises(
        MethodError, match=r"^Plugin \(.*\): unknown need 'token'; known are tokens, words, scores"
    ):
        methods_of(Plugin)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_row_reads_the_tokens_that_it_names(pooling: str) -> None:
    """Values at padding change nothing; with `first`, values at later tokens change nothing either."""
    source = torch.Generator().manual_seed(0)
    layers = torch.randn(2, 3, 5, 4, generator=source)
    mask = torch.arange(5) < torch.tensor([5, 1, 3])[:, None]
    row = POOLINGS[pooling]
    states = row.pool(layers.unbind(), mask.long())
    assert states.shape == (3, 2, 4)
    read = mask if row.tokens == "all" else torch.arange(5) == 0
    changed = torch.where(read[..., None], layers, 50.0)
    assert torch.equal(row.pool(changed.unbind(), mask.long()), states), pooling


@pytest.mark.usefixtures("new_row")
@pytest.mark.parametrize("dropout", [False, True], ids=["no dropout", "dropout"])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_new_row_gives_the_same_states_and_gradients_on_both_engines(
    name: str, dropout: bool
) -> None:
    engines.test_forward_and_gradients_equal_hugging_faces(name, 3, dropout, True, "largest")


@pytest.mark.parametrize("size", [1, 5])
def test_a_new_row_trains_the_same_on_both_engines(
    arithmetic: Arithmetic, new_row: PoolingRow, size: int
) -> None:
    shared = replace(recipe(arithmetic, examples=16, epochs=10), view=View(new_row.name))
    together, _ = trained(mixed(size), shared)
    alone = replace(shared, training=replace(shared.training, engine="reference"))
    for place in range(size):
        (expected,), _ = trained([mixed(size)[place]], alone)
        close(together[place], expected)
    (with_means,), _ = trained(mixed(1), replace(shared, view=View("mean")))
    assert with_means != together[0]


def test_an_older_runs_folder_gets_teacher_outputs_of_a_new_row(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The outputs that were cached before the row existed are left, and nothing is missing."""
    out = tmp_path / "runs"

    def study(pooling: str) -> dict[str, Any]:
        more = ("--trials", "1", "--seeds", "1", f"pooling={pooling}")
        assert main(small_study(out, tiny_encoder, *more)) == 0
        return dict(json.loads(capsys.readouterr().out))

    def cached() -> dict[str, list[str]]:
        folders = (out / "cache" / "teacher-outputs").iterdir()
        return {f.name: sorted(p.stem for p in f.glob("*.npy")) for f in folders if f.is_dir()}

    study("mean")
    before = cached()
    row = PoolingRow(name="largest", words="states of largest values", tokens="all", pool=largest)
    monkeypatch.setitem(POOLINGS, "largest", row)
    page = Path(study("largest")["report"]).read_text()
    assert "states of largest values of" in page
    after = cached()
    assert len(after) == 2 * len(before)
    assert {name: after[name] for name in before} == before
    assert {tuple(files) for files in before.values()} == {
        tuple(sorted({*POOLINGS, "logits"} - {"largest"}))
    }
    new = [files for name, files in after.items() if name not in before]
    assert {tuple(files) for files in new} == {tuple(sorted({*POOLINGS, "logits"}))}


def smallest(layers: Sequence[Tensor], mask: Tensor) -> Tensor:
    return -largest([-states for states in layers], mask)


def half(labels: Values, predictions: Values) -> float:
    return 0.5


def test_an_edited_row_trains_and_scores_again(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    new_row: PoolingRow,
) -> None:
    """Under the same name, another function is another row: no earlier record or output stands."""
    out = tmp_path / "runs"
    flags = ("--trials", "1", "--seeds", "1", f"pooling={new_row.name}")

    def records() -> dict[str, float]:
        assert main(small_study(out, tiny_encoder, *flags)) == 0
        (result,) = (
            r for r in json.loads(capsys.readouterr().out)["results"] if r["method"] == "alp"
        )
        return dict(zip(result["runs"], result["scores"], strict=True))

    first = records()
    assert records() == first
    folders = len(list((out / "cache" / "teacher-outputs").iterdir()))
    monkeypatch.setitem(POOLINGS, new_row.name, replace(new_row, pool=smallest))
    second = records()
    assert not set(second) & set(first)
    assert len(list((out / "cache" / "teacher-outputs").iterdir())) > folders
    monkeypatch.setitem(METRICS, "accuracy", replace(METRICS["accuracy"], statistic=half))
    third = records()
    assert not set(third) & set(second)
    assert set(third.values()) == {0.5}
