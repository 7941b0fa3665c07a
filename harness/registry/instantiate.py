"""Methods for a teacher and a student: for a run, or for a check whether the methods can be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from transformers import PretrainedConfig

from harness.config import StudyConfig
from harness.errors import MethodError
from harness.method import Method, Shapes, Value
from harness.models.families import check_needs
from harness.registry.construction import make_method
from harness.registry.space import any_value
from harness.runtime.failures import RunFailed, convert_failures


def shapes_of(
    teacher: PretrainedConfig, start: PretrainedConfig, outputs: int, study: StudyConfig
) -> Shapes:
    """Shapes for a study's students, which are as wide as the model that they start from."""
    return Shapes(
        teacher_layers=int(teacher.num_hidden_layers),
        teacher_width=int(teacher.hidden_size),
        student_layers=study.student.layers,
        student_width=int(start.hidden_size),
        outputs=outputs,
        teacher_heads=int(teacher.num_attention_heads),
        student_heads=int(start.num_attention_heads),
        epochs=study.training.epochs,
    )


def check_method(
    kind: type[Method],
    shapes: Shapes,
    encoders: Iterable[PretrainedConfig],
    constants: Mapping[str, Value],
) -> None:
    """Make a method once, to refuse an unusable method before any training.

    Raises:
        MethodError: the method cannot be used with these shapes or encoders.
    """
    for encoder in encoders:
        check_needs(encoder, kind.needs)
    setting = {name: any_value(hyper) for name, hyper in kind.space.items()} | dict(constants)
    try:
        with convert_failures():
            make_method(kind, shapes, setting, 0)
    except RunFailed as error:
        if isinstance(error.__cause__, MethodError):
            raise error.__cause__ from None
        raise MethodError(f"{kind.name}: {error}") from error


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
