"""A method author's mistakes, each with its line, its rule, and what to write instead."""

import inspect
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution

import methods
from harness.errors import MethodError
from harness.method import DISTILLATION, Hyper, Layers, Method, weight
from harness.method.matching import MixedLayers
from harness.registry import discovery
from harness.registry.check_table import check_table
from harness.registry.checks import AT_START, check_at_start
from harness.registry.class_rules import CLASS_RULES, check_class
from harness.registry.contract_rules import CONTRACT
from harness.registry.discovery import registry
from harness.study import main

HERE = Path(__file__).name


class Sound(Method):
    """LAYER = MSE of the last states. Hyper-parameters: temperature, kd_weight, layer_weight."""

    name, summary, paper = "sound", "the last states", "-"
    space = {**DISTILLATION, "layer_weight": weight(0.1, 10.0, "any")}  # noqa: RUF012

    def __init__(self, shapes: Any, structure: Any, generator: torch.Generator) -> None:
        super().__init__(shapes, structure, generator)
        self.map = torch.nn.Linear(shapes.student_width, shapes.teacher_width, bias=False)

    def distances(self, student: Layers, teacher: Layers) -> torch.Tensor:
        return (self.map(student.states[:, -1]) - teacher.states[:, -1]).square().mean(-1)

    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        return {"layer": self.distances(student, teacher).mean()}


