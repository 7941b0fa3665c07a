"""Cards of methods, as plain values and as docs/methods.md (`python -m harness.registry.cards`)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.compose import ablation_methods, names, read_yaml
from harness.method import Hyper, Method
from harness.registry.discovery import names_of, registry
from harness.storage.manifest import MethodCard

OF_THE_CORE = ("temperature", "kd_weight")
"""Hyper-parameters of the logit distillation, which the core adds to a method."""
HEAD = """# Methods

`python -m harness.registry.cards > docs/methods.md` writes this page from the cards in `methods/`. The
column *form* names the source of a formula: *verified* (we read the authors' or another public
implementation), *second-hand* (we read a summary), *ours* (our reading, or our control). A
hyper-parameter in brackets is an option. An option has its first value unless `search.space.NAME=[...]`
opens it.

In the formulas s_j is the pooled state of student layer j = 1..m, t_i that of teacher layer i = 1..n,
and C the number of outputs. u_j is s_j, or W·s_j with a learned W if student and teacher differ in
width. MSE is a mean over the width. Every term is a mean over the examples of a batch.
"""
FOOT = """
Every method searches the learning rate. Every method but `finetune` also searches `temperature` (1 to
10, for classification only; published grids end at 20, but above 10 the term is close to its limit, a
squared distance of logits) and `kd_weight` (0.1 to 1; 0 would be `finetune`, and 1 ignores the labels).
A *live* teacher runs in every step, because a cache of its outputs would be too large; `--dry-run`
estimates the cost. With `search.weights=simplex`, as in `preset=paper`, the search replaces
`layer_weight` by `layer_share`, from 0 to 1.
"""


def card(method: type[Method]) -> MethodCard:
    """The card of a method."""
    return MethodCard(
        name=method.name,
        aliases=names_of(method)[1:],
        summary=method.summary,
        paper=method.paper,
        form=method.form,
        needs=tuple(sorted(method.needs)),
        hyper_parameters={name: range_text(hyper) for name, hyper in method.space.items()},
    )


def range_text(hyper: Hyper) -> str:
    """The values of a hyper-parameter in words."""
    distribution = hyper.distribution
    if isinstance(distribution, CategoricalDistribution):
        choices = sorted(distribution.choices, key=lambda choice: choice != hyper.default)
        values = " | ".join(str(choice) for choice in choices)
        return values if hyper.default is None else f"[{values}]"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    ends = (
        str(end) if isinstance(end, int) else f"{end:g}"
        for end in (distribution.low, distribution.high)
    )
    values = " to ".join(ends) + (", log" if distribution.log else "")
    return values if hyper.default is None else f"[{hyper.default}: {values}]"


def document() -> str:
    """The text of docs/methods.md."""
    methods = [m for m in registry().methods.values() if m.__module__.startswith("methods.")]
    families: dict[str, list[type[Method]]] = {}
    for kind in methods:
        families.setdefault(kind.__module__, []).append(kind)
    lines = [HEAD]
    for module, kinds in sorted(families.items()):
        title = (inspect.getdoc(sys.modules[module]) or "").splitlines()[0]
        lines += [f"## {title}", "", *_table(kinds), ""]
    lines += [FOOT.strip(), "", "## Named sets, for `--method`", ""]
    for name in names("ablation"):
        members = ", ".join(ablation_methods(name))
        lines.append(f"- `{name}`: {read_yaml('ablation', name)['title']}: {members}")
    lines += ["", "## Cards"]
    for kind in methods:
        text = inspect.cleandoc(kind.__doc__ or "")
        lines += ["", f"### {kind.name}", "", "```text", text, "```"]
        reasons = [f"- {name}: {hyper.why}" for name, hyper in _method_space(kind).items()]
        lines += ["", *reasons] if reasons else []
    return "\n".join(lines) + "\n"


def _table(kinds: Iterable[type[Method]]) -> Iterator[str]:
    yield "| name | summary | paper | form | teacher | hyper-parameters |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for kind in kinds:
        title = ", ".join(f"`{name}`" for name in names_of(kind))
        space = "; ".join(f"{name} {range_text(h)}" for name, h in _method_space(kind).items())
        teacher = "live" if kind.needs else "cached" if kind.uses_teacher() else "none"
        cells = [title, kind.summary, kind.paper, kind.form, teacher, space]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _method_space(method: type[Method]) -> dict[str, Hyper]:
    """The method's hyper-parameters without the core's hyper-parameters."""
    return {name: hyper for name, hyper in method.space.items() if name not in OF_THE_CORE}


if __name__ == "__main__":
    sys.stdout.write(document())
