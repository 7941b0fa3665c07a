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
width. MSE is a mean over the width. A term is a mean over the examples of a batch, unless its card names
another reduction: some terms are means over the tokens of a batch, and some compare its examples.
"""
FOOT = """
Every method searches the learning rate. Every method but `finetune`, `dist`, `dkd`, `annealing-kd` and
`continuation-kd` also searches `temperature` (1 to 10, for classification only; published grids end at
20, but above 10 the term is close to its limit, a squared distance of logits) and `kd_weight` (0.1 to 1;
0 would be `finetune`, and 1 ignores the labels).
A *live* teacher runs in every step, because a cache of its outputs would be too large; `--dry-run`
estimates the cost. With `search.weights=simplex`, as in `preset=paper`, the search replaces
`layer_weight` by `layer_share`, from 0 to 1, and refuses methods with another weight.

Terms of these methods were compared with public code, value and gradient in float64 on random tensors
of 8 examples: `ckd-no` and `ckd-po` (6 → 2), the four `-matching` maps, `minilm` (4, 6 and 12 relation
heads, examples of 2 to 9 tokens), `tinybert` (examples of equal length), `distilbert`, `rkd`, `cka`,
`spkd`, `cos-nce`, `dkd` and `mgskd` (5 examples of 4 to 12 tokens, words as phrases) have relative
differences below 1e-13, after the factors that their cards name. `dist` has 1e-6 at temperature 4, since
the authors add 1e-8 to each denominator. PKD's objective of its code, with η and λ as the card of
`pkd-skip` says, differs by 3e-16. `minilm-v1` has no public code.

Other losses of the literature are not here. AD-KD (Wu et al. 2023) matches attributions, which need the
gradients of the teacher in every step. BERT-of-Theseus (Xu et al. 2020) swaps modules of teacher and
student while it trains, and has no loss between them. CRD (Tian et al. 2020) and CoDIR (Sun et al. 2020)
draw negatives from a memory of all examples, which each run would have to keep.

`training.stages` changes the weights of losses over a training (docs/axes.md), for every method.
`tinybert` with `training.stages=layers-first` has the order of TinyBERT's two stages. `annealing-kd` and
`continuation-kd` have stages of their own, which their hyper-parameters set: leave `training.stages` at
`constant` for them.
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
    core = OF_THE_CORE if "kd_weight" in method.space else ()
    return {name: hyper for name, hyper in method.space.items() if name not in core}


if __name__ == "__main__":
    sys.stdout.write(document())
