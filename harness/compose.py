"""Compose the YAML of `studies/` and the user's overrides into a `StudyConfig` (Hydra compose API)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.config import StudyConfig, validate
from harness.errors import ConfigError, first_line

GROUPS = ("preset", "protocol", "cluster")


def names(group: str) -> list[str]:
    """The YAML files of one group of `studies/`, without their suffix, sorted."""
    folder = resources.files("studies") / group
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_yaml(group: str, name: str) -> dict[str, Any]:
    """One YAML file of `studies/` as plain values."""
    text = (resources.files("studies") / group / f"{name}.yaml").read_text(encoding="utf-8")
    values = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def ablation_methods(name: str) -> list[str]:
    """The methods of a named ablation."""
    return [str(method) for method in read_yaml("ablation", name)["methods"]]


def compose_config(
    overrides: Sequence[str],
    settings: Mapping[str, object] | None = None,
    flags: Mapping[str, str] | None = None,
) -> StudyConfig:
    """Compose the YAML of `studies/`, then settings, then overrides: the later value wins.

    `settings` are values by dotted key, paths as `Path`; their text is neither parsed nor
    interpolated, so no text but a name may be a `str`. `overrides` are Hydra's, such as
    `preset=demo` or `training.epochs=5`. `flags` names the flags that gave the settings, by key:
    messages about a setting name its flag.

    Raises:
        ConfigError: an override that cannot be parsed, an unknown group choice, or all unknown,
            mistyped and out-of-range values together.
    """
    parsed = [_parse(text) for text in overrides]
    groups = [_choice(override) for override in parsed if override.key_or_group in GROUPS]
    values = [override for override in parsed if override.key_or_group not in GROUPS]
    with resources.as_file(resources.files("studies")) as folder:
        try:
            with initialize_config_dir(str(folder.absolute()), version_base="1.3"):
                config = compose("study", overrides=groups)
            for key, setting in (settings or {}).items():
                _update(config, key, setting)
            for override in values:
                _update(config, override.key_or_group, override.value())
            _shape_of_checkpoint(config, settings or {}, values)
            composed = OmegaConf.to_container(config, resolve=True)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(first_line(error)) from error
    overridden = {override.key_or_group for override in values}
    labels = {key: flag for key, flag in (flags or {}).items() if key not in overridden}
    return validate(_without_paths(composed), labels)


def _update(config: DictConfig, key: str, value: object) -> None:
    """Set a key as Hydra's `++key=value` does, so that validation names every unknown key at once."""
    OmegaConf.update(config, key, value, merge=True, force_add=True)


def _shape_of_checkpoint(
    config: DictConfig, settings: Mapping[str, object], overrides: Sequence[Override]
) -> None:
    """Let a student's checkpoint replace what a preset says of students, but not what the user says.

    Presets describe students that copy layers of the teacher.
    """
    if OmegaConf.select(config, "student.checkpoint") is None:
        return
    given = {*settings}
    for override in overrides:
        key, value = override.key_or_group, override.value()
        given |= {f"{key}.{name}" for name in value} if isinstance(value, dict) else {key}
    for key, default in (("layers", None), ("init", "skip"), ("origin", "finetuned")):
        if f"student.{key}" not in given:
            _update(config, f"student.{key}", default)


def _parse(text: str) -> Override:
    """An override of a value or of a group. Raises `ConfigError` for anything else."""
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError) as error:  # Python's own: an integer of too many digits
        if "://" in text:  # the reason may quote a part of a password
            key = text.partition("=")[0]
            raise ConfigError(f"override '{key}=...': write it as \"{key}='URL'\"") from error
        raise ConfigError(f"override '{text[:80]}': {first_line(error)}") from error
    if override.key_or_group.split(".")[0] == "hydra":
        raise ConfigError(f"unknown key '{override.key_or_group}'")
    plain = override.type == OverrideType.CHANGE and override.package is None
    if override.is_sweep_override() or not plain or text.startswith("="):
        raise ConfigError(f"override '{text}': write it as key=value")
    return override


def _choice(override: Override) -> str:
    """The override of a group, with a choice that exists. Raises `ConfigError`."""
    group, choice = override.key_or_group, override.value()
    if choice not in names(group):
        raise ConfigError(f"{group}={choice}: choose from {', '.join(names(group))}")
    return f"{group}={choice}"


def _without_paths(value: Any) -> Any:
    """Composed values with each path as text."""
    if isinstance(value, dict):
        return {str(key): _without_paths(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_paths(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
