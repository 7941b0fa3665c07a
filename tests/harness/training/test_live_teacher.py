"""Methods that read more than pooled states: the live teacher, and populations of one view."""

import json
import re
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from harness.config import StudentConfig, TrainingConfig
from harness.errors import TeacherError
from harness.method import Context, Hyper, Layers, Method, Shapes, Value, View, weight
from harness.models.reference import layers_of
from harness.models.student import Blueprint
from harness.models.teacher_outputs import TeacherOutputs, teacher_outputs
from harness.registry.discovery import registry
from harness.registry.space import any_value
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import generator
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main
from harness.training.live_teacher import LiveTeacher
from harness.training.loop import train_population
from harness.training.method_groups import MethodGroup
from harness.training.recipe import Member, Recipe
from tests.conftest import small_study, tiny_bert, tiny_inputs, tiny_marks

LAYERS, EXAMPLES, STEPS = 4, 16, 8
TEACHER = tiny_bert(LAYERS).eval()
for layer in TEACHER.bert.encoder.layer:  # else attention is uniform everywhere
    for part in ("query", "key", "value"):
        layer.attention.self.get_submodule(part).weight.data *= 10
BLUEPRINT = Blueprint(TEACHER, StudentConfig(layers=2))
SHAPES = Shapes(LAYERS, 16, 2, 16, 2, teacher_heads=2, student_heads=2, epochs=STEPS)
SETTING: dict[str, Value] = {
    "learning_rate": 1e-3,
    "temperature": 2.0,
    "kd_weight": 0.5,
    "layer_weight": 1.0,
}
METHODS = registry().methods
TOKEN_METHODS = [name for name, method in METHODS.items() if method.needs]
NAMES = [
    name
    for name, method in METHODS.items()
    if method.needs
    or method.pooling
    or name == "emd"  # whose plans are computed outside of torch
    or method.__module__
    in ("methods.examples", "methods.logits")  # which compare examples or logits
]


def recipe(arithmetic: Arithmetic, name: str, **training: object) -> Recipe:
    """One batch an epoch: so each epoch's means are one step's."""
    rng = np.random.default_rng(0)
    view = registry().resolve(name).view("cls")
    return Recipe(
        model=BLUEPRINT.config,
        inputs=tiny_inputs(EXAMPLES),
        labels=torch.from_numpy(rng.integers(0, 2, EXAMPLES)),
        teacher=TeacherOutputs(
            torch.from_numpy(rng.normal(size=(EXAMPLES, 2)).astype(np.float32)),
            torch.from_numpy(rng.normal(size=(EXAMPLES, LAYERS, 16)).astype(np.float16)),
        ),
        regression=False,
        view=view,
        training=TrainingConfig(epochs=STEPS, batch_size=EXAMPLES, **training),
        weights="convex",
        arithmetic=arithmetic,
        live_teacher=TEACHER if view.needs else None,
        word_marks=tiny_marks(),
    )


def member(name: str, seed: int, **setting: Value) -> Member:
    kind = registry().resolve(name)
    own = {h: any_value(d) for h, d in kind.space.items()} | SETTING | setting
    method = kind(SHAPES, own, generator("method", seed))
    return Member(BLUEPRINT.weights(seed), method, own, seed)


def curves(members: list[Member], shared: Recipe) -> list[list[dict[str, float]]]:
    _, outcomes = train_population(members, shared, lambda steps: None)
    assert [outcome.failure for outcome in outcomes] == [None] * len(members)
    return [outcome.curves for outcome in outcomes]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_a_runs_losses_are_the_same_alone_and_in_any_population(
    arithmetic: Arithmetic, name: str, engine: str
) -> None:
    def members() -> list[Member]:
        return [
            member(name, 1),
            member("kd", 2),
            member(name, 3, layer_weight=0.3, temperature=4.0),
            member(name, 1, layer_weight=3.0),
        ]

    together = curves(members(), recipe(arithmetic, name))
    for place, found in enumerate(together):
        (expected,) = curves([members()[place]], recipe(arithmetic, name, engine=engine))
        assert len(expected) == STEPS
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    own_term = "layer" if METHODS[name].matches_layers() else "logits"
    values = [step[own_term] for step in together[0]]
    assert values != [step[own_term] for step in together[2]]
    assert all(value > 1e-3 for value in values)


