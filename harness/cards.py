"""What a method says of itself, as plain values and as docs/methods.md: `python -m harness.cards`."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.compose import ablation_methods, names, read_yaml
from harness.method import Hyper, Method
from harness.registry import registry

SHARED = ("temperature", "kd_weight")
"""Hyper-parameters of the logit distillation, which is not the method's own."""
HEAD = """# Methods

Written by `python -m harness.cards > docs/methods.md` from the cards in `methods/`. The formula of a
method is *verified* (read in the authors' or another public implementation), *second-hand* (from a
summary), or *ours* (our reading, or a control of our own). A bracketed hyper-parameter is an option:
fixed at its first value unless `search.space.NAME=[...]` opens it.
"""
FOOT = """
All search the learning rate; all but `finetune` also `temperature` (1 to 10, classification only) and
`kd_weight` (0.1 to 1). A *live* teacher runs in every step, because what is read of it would not fit a
cache; `--dry-run` says what that costs.
"""


def card(method: type[Method]) -> dict[str, Any]:
    """Name, summary, paper and hyper-parameters of a method as plain values."""
    return {
        "name": method.name,
        "aliases": list(method.aliases),
        "summary": method.summary,
        "paper": method.paper,
        "form": method.form,
        "needs": sorted(method.needs),
        "hyper-parameters": {name: range_text(hyper) for name, hyper in method.space.items()},
    }


def range_text(hyper: Hyper) -> str:
    """The values of a hyper-parameter in words."""
    distribution = hyper.distribution
    if isinstance(distribution, CategoricalDistribution):
        shown = " | ".join(str(choice) for choice in distribution.choices)
        return shown if hyper.default is None else f"[{shown}]"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    scale = ", log" if distribution.log else ""
    shown = f"{distribution.low:g} to {distribution.high:g}{scale}"
    return shown if hyper.default is None else f"[{hyper.default}: {shown}]"


def document() -> str:
    """The text of docs/methods.md."""
    lines = [HEAD, "| name | what it is | paper | form | teacher | its own hyper-parameters |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for method in registry().methods.values():
        if not method.__module__.startswith("methods."):
            continue
        also = "".join(f", `{alias}`" for alias in method.aliases)
        shown = "; ".join(f"{name} {range_text(hyper)}" for name, hyper in _own(method).items())
        teacher = "live" if method.needs else "cached" if method.uses_teacher() else "none"
        cells = [
            f"`{method.name}`{also}",
            method.summary,
            method.paper,
            method.form,
            teacher,
            shown,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += [FOOT, "## Named sets, for `--method`", ""]
    for name in names("ablation"):
        chosen = ", ".join(ablation_methods(name))
        lines.append(f"- `{name}`: {read_yaml('ablation', name)['title']}: {chosen}")
    lines += ["", "## Cards"]
    for method in registry().methods.values():
        if method.__module__.startswith("methods."):
            text = inspect.cleandoc(method.__doc__ or "")
            lines += ["", f"### {method.name}", "", "```text", text, "```"]
            reasons = [f"- {name}: {hyper.why}" for name, hyper in _own(method).items()]
            lines += ["", *reasons] if reasons else []
    return "\n".join(lines) + "\n"


def _own(method: type[Method]) -> dict[str, Hyper]:
    return {name: hyper for name, hyper in method.space.items() if name not in SHARED}


if __name__ == "__main__":
    sys.stdout.write(document())
