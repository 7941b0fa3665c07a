"""Cards of methods, as plain values and as docs/methods.md (`python -m harness.registry.cards`)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.compose import ablation_methods, names, read_yaml
from harness.method import Hyper, Method
from harness.registry.discovery import names_of, registry

OF_THE_CORE = ("temperature", "kd_weight")
"""Hyper-parameters of the logit distillation, which is not the method's own."""
HEAD = """# Methods

Written by `python -m harness.registry.cards > docs/methods.md` from the cards in `methods/`. The formula
of a method is *verified* (read in the authors' or another public implementation), *second-hand* (from a
summary), or *ours* (our reading, or a control of our own). A bracketed hyper-parameter is an option:
fixed at its first value unless `search.space.NAME=[...]` opens it.

In the formulas s_j and t_i are the pooled states of student layer j = 1..m and teacher layer i = 1..n,
B the examples of a batch, C the outputs. u_j is s_j, or W·s_j with a learned W where the student is
narrower or wider than its teacher. MSE is a mean over the width; every term is a mean over examples.
"""
FOOT = """
All search the learning rate; all but `finetune` also `temperature` (1 to 10, classification only:
published grids end at 20, but beyond 10 the term is near its limit, matched logits) and `kd_weight`
(0.1 to 1: 0 would be `finetune`, at 1 labels are left out). A *live* teacher runs in every step,
because what is read of it would not fit a cache; `--dry-run` says what that costs. With
`search.weights=simplex`, as in `preset=paper`, no `layer_weight` is searched but `layer_share`, from 0
to 1.
"""


def card(method: type[Method]) -> dict[str, Any]:
    """Name, summary, paper and hyper-parameters of a method as plain values."""
    return {
        "name": method.name,
        "aliases": list(names_of(method)[1:]),
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
        choices = sorted(distribution.choices, key=lambda choice: choice != hyper.default)
        shown = " | ".join(str(choice) for choice in choices)
        return shown if hyper.default is None else f"[{shown}]"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    ends = (str(end) if isinstance(end, int) else f"{end:g}" for end in _ends(distribution))
    shown = " to ".join(ends) + (", log" if distribution.log else "")
    return shown if hyper.default is None else f"[{hyper.default}: {shown}]"


def _ends(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    return distribution.low, distribution.high


def document() -> str:
    """The text of docs/methods.md."""
    own = [kind for kind in registry().methods.values() if kind.__module__.startswith("methods.")]
    families: dict[str, list[type[Method]]] = {}
    for kind in own:
        families.setdefault(kind.__module__, []).append(kind)
    lines = [HEAD]
    for module, kinds in sorted(families.items()):
        title = (inspect.getdoc(sys.modules[module]) or "").splitlines()[0]
        lines += [f"## {title}", "", *_table(kinds), ""]
    lines += [FOOT.strip(), "", "## Named sets, for `--method`", ""]
    for name in names("ablation"):
        chosen = ", ".join(ablation_methods(name))
        lines.append(f"- `{name}`: {read_yaml('ablation', name)['title']}: {chosen}")
    lines += ["", "## Cards"]
    for kind in own:
        text = inspect.cleandoc(kind.__doc__ or "")
        lines += ["", f"### {kind.name}", "", "```text", text, "```"]
        reasons = [f"- {name}: {hyper.why}" for name, hyper in _own(kind).items()]
        lines += ["", *reasons] if reasons else []
    return "\n".join(lines) + "\n"


def _table(kinds: Iterable[type[Method]]) -> Iterator[str]:
    yield "| name | what it is | paper | form | teacher | its own hyper-parameters |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for kind in kinds:
        title = ", ".join(f"`{name}`" for name in names_of(kind))
        shown = "; ".join(f"{name} {range_text(hyper)}" for name, hyper in _own(kind).items())
        teacher = "live" if kind.needs else "cached" if kind.uses_teacher() else "none"
        cells = [title, kind.summary, kind.paper, kind.form, teacher, shown]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _own(method: type[Method]) -> dict[str, Hyper]:
    return {name: hyper for name, hyper in method.space.items() if name not in OF_THE_CORE}


if __name__ == "__main__":
    sys.stdout.write(document())
