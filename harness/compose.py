"""Compose the YAML of `studies/` and the user's overrides into a `StudyConfig` (Hydra compose API)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.config import StudyConfig, validate
from harness.errors import ConfigError, first_line

GROUPS = ("preset", "protocol")


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


def compose_config(overrides: Sequence[str]) -> StudyConfig:
    """The configuration for Hydra overrides such as `preset=demo` or `training.epochs=5`.

    Raises:
        ConfigError: an override that cannot be parsed, an unknown group choice, or all unknown,
            mistyped and out-of-range values together.
    """
    with resources.as_file(resources.files("studies")) as folder:
        try:
            with initialize_config_dir(str(folder.absolute()), version_base="1.3"):
                composed = compose("study", overrides=[_forced(text) for text in overrides])
            values = OmegaConf.to_container(composed, resolve=True)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(first_line(error)) from error
    assert isinstance(values, dict)
    return validate({str(key): value for key, value in values.items()})


def _forced(text: str) -> str:
    """Let a value override through to validation, which names every unknown key at once."""
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError) as error:  # Python's own: an integer of too many digits
        raise ConfigError(f"override '{text[:80]}': {first_line(error)}") from error
    if override.key_or_group.split(".")[0] == "hydra":
        raise ConfigError(f"unknown key '{override.key_or_group}'")
    if override.key_or_group in GROUPS:
        group, choice = override.key_or_group, text.partition("=")[2].strip("'\"")
        if choice not in names(group):
            raise ConfigError(f"{group}={choice}: choose from {', '.join(names(group))}")
        return text
    if override.is_sweep_override() or text.startswith(("+", "~", "=")):
        raise ConfigError(f"override '{text}': write it as key=value")
    return f"++{text}"
