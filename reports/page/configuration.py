"""The tables for repeating an ablation: its methods, configuration and provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from harness.config import json_values
from reports.evidence import Evidence
from reports.kit import display
from reports.kit.display import Columns, Table


def configuration_table(evidence: Evidence) -> Table:
    """The protocol and the configuration of the manifest."""
    return _value_table(
        "Configuration", _protocol(evidence) | json_values(evidence.manifest.config)
    )


def data_table(evidence: Evidence) -> Table:
    """Counts and shares of each task's splits, as the encoder reads them."""
    rows = [
        {
            "task": task,
            "split": name,
            "examples": split.examples,
            "left out": split.left_out,
            "duplicates": np.nan if split.duplicates is None else split.duplicates,
            "cut": 100 * split.truncated_share,
            "unknown": 100 * split.unknown_share,
        }
        for task in evidence.tasks
        for name, split in evidence.manifest.tasks[task].splits.items()
    ]
    columns: Columns = {
        "task": ("task", None),
        "split": ("split", None),
        "examples": ("examples", display.number(0)),
        "left out": ("rows left out", display.number(0)),
        "duplicates": ("examples with the texts of training examples", display.number(0)),
        "cut": ("cut at training.max_length, %", display.number(1)),
        "unknown": ("unknown tokens, %", display.number(1)),
    }
    return display.table("Data", pd.DataFrame(rows, columns=pd.Index(list(columns))), columns)


def provenance_table(evidence: Evidence) -> Table:
    """The machine, the libraries and the code that the command ran with."""
    return _value_table("Provenance", asdict(evidence.manifest.provenance))


def method_cards(evidence: Evidence) -> list[tuple[str, str, str, Table]]:
    """The name with aliases, the summary, the paper and the hyper-parameters of each method."""
    cards = []
    for method in evidence.methods:
        card = evidence.manifest.methods[method]
        aliases = ", ".join(card.aliases)
        title = f"{method} (also {aliases})" if aliases else method
        space = _value_table(f"Hyper-parameters of {method}", card.hyper_parameters)
        cards.append((title, card.summary, card.paper, space))
    return cards


def _protocol(evidence: Evidence) -> dict[str, Any]:
    manifest = evidence.manifest
    return {
        "examples": {task: manifest.tasks[task].sizes for task in evidence.tasks},
        "SHA-256 of the data": {task: manifest.tasks[task].sha256 for task in evidence.tasks},
        **({} if manifest.grid is None else {"axes": manifest.grid.axes}),
        "search seeds": manifest.search_seeds,
        "report seeds": manifest.report_seeds,
        "teacher fingerprint": {
            task: teacher.fingerprint for task, teacher in evidence.teachers.items()
        },
    }


def _value_table(label: str, values: Mapping[str, Any]) -> Table:
    columns = {"name": ("name", None), "value": ("value", None)}
    return display.table(label, flat_table(values), columns)


def flat_table(values: Mapping[str, Any]) -> pd.DataFrame:
    """A nested mapping as rows of a dotted `name` and a `value`, both texts."""
    return pd.DataFrame(list(_flat_rows(values, "")), columns=pd.Index(["name", "value"]))


def _flat_rows(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat_rows(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(str(part) for part in value) or "none"
        else:
            yield f"{prefix}{name}", "not set" if value in (None, {}) else str(value)