class Branches(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        value = self.distances(student, teacher).mean()
        return {"layer": value if value > 1 else value / 2}  # the mistake


class TakesItem(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        distances = self.distances(student, teacher)
        return {"layer": distances.mean() / distances.max().item()}  # the mistake


class LeavesTorch(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        distances = self.distances(student, teacher)
        scale = float(np.linalg.norm(distances.detach().numpy()))  # the mistake
        return {"layer": distances.mean() / scale}


class LeavesTorchWithGradient(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        states = student.states.numpy()  # the mistake
        return {"layer": torch.as_tensor(states).mean()}


class WritesStudent(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        student.states[:, 0] = 0  # the mistake
        return {"layer": self.distances(student, teacher).mean()}


class WritesTeacher(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        teacher.states.mul_(0.5)
        return {"layer": self.distances(student, teacher).mean()}


class FillsInPlace(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        total = torch.zeros(len(student.states))
        total += self.distances(student, teacher)  # the mistake
        return {"layer": total.mean()}


class IndexesByMask(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        distances = self.distances(student, teacher)
        return {"layer": distances[distances > 0].mean()}  # the mistake


class HasNoBatchingRule(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        distances = self.distances(student, teacher)
        return {"layer": distances.mean() + torch.histc(distances.detach()).sum()}  # the mistake


class ForgetsNeeds(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": student.tokens[-1][:, 0].mean() - teacher.tokens[-1][:, 0].mean()}


class ForgetsSecondNeed(Sound):
    needs = frozenset({"tokens"})

    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        values = [part[:, :, 0].mean() for part in student.values]
        return {"layer": student.tokens[-1][:, 0].mean() + torch.stack(values).mean()}


class SumsOverNoNeeds(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        pairs = zip(student.scores, teacher.scores, strict=False)
        return {"layer": sum((s.mean() - t.mean()).square() for s, t in pairs)}


class HasTermWithoutWeight(Sound):
    space = {**DISTILLATION}  # noqa: RUF012  # the mistake


class HasWeightWithoutTerm(Sound):
    space = {  # noqa: RUF012  # the mistake
        **Sound.space,
        "angle_weight": weight(0.1, 10.0, "any"),
    }


class ReadsUnknownScalar(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        margin = context.scalars["margin"]  # the mistake
        return {"layer": (self.distances(student, teacher) - margin).mean()}


class ReadsUnknownStructure(Sound):
    def __init__(self, shapes: Any, structure: Any, generator: torch.Generator) -> None:
        super().__init__(shapes, structure, generator)
        self.heads = structure["heads"]  # the mistake


class ReadsStructureInTerms(Sound):
    space = {  # noqa: RUF012
        **Sound.space,
        "form": Hyper(CategoricalDistribution(["a", "b"]), "structural", "any", default="a"),
    }

    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        return {"layer": context.scalars["form"]}  # the mistake


class MatchesAllLayers(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        return {"layer": (student.states - teacher.states).square().mean()}  # the mistake


class NamesLayersOfTwelve(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        target = teacher.states[:, 11]  # the mistake
        return {"layer": (self.map(student.states[:, -1]) - target).square().mean()}


class MixesOtherSizes(MixedLayers):  # the mistake
    name, summary, paper = "mixes", "-", "-"

    def mixture(self, queries: Any, states: Any) -> Any:
        return torch.ones(3, 3)


class MixesByNothing(MixedLayers):  # the mistake
    name, summary, paper = "mixes", "-", "-"

    def mixture(self, queries: Any, states: Any) -> Any:
        return torch.full((queries.shape[1], states.shape[1]), float("nan"))


class MatchesWidths(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        pairs = student.states[:, -1] - teacher.states[:, -1]  # the mistake
        return {"layer": pairs.square().mean()}


class HasNoGradient(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": (student.states.detach()[:, -1].mean() - teacher.states.mean()).square()}


class TrainsItsMapOnly(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": self.map(student.states.detach()).square().mean()}


class DependsOnOrder(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": self.distances(student, teacher)[0]}


class ComparesNeighbours(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": self.distances(student, teacher).diff().square().mean()}


class MixesMembers(Sound):
    def __init__(self, shapes: Any, structure: Any, generator: torch.Generator) -> None:
        super().__init__(shapes, structure, generator)
        self.scale = torch.rand((), generator=generator)

    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": self.scale * self.distances(student, teacher).mean()}


class KeepsCount(Sound):
    calls = 0

    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        self.calls += 1
        return {"layer": self.calls * self.distances(student, teacher).mean()}


class ReturnsVector(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": self.distances(student, teacher)}


class ReturnsNumber(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": 0.0}


class ReturnsTensor(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return self.distances(student, teacher).mean()


class IsNotFinite(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": self.distances(student, teacher).mean().neg().log()}


class TakesTheCoresName(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"kd": self.distances(student, teacher).mean()}


class DrawsInTerms(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": self.distances(student, teacher).mean() * torch.rand(())}


class DrawsByNumpy(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        draw = np.random.default_rng().uniform()
        return {"layer": self.distances(student, teacher).mean() * draw}


class DrawsOutsideOfTheGenerator(Sound):
    def __init__(self, shapes: Any, *rest: Any) -> None:  # the mistake
        super().__init__(shapes, *rest)
        self.register_buffer("layer", torch.tensor(random.random()))


class ReadsPadding(Sound):
    needs = frozenset({"tokens"})

    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        return {"layer": student.tokens[-1].mean() + self.distances(student, teacher).mean()}


class WritesMask(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:  # the mistake
        context.mask[:] = True
        return {"layer": self.distances(student, teacher).mean()}


class FailsOtherwise(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        return {"layer": student.state.mean()}  # the mistake


class ForgetsTheBaseClass(Sound):
    def __init__(self, *given: Any) -> None:  # the mistake
        self.given = given


class SetsAMapBeforeTheBaseClass(Sound):
    def __init__(self, *given: Any) -> None:
        self.map = torch.nn.Linear(2, 2)  # the mistake
        super().__init__(*given)


MISTAKES = [
    (Branches, "`terms` branches on the value of a tensor; torch.where(", True),
    (TakesItem, "`terms` makes a Python number of a tensor (.item(), float(), int()); keep", True),
    (LeavesTorch, "`terms` leaves torch (.numpy(), np.…, .tolist()); compute with torch, or", True),
    (
        LeavesTorchWithGradient,
        "`terms` leaves torch (.numpy(), np.…); compute with torch, so",
        False,
    ),
    (WritesStudent, "`terms` writes to a tensor in place; make a new tensor (x = x + y", False),
    (WritesTeacher, "`terms` or `inspect` writes to its inputs in place; make new tensors", False),
    (WritesMask, "`terms` or `inspect` writes to its inputs in place; make new tensors", False),
    (FillsInPlace, "`terms` writes to a tensor in place; make a new tensor (x = x + y", False),
    (IndexesByMask, "`terms` makes a tensor whose size depends on values (a boolean mask", True),
    (HasNoBatchingRule, "`terms` uses an operation without a batching rule; compute the", True),
    (ForgetsNeeds, 'that `needs` does not name; write needs = frozenset({"tokens"})', False),
    (ForgetsSecondNeed, 'frozenset({"qkv", "tokens"}) (or "last-qkv" for the last layer', False),
    (SumsOverNoNeeds, 'that `needs` does not name; write needs = frozenset({"scores"})', False),
    (
        HasTermWithoutWeight,
        "the term 'layer' has no weight; write \"layer_weight\": weight(",
        False,
    ),
    (
        HasWeightWithoutTerm,
        "`space` has angle_weight, but `terms` returns no 'angle'; return",
        False,
    ),
    (ReadsUnknownScalar, "reads 'margin', which `space` does not declare; declare a scalar", False),
    (
        ReadsUnknownStructure,
        "reads 'heads', which `space` does not declare; declare a struc",
        False,
    ),
    (ReadsStructureInTerms, "'form'; a structural Hyper arrives in structure", False),
    (
        MatchesAllLayers,
        "3 student layers of width 8 and 6 teacher layers of width 8: choose",
        False,
    ),
    (NamesLayersOfTwelve, "index 11 is out of bounds for dimension 1 with size 6); made-up", False),
    (MixesOtherSizes, "sizes do not fit (", False),
    (MixesByNothing, "the term 'layer' is nan on ordinary numbers; guard log, sqrt and", False),
    (MatchesWidths, "width 6 and 8 teacher layers of width 12: map widths with learned_map", False),
    (HasNoGradient, "the term 'layer' has no gradient to the student, so it trains nothing", False),
    (TrainsItsMapOnly, "the term 'layer' has no gradient to the student, so it trains no", False),
    (DependsOnOrder, "the term 'layer' depends on the order of the examples, which is ran", False),
    (ComparesNeighbours, "the term 'layer' depends on the order of the examples, which is", False),
    (MixesMembers, "the term 'layer' of a run depends on the other runs that train beside", False),
    (KeepsCount, "`terms` draws random numbers, or keeps something from call to call; draw", False),
    (ReturnsVector, "the term 'layer' is of shape (7,); return a scalar: take the mean", False),
    (ReturnsNumber, "the term 'layer' is no tensor; return a scalar: take the mean", False),
    (ReturnsTensor, "`terms` returns no dict; return {name: scalar tensor}", False),
    (IsNotFinite, "the term 'layer' is nan on ordinary numbers; guard log, sqrt and", False),
    (TakesTheCoresName, "the core itself adds the term 'kd'; use another name", False),
    (DrawsInTerms, "`terms` draws random numbers, or keeps something from call to call; dr", False),
    (DrawsByNumpy, "`terms` draws random numbers, or keeps something from call to call; dr", False),
    (DrawsOutsideOfTheGenerator, "one seed gives two methods: __init__ draws outside of it", False),
    (ForgetsTheBaseClass, "`__init__` does not call its base class first; begin it with", False),
    (SetsAMapBeforeTheBaseClass, "`__init__` does not call its base class first; begin", False),
    (ReadsPadding, "the term 'layer' reads values at padded tokens, which have no meaning;", False),
    (
        FailsOtherwise,
        "`terms` fails with AttributeError: 'Layers' object has no attribute 's",
        False,
    ),
]


def line_of_the_mistake(kind: type[Method]) -> int:
    lines, start = inspect.getsourcelines(kind)
    (offset,) = [number for number, line in enumerate(lines) if "# the mistake" in line]
    return start + offset


@pytest.mark.parametrize(
    ("kind", "words", "by_itself"), MISTAKES, ids=lambda v: getattr(v, "name", "")
)
def test_a_mistake_is_told_in_one_line(kind: type[Method], words: str, by_itself: bool) -> None:
    with pytest.raises(MethodError) as caught:
        check_at_start(kind)
    line = str(caught.value)
    assert words in line
    assert f"{kind.__name__} (" in line
    assert f"{HERE}, line {line_of_the_mistake(kind)}): " in line
    assert "\n" not in line
    assert by_itself == line.endswith(", or set supports_vmap = False")


@pytest.mark.parametrize("kind", [kind for kind, _, by_itself in MISTAKES if by_itself])
def test_what_vmap_cannot_do_is_no_mistake_of_a_method_that_says_so(kind: type[Method]) -> None:
    check_at_start(type("Alone", (kind,), {"supports_vmap": False}))


def test_a_sound_method_keeps_every_rule() -> None:
    check_class(Sound)
    check_at_start(Sound)
    table = check_table(Sound)
    assert [row.fault for row in table] == [None] * len(table)
    assert len(table) == len(CLASS_RULES) + len(AT_START) + len(CONTRACT)


def test_a_refusal_of_shapes_is_no_mistake() -> None:
    class NarrowOnly(Sound):
        name = "narrow"

        def __init__(self, shapes: Any, structure: Any, generator: torch.Generator) -> None:
            super().__init__(shapes, structure, generator)
            if shapes.student_layers != 12:
                raise MethodError("narrow needs 12 layers") from KeyError("12")

    check_at_start(NarrowOnly)
    assert check_table(NarrowOnly)[-1].fault == "the constructor refuses all made-up shapes"


CARD = "Hyper-parameters: temperature, kd_weight, layer_weight, margin, form."


class HasUnusedParameter(Sound):
    def __init__(self, shapes: Any, *rest: Any) -> None:
        super().__init__(shapes, *rest)
        self.bias = torch.nn.Parameter(torch.zeros(()))


class HasUnusedScalar(Sound):
    space = {**Sound.space, "margin": Hyper(FloatDistribution(0.1, 1.0), "scalar", "any")}  # noqa: RUF012


class HasUnusedChoice(Sound):
    space = {  # noqa: RUF012
        **Sound.space,
        "form": Hyper(CategoricalDistribution(["a", "b"]), "structural", "any", default="a"),
    }


class TakesSums(Sound):
    def terms(self, student: Any, teacher: Any, labels: Any, context: Any) -> Any:
        return {"layer": self.distances(student, teacher).sum()}


class InspectsOtherwise(Sound):
    def inspect(self, student: Layers, teacher: Layers) -> dict[str, torch.Tensor]:
        return {"attention": teacher.states}


class InspectsWithoutWeights(Sound):
    def inspect(self, student: Layers, teacher: Layers) -> dict[str, torch.Tensor]:
        return {"target": teacher.states, "attention": teacher.states.square()}


@pytest.mark.parametrize(
    ("kind", "card", "words"),
    [
        (Sound, "", "has no docstring, which is the method's card"),
        (
            Sound,
            "temperature, kd_weight",
            "docstring does not name the hyper-parameter layer_weight",
        ),
        (HasUnusedParameter, CARD, "no term has a gradient to the parameter 'bias'; use it"),
        (HasUnusedScalar, CARD, "the scalar margin changes no gradient; read it in `terms`"),
        (HasUnusedChoice, CARD, "the choices 'a' and 'b' of form have the same gradient; read"),
        (TakesSums, CARD, "terms change when every example is there twice; take means over"),
        (InspectsOtherwise, CARD, "`inspect` returns ['attention']; return `target`, and"),
        (InspectsWithoutWeights, CARD, "`inspect` returns an `attention` whose rows do not sum"),
    ],
)
def test_a_broken_contract_is_a_row_of_the_table_and_stops_no_study(
    kind: type[Method], card: str, words: str
) -> None:
    broken = type("Broken", (kind,), {"name": "broken", "__doc__": card})
    check_at_start(broken)
    (fault,) = [row.fault for row in check_table(broken) if row.fault is not None]
    assert words in fault


NAMELESS = """from methods.alp import Alp


class Nameless(Alp):
    pass
"""
MISSPELT = """from harness.method import Method


class Misspelt(Method):
    name, summary, paper = "misspelt", "-", "-"

    def term(self, student, teacher, labels, context):
        return {}
"""
NO_METHOD = """class Misspelt:
    name, summary, paper = "misspelt", "-", "-"

    def terms(self, student, teacher, labels, context):
        return {}
"""
BRANCHING = '''from harness.method import Method, weight


class Branching(Method):
    """LAYER. Hyper-parameters: layer_weight."""

    name, summary, paper = "branching", "-", "-"
    space = {"layer_weight": weight(0.1, 1.0, "-")}

    def terms(self, student, teacher, labels, context):
        value = student.states.square().mean()
        return {"layer": value if value > 1 else 2 * value}
'''


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a file of `methods/`."""
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])

    def write(text: str) -> Path:
        file = tmp_path / "local_of_a_test.py"
        file.write_text(text)
        discovery.registry.cache_clear()
        return file

    yield write
    discovery.registry.cache_clear()
    sys.modules.pop("methods.local_of_a_test", None)


Local = Callable[[str], Path]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (NAMELESS, 4, 'has no name of its own; write name = "..." into the class'),
        (MISSPELT, 4, "has a name, but does not define terms; define it, or leave `name` out"),
    ],
)
def test_a_class_that_is_not_found_is_no_silence(
    local: Local, capsys: pytest.CaptureFixture[str], text: str, line: int, words: str
) -> None:
    file = local(text)
    assert main(["--method", "misspelt", "--task", "rte", "--preset", "demo"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: --method misspelt: no such method")
    assert f"({file}, line {line}): {words}" in error
    assert "alp" in registry().methods


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("weight(2.0, 1.0, 'any')", "ValueError: `low <= high` must hold"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_line(
    local: Local, line: str, words: str
) -> None:
    local(f"from harness.method import weight\n\n{line}\n")
    (reason,) = registry().import_errors.values()
    assert reason.startswith(words)
    assert reason.endswith("(local_of_a_test.py, line 3)")


def test_a_class_that_forgets_to_be_a_method_is_no_silence(
    local: Local, capsys: pytest.CaptureFixture[str]
) -> None:
    local(NO_METHOD)
    assert main(["--method", "misspelt", "--task", "rte", "--preset", "demo"]) == 2
    assert (
        "Misspelt has a name and terms, and is no Method; write class Misspelt(Method)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--workers", "2"]])
def test_a_study_tells_a_mistake_before_it_prepares_anything(
    local: Local, capsys: pytest.CaptureFixture[str], tmp_path: Path, more: list[str]
) -> None:
    file = local(BRANCHING)
    out = tmp_path / "runs"
    words = f"--method alp,branching --task rte --preset demo --out {out}".split()
    assert main([*words, *more]) == 2
    assert capsys.readouterr().err == (
        f"error: Branching ({file}, line 12): `terms` branches on the value of a tensor; "
        "torch.where(condition, one, other) chooses by value, or set supports_vmap = False\n"
    )
    assert not out.exists()


def test_the_command_prints_a_table_and_each_fault(
    local: Local, capsys: pytest.CaptureFixture[str]
) -> None:
    local(BRANCHING)
    assert main(["--check-method", "kd"]) == 0
    kept = capsys.readouterr().out
    assert kept.splitlines()[0].strip() == "kd"
    assert (kept.count("│ yes"), kept.count("│ no")) == (
        len(CLASS_RULES) + len(AT_START) + len(CONTRACT),
        0,
    )
    assert main(["--check-method", "kd,branching", "--json"]) == 2
    tables = json.loads(capsys.readouterr().out)
    broken = {row["rule"] for row in tables["branching"] if row["fault"]}
    assert broken == {"`vmap` over a population gives each member what it has alone."}
    assert not any(row["fault"] for row in tables["kd"])
    assert main(["--check-method", "branching"]) == 2
    assert "branches on the value of a tensor" in capsys.readouterr().out.splitlines()[-1]
    assert main(["--check-method", "branchin"]) == 2
    assert "did you mean branching" in capsys.readouterr().err
