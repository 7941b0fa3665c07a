"""Methods for a teacher and a student: for a run, or for a check whether the methods can be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from transformers import PretrainedConfig

from harness.config import StudyConfig
from harness.errors import MethodError
from harness.method import Method, Shapes, Value
from harness.models.families import check_needs
from harness.models.student_shape import student_shape
from harness.registry.construction import make_method
from harness.registry.discovery import registry
from harness.registry.space import any_value
from harness.runtime.failures import RunFailed, convert_failures

ALTERNATIVES = ("alp", "kd")
"""Methods for students that another method refuses: of any depth, any width and any tokens."""


def shapes_of(
    teacher: PretrainedConfig, start: PretrainedConfig, outputs: int, study: StudyConfig
) -> Shapes:
    """Shapes for a study's students, which start from a model of the shape `start`.

    Raises:
        MethodError: the study's sizes of students do not fit that model.
    """
    student = student_shape(start, study.student)
    return Shapes(
        teacher_layers=int(teacher.num_hidden_layers),
        teacher_width=int(teacher.hidden_size),
        student_layers=int(student.num_hidden_layers),
        student_width=int(student.hidden_size),
        outputs=outputs,
        teacher_heads=int(teacher.num_attention_heads),
        student_heads=int(student.num_attention_heads),
        epochs=study.training.epochs,
    )


def check_method(
    kind: type[Method],
    shapes: Shapes,
    encoders: Iterable[PretrainedConfig],
    constants: Mapping[str, Value],
    shares_tokens: bool = True,
) -> None:
    """Make a method once, to refuse an unusable method before any training.

    `shares_tokens` says that student and teacher read the same tokens. The refusal of a method names
    another method, which can be used.

    Raises:
        MethodError: the method cannot be used with these shapes, encoders or tokens.
    """
    arguments = shapes, tuple(encoders), shares_tokens
    try:
        _check(kind, constants, *arguments)
    except RunFailed as error:
        raise MethodError(f"{kind.name}: {error}") from error
    except MethodError as error:
        other = None if "; use " in str(error) else _alternative(*arguments)
        if other in (None, kind.name):
            raise
        raise MethodError(f"{error}; use {other}") from error


def _alternative(*arguments: Any) -> str | None:
    """The first of `ALTERNATIVES` that can be used where another method cannot."""
    for name in ALTERNATIVES:
        with suppress(MethodError, RunFailed):
            _check(registry().resolve(name), {}, *arguments)
            return name
    return None


def _check(
    kind: type[Method],
    constants: Mapping[str, Value],
    shapes: Shapes,
    encoders: Iterable[PretrainedConfig],
    shares_tokens: bool,
) -> None:
    """Check a method. Raises `MethodError` for a refusal, and `RunFailed` for a fault."""
    for encoder in encoders:
        check_needs(encoder, kind.needs)
    if kind.needs and not shares_tokens:
        raise MethodError(
            f"{kind.name} matches single tokens, and the student's tokenizer splits texts into other "
            "tokens than the teacher's"
        )
    setting = {name: any_value(hyper) for name, hyper in kind.space.items()} | dict(constants)
    _make_once(kind, shapes, tuple(setting.items()))


@cache
def _make_once(kind: type[Method], shapes: Shapes, setting: tuple[tuple[str, Value], ...]) -> None:
    """Make a method, once for all tasks of a command: a large one takes a tenth of a second.

    Raises `MethodError` for a refusal, and `RunFailed` for a fault.
    """
    try:
        with convert_failures():
            make_method(kind, shapes, dict(setting), 0)
    except RunFailed as error:
        if isinstance(error.__cause__, MethodError):
            raise error.__cause__ from None
        raise


def usable_methods(
    kinds: Iterable[type[Method]], baseline: str | None, check: Callable[[type[Method]], None]
) -> tuple[list[type[Method]], dict[str, MethodError]]:
    """The methods that `check` does not refuse, and why it refuses the others, by name.

    Raises:
        MethodError: nothing is left to compare, because `check` refuses the baseline or all methods.
    """
    kinds_in_use: list[type[Method]] = []
    errors: dict[str, MethodError] = {}
    for kind in kinds:
        try:
            check(kind)
        except MethodError as error:
            errors[kind.name] = error
        else:
            kinds_in_use.append(kind)
    if errors and (baseline in errors or not {kind.name for kind in kinds_in_use} - {baseline}):
        raise next(iter(errors.values()))
    return kinds_in_use, errors
