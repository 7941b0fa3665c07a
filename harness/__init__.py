"""Distillation of encoders, compared: the command, and the same from Python.

    import harness

    ablation = harness.run(methods=["alp"], tasks=["rte"], trials=20)
    ablation.verdicts()
    for earlier in harness.open("runs").ablations():
        print(earlier.name, earlier.scores())

Names are imported when they are first used, so reading results never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api.ablation import Ablation
    from harness.api.running import run
    from harness.api.runs import Runs, open
    from harness.api.students import load_student

__version__ = "0.1.0"
__all__ = ["Ablation", "Runs", "load_student", "open", "run"]

_PLACES = {
    "Ablation": "harness.api.ablation",
    "Runs": "harness.api.runs",
    "load_student": "harness.api.students",
    "open": "harness.api.runs",
    "run": "harness.api.running",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
