"""The grid of a command: axes are configuration keys with several values, cells their combinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from pydantic import JsonValue

from harness.axis_names import value_text, values_in_words
from harness.compose import GROUPS, compose_config
from harness.config import StudyConfig, json_values
from harness.errors import ConfigError, first_line

FLAG = "--vary"
REASONS = {
    **dict.fromkeys(GROUPS, "it names a file of settings; vary the keys that the file sets"),
    **dict.fromkeys(("methods", "tasks", "task_files", "baseline"), "it is a list of its own flag"),
    **dict.fromkeys(
        ("source", "transfer", "out", "storage"), "all cells share the data and the ledger"
    ),
    **dict.fromkeys(("keep", "device", "threads"), "it says how a command runs, not what it tests"),
    "protocol": "all cells share one protocol, whose family of comparisons they form",
    "search.trials": "all cells have the same number of trials",
    "search.seeds": "all cells have the same seeds",
    **dict.fromkeys(("teacher.checkpoint", "student.checkpoint"), "it is a path"),
    "teacher.labels": "it describes a checkpoint",
    "teacher.seed": "it is a seed: --repeat-search repeats with other seeds",
    "teacher.allow_weak": "it says how a command runs, not what it tests",
}
"""The reason why a key of the configuration, or all keys below it, cannot be an axis."""


@dataclass(frozen=True)
class Axis:
    """A key of the configuration, and its values in Hydra's grammar, at least two."""

    key: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One combination of the axes' values, by key, and the configuration with these values."""

    values: Mapping[str, JsonValue]
    config: StudyConfig

    @property
    def name(self) -> str:
        """The values in words, such as `layers=6, epochs=3`."""
        return values_in_words(self.values)


def read_axis(text: str) -> Axis:
    """The axis of `KEY=V1,V2,...`, a choice sweep in Hydra's grammar.

    Raises:
        ConfigError: the text cannot be parsed, has fewer than two values, or names a key that cannot be
            an axis.
    """
    try:
        override = OverridesParser.create().parse_override(text)
        key = override.key_or_group
        if override.type != OverrideType.CHANGE or override.package is not None or not key:
            raise ConfigError(f"{FLAG} '{text[:80]}': write it as KEY=V1,V2")
        if not override.is_sweep_override():
            raise ConfigError(f"{FLAG} {text[:80]}: an axis has at least two values; write {text}")
        if not override.is_discrete_sweep() or getattr(override.value(), "shuffle", False):
            raise ConfigError(f"{FLAG} {text[:80]}: list the values in their order")
        texts = tuple(override.sweep_string_iterator())
    except (HydraException, ValueError) as error:
        raise ConfigError(f"{FLAG} '{text[:80]}': {first_line(error)}") from error
    parts = key.split(".")
    for length in range(1, len(parts) + 1):
        reason = REASONS.get(".".join(parts[:length]))
        if reason is not None:
            raise ConfigError(f"{FLAG} {key}: cannot be an axis: {reason}")
    if len(texts) < 2:
        raise ConfigError(f"{FLAG} {text[:80]}: an axis has at least two values")
    return Axis(key, texts)


def compose_cells(
    axes: Sequence[Axis],
    overrides: Sequence[str],
    settings: Mapping[str, object],
    flags: Mapping[str, str],
) -> tuple[Cell, ...]:
    """The cells of axes, the last axis fastest. Each is what a command with these values composes.

    Arguments as in `compose_config`.

    Raises:
        ConfigError: a cell's configuration has faults, an axis has a value of its own, or two values
            of an axis are equal.
    """
    keys = [axis.key for axis in axes]
    own_keys = {text.partition("=")[0] for text in overrides} | set(settings)
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise ConfigError(f"{FLAG} {key}: is given twice")
        if key in own_keys:
            raise ConfigError(f"{FLAG} {key}: has a value of its own too; leave one of them out")
    cells = []
    for texts in product(*(axis.texts for axis in axes)):
        words = [f"{key}={text}" for key, text in zip(keys, texts, strict=True)]
        try:
            config = compose_config([*overrides, *words], settings, flags)
        except ConfigError as error:
            raise ConfigError(f"{FLAG}, at {' '.join(words)}: {error}") from error
        cells.append(Cell({key: _value(config, key) for key in keys}, config))
    _check_values(axes, cells)
    return tuple(cells)


def _value(config: StudyConfig, key: str) -> JsonValue:
    """The validated value of a key. Raises `ConfigError` for a key that holds other keys."""
    value: JsonValue = json_values(config)
    for part in key.split("."):
        assert isinstance(value, dict)
        value = value.get(part)  # keys of a student's own shape are left out where they are None
    if isinstance(value, dict):
        raise ConfigError(f"{FLAG} {key}: holds several keys; vary one of them ({key}.KEY)")
    return value


def _check_values(axes: Sequence[Axis], cells: Sequence[Cell]) -> None:
    for axis in axes:
        values = axis_values(axis.key, cells)
        if len(values) < len(axis.texts):
            raise ConfigError(
                f"{FLAG} {axis.key}={','.join(axis.texts)}: two of the values are equal"
            )
    first = cells[0].config
    if first.protocol.repeats > 1:
        raise ConfigError(
            f"{FLAG} (or several --student-layers) and --repeat-search: leave one of them out; repeats "
            "of one cell are a command with its values"
        )
    teacher_keys = [axis.key for axis in axes if axis.key.startswith("teacher.")]
    if first.teacher.checkpoint is not None and teacher_keys:
        raise ConfigError(
            f"{FLAG} {teacher_keys[0]}: a teacher from outside (--teacher) is not fine-tuned here"
        )


def axis_values(key: str, cells: Sequence[Cell]) -> tuple[JsonValue, ...]:
    """The values of an axis in the order of the cells, each once."""
    by_text = {value_text(cell.values[key]): cell.values[key] for cell in cells}
    return tuple(by_text.values())