@pytest.mark.parametrize("name", TOKEN_METHODS)
def test_the_live_teacher_is_a_forward_pass_of_each_members_rows(
    arithmetic: Arithmetic, name: str
) -> None:
    shared = recipe(arithmetic, name)
    rows = torch.tensor([[3, 1, 7], [0, 2, 9], [3, 1, 7]])
    seeds = [5, 4, 5]
    batch = shared.tokens.batch(rows, 24)
    found = LiveTeacher(shared, seeds).layers(batch)
    for place in range(3):
        own = {part: values[place] for part, values in batch.items()}
        expected = layers_of(TEACHER, own, None, shared.view.needs)
        for part in ("tokens", "scores", "queries", "keys", "values"):
            assert len(getattr(found, part)) == len(getattr(expected, part))
            for one, other in zip(getattr(found, part), getattr(expected, part), strict=True):
                assert not one.requires_grad
                torch.testing.assert_close(one[place], other, atol=1e-6, rtol=1e-5)


def test_equal_rows_are_computed_once(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = recipe(arithmetic, "minilm")
    sizes = []
    forward = TEACHER.forward

    def counted(*given: object, **named: torch.Tensor) -> object:
        sizes.append(len(named["input_ids"]))
        return forward(*given, **named)

    monkeypatch.setattr(TEACHER, "forward", counted)
    rows = torch.tensor([[3, 1], [0, 2], [3, 1], [3, 1]])
    batch = shared.tokens.batch(rows, 24)
    LiveTeacher(shared, [5, 4, 5, 5]).layers(batch)
    LiveTeacher(shared, [5, 4, 6, 7]).layers(batch)
    assert sizes == [4, 8]


@pytest.mark.parametrize("engine", ["stacked", "reference"])
@pytest.mark.parametrize("name", ["kd", *NAMES])
def test_no_gradient_reaches_the_teacher(
    tmp_path: Path, arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch, name: str, engine: str
) -> None:
    """Methods detach nothing: what the core hands them of a teacher has no graph."""
    handed: list[tuple[Layers, Layers]] = []
    total = MethodGroup.total

    def seen(group: MethodGroup, student: Layers, teacher: Layers, *rest: torch.Tensor) -> Any:
        handed.append((student, teacher))
        return total(group, student, teacher, *rest)

    monkeypatch.setattr(MethodGroup, "total", seen)
    before = {key: value.clone() for key, value in TEACHER.state_dict().items()}
    assert all(parameter.requires_grad for parameter in TEACHER.parameters())
    shared = recipe(arithmetic, name, engine=engine)
    cache = teacher_outputs(tmp_path / "cache", TEACHER, shared.inputs, arithmetic, lambda n: None)
    curves([member(name, 1)], replace(shared, teacher=cache[shared.view.pooling]))
    assert len(handed) == STEPS
    for student, teacher in handed:
        assert all(part.requires_grad for part in (student.logits, *student.tokens))
        assert not [part for part in tree_leaves(teacher) if part.requires_grad]
        assert bool(teacher.tokens or teacher.keys) == bool(shared.view.needs)
    assert all(parameter.grad is None for parameter in TEACHER.parameters())
    assert all(torch.equal(value, before[key]) for key, value in TEACHER.state_dict().items())


def test_a_live_teacher_in_train_mode_is_refused(arithmetic: Arithmetic) -> None:
    shared = replace(recipe(arithmetic, "minilm"), live_teacher=tiny_bert(LAYERS).train())
    with pytest.raises(TeacherError, match="eval mode"):
        LiveTeacher(shared, [1])


class Bare(Method):
    """Matches a layer and leaves the logits alone. Hyper-parameters: layer_weight."""

    name, summary, paper = "bare", "no distillation of logits", "-"
    space: ClassVar[Mapping[str, Hyper]] = {"layer_weight": weight(0.1, 10.0, "-")}

    def terms(
        self, student: Layers, teacher: Layers, labels: torch.Tensor, context: Context
    ) -> dict[str, torch.Tensor]:
        return {"layer": (student.states[:, -1] - teacher.states[:, -1]).square().mean()}


def test_a_method_without_distillation_still_matches_layers(arithmetic: Arithmetic) -> None:
    setting: dict[str, Value] = {"learning_rate": 1e-3, "layer_weight": 2.0}
    own = Member(BLUEPRINT.weights(1), Bare(SHAPES, {}, generator("bare")), setting, 1)
    (found,) = curves([own], recipe(arithmetic, "kd"))
    assert set(found[0]) == {"label", "layer", "total"}
    for step in found:
        assert step["total"] == pytest.approx(step["label"] + 2.0 * step["layer"], rel=1e-5)


@pytest.mark.parametrize("name", TOKEN_METHODS)
def test_a_live_teacher_in_bf16_and_for_a_regression(arithmetic: Arithmetic, name: str) -> None:
    exact = recipe(arithmetic, name)
    (expected,) = curves([member(name, 1)], exact)
    rounded = replace(exact, arithmetic=Arithmetic(torch.device("cpu"), bf16=True))
    (found,) = curves([member(name, 1)], rounded)
    assert found[0]["layer"] == pytest.approx(expected[0]["layer"], rel=0.05)
    scored = replace(exact, labels=exact.labels.float(), regression=True)
    (found,) = curves([member(name, 1)], scored)
    assert found[0]["layer"] == pytest.approx(expected[0]["layer"], rel=1e-5)
    assert found[0]["kd"] != pytest.approx(expected[0]["kd"])


def test_a_methods_view_is_its_own_pooling_or_the_studys() -> None:
    resolve = registry().resolve
    assert resolve("kd").view("cls") == View("cls")
    assert resolve("alp").view("mean") == View("mean")
    assert resolve("rail").view("cls") == View("mean")
    assert resolve("tinybert").view("cls") == View("cls", frozenset({"tokens", "scores"}))


@pytest.mark.parametrize("name", METHODS)
def test_no_batched_method_falls_back_to_a_loop(arithmetic: Arithmetic, name: str) -> None:
    torch._C._functorch._set_vmap_fallback_warning_enabled(True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=re.escape("There is a performance drop"))
        own = [member(name, seed) for seed in (1, 2)]
        assert own[0].method is not None
        if not own[0].method.supports_vmap:
            pytest.skip("its terms are computed member by member")
        curves(own, recipe(arithmetic, name))


def test_a_command_trains_populations_of_one_view(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("tinybert", "rail", "emd", "minilm")
    asked = small_study(tmp_path, tiny_encoder, "--method", ",".join(names), "--trials", "1")
    assert main(asked) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [result["method"] for result in summary["results"]] == [*names, "kd"]
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        studies = ledger.manifest(summary["ablation"]).studies["rte"]
        runs = {name: ledger.study_runs(study) for name, study in studies.items()}
    by_run = {run.record.fingerprint: name for name, own in runs.items() for run in own}
    assert len(by_run) == 5 * 3
    for name, own in runs.items():
        for run in own:
            company = {by_run[other] for other in run.record.provenance.population}
            assert company == ({"kd", "emd"} if name in ("kd", "emd") else {name})


def test_dry_run_says_what_a_live_teacher_costs(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = {}
    for name in ("alp", "tinybert"):
        asked = small_study(tmp_path / "runs", tiny_encoder, "--method", name, "--dry-run")
        assert main(asked) == 0
        found = capsys.readouterr()
        (plans[name],) = json.loads(found.out)["plan"]
        assert ("tinybert: the teacher runs in every step, at most" in found.err) == (name != "alp")
    assert (plans["alp"]["live_methods"], plans["alp"]["live_seconds"]) == ([], 0)
    assert plans["tinybert"]["live_methods"] == ["tinybert"]
    assert 0 < plans["tinybert"]["live_seconds"] < plans["tinybert"]["seconds"]


def test_methods_that_cannot_be_used_are_left_out_of_a_set(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--trials", "1", "--seeds", "1", "student.layers=1")
    asked = small_study(tmp_path, tiny_encoder, "--method", "layer-maps", *small)
    assert main(asked) == 0
    found = capsys.readouterr()
    summary = json.loads(found.out)
    assert [result["method"] for result in summary["results"]] == ["kd", "all-to-last"]
    left_out = [f"{name} on rte" for name in ("pkd-skip", "pkd-last", "reverse", "random-map")]
    assert list(summary["refused"]) == left_out
    assert "reverse on rte is left out: reverse does not match the last student layer" in found.err
    assert "Refused: reverse on rte" in Path(summary["report"]).read_text()
    asked = small_study(
        tmp_path / "plan", tiny_encoder, "--method", "layer-maps", "--dry-run", *small
    )
    assert main(asked) == 0
    (plan,) = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["search_runs"], plan["report_runs"]) == (2, 2)
    assert list(plan["left_out"]) == ["pkd-skip", "pkd-last", "reverse", "random-map"]
    alone = small_study(tmp_path, tiny_encoder, "--method", "reverse,rail", *small)
    assert main(alone) == 2
    assert "error: reverse does not match the last student layer" in capsys.readouterr().err


def test_a_run_whose_inspection_fails_is_kept(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*given: object) -> dict[str, torch.Tensor]:
        raise IndexError("nothing there")

    monkeypatch.setattr(registry().resolve("alp"), "inspect", broken)
    assert main(small_study(tmp_path, tiny_encoder, "--trials", "1", "--seeds", "1")) == 0
    found = capsys.readouterr()
    assert "warning: alp, seed 1: inspect failed: IndexError: nothing there" in found.err
    assert [len(result["scores"]) for result in json.loads(found.out)["results"]] == [1, 1]
