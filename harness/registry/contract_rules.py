"""The rest of a method's contract: what makes its numbers comparable, and its card complete.

A study starts without these rules. `--check-method` and the tests check them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise

import torch
from optuna.distributions import CategoricalDistribution
from torch import Tensor
from torch.utils._pytree import tree_map

from harness.method import Layers, Method
from harness.method.losses import distillation_loss, factored, label_loss, objective
from harness.registry.case import Case, Rule
from harness.registry.made_up import EXAMPLES, PROGRESS, tensors

LEAST_CHANGE = 1e-6
"""The least relative change of a gradient that counts as an effect."""


def the_card_is_complete(case: Case) -> None:
    """The docstring of the class names every hyper-parameter."""
    card = vars(case.kind).get("__doc__") or ""
    if not card.strip():
        raise case.fault("has no docstring, which is the method's card", "__doc__")
    for name in case.kind.space:
        if name not in card:
            raise case.fault(f"the docstring does not name the hyper-parameter {name}", "__doc__")


def every_parameter_is_trained(case: Case) -> None:
    """Gradients reach every parameter of the method."""
    method = case.shifted()
    terms = case.terms(method)
    if terms:
        sum(terms.values(), torch.zeros(())).backward()
    for name, parameter in method.named_parameters():
        if parameter.grad is None or not parameter.grad.abs().sum() > 0:
            raise case.fault(
                f"no term has a gradient to the parameter {name!r}; use it, or keep it in a buffer"
            )


def every_scalar_has_an_effect(case: Case) -> None:
    """Every scalar hyper-parameter changes the gradient, in some step of a training."""
    wide = _with_three_outputs(case)
    method, scalars, others = wide.shifted(), case.scalars(), case.scalars(share=0.7)
    gradient = cache(partial(objective_gradient, wide, method, scalars))
    for name, value in others.items():
        changed = {**scalars, name: value}
        if all(
            torch.allclose(
                gradient(progress),
                objective_gradient(wide, method, changed, progress),
                rtol=LEAST_CHANGE,
            )
            for progress in PROGRESS
        ):
            raise case.fault(
                f"the scalar {name} changes no gradient; read it in `terms`, or leave it out of `space`"
            )


def every_choice_has_an_effect(case: Case) -> None:
    """Every choice of a structural hyper-parameter changes the gradient."""
    wide = _with_three_outputs(case)
    for name, hyper in case.kind.space.items():
        if not isinstance(hyper.distribution, CategoricalDistribution):
            continue
        gradients = []
        for choice in hyper.distribution.choices:
            assert isinstance(choice, bool | int | float | str)
            method = wide.shifted(structure={name: choice})
            gradients.append(objective_gradient(wide, method, case.scalars()))
        for (one, two), choices in zip(
            pairwise(gradients), pairwise(hyper.distribution.choices), strict=True
        ):
            if one.shape == two.shape and torch.allclose(one, two, rtol=LEAST_CHANGE):
                raise case.fault(
                    f"the choices {choices[0]!r} and {choices[1]!r} of {name} have the same gradient; "
                    "read it in __init__, or leave it out of `space`",
                    "__init__",
                )


def a_doubled_batch_has_the_same_terms(case: Case) -> None:
    """A batch that is doubled has the same terms and gradients: losses are means."""
    method = case.shifted()
    values, gradients = [], []
    for times in (1, 2):
        student, teacher, labels = case.batch()
        repeat = partial(_repeat, times=times)
        sides = [tree_map(repeat, side) for side in (student, teacher)]
        given = case.context(rows=repeat(torch.arange(EXAMPLES)))
        terms = case.terms(method, (sides[0], sides[1], repeat(labels)), given)
        terms["label"] = label_loss(sides[0].logits, repeat(labels), False)
        total = sum(terms.values(), torch.zeros(()))
        values.append(total.detach())
        gradients.append(_gradient(total, student, method))
    if not case.close(values[1], values[0]) or not case.close(gradients[1], gradients[0]):
        raise case.fault(
            "terms change when every example is there twice; take means over examples and not sums"
        )


def inspections_have_their_shapes(case: Case) -> None:
    """`inspect` returns `target` (B, m, width), and `attention` (B, m, n) that sums to 1."""
    student, teacher, _ = case.batch()
    with torch.no_grad(), case.explained("inspect"):
        method = case.method()
        outputs = method.inspect(*(Layers(side.logits, side.states) for side in (student, teacher)))
    if not outputs:
        return
    if not {"target"} <= set(outputs) <= {"target", "attention"}:
        words = (
            f"`inspect` returns {sorted(outputs)}; return `target`, and `attention` if there is any"
        )
        raise case.fault(words, "inspect")
    if outputs["target"].ndim != 3 or len(outputs["target"]) != EXAMPLES:
        raise case.fault("`inspect` returns a `target` that is not (B, m, width)", "inspect")
    if "attention" in outputs:
        weights = outputs["attention"]
        if weights.shape[:2] != outputs["target"].shape[:2]:
            raise case.fault("`inspect` returns an `attention` that is not (B, m, n)", "inspect")
        if not torch.allclose(weights.sum(-1), torch.ones((), dtype=case.dtype), atol=1e-6):
            raise case.fault(
                "`inspect` returns an `attention` whose rows do not sum to 1", "inspect"
            )


def objective_gradient(
    case: Case, method: Method, scalars: Mapping[str, Tensor], progress: float = PROGRESS[0]
) -> Tensor:
    """Gradient of a step's objective for the student and the method's parameters, in one vector."""
    given = case.context(scalars, progress)
    student, teacher, labels = case.batch()
    terms = {"label": label_loss(student.logits, labels, False)}
    if method.uses_teacher():
        if "kd_weight" in scalars:
            temperature = scalars.get("temperature", torch.ones(()))
            terms["kd"] = distillation_loss(student.logits, teacher.logits, temperature, False)
        terms |= case.terms(method, (student, teacher, labels), given)
    acting = factored(terms, method.factors(given))
    return _gradient(objective(acting, scalars, "convex"), student, method)


def _with_three_outputs(case: Case) -> Case:
    """The case with outputs enough: with two, some parts of losses on logits are 0."""
    return replace(case, shapes=replace(case.shapes, outputs=3))


def _gradient(total: Tensor, student: Layers, method: Method) -> Tensor:
    leaves = [*tensors(student), *method.parameters()]
    found = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def _repeat(values: Tensor, times: int) -> Tensor:
    return torch.cat([values] * times)


CONTRACT: tuple[Rule, ...] = (
    the_card_is_complete,
    every_parameter_is_trained,
    every_scalar_has_an_effect,
    every_choice_has_an_effect,
    a_doubled_batch_has_the_same_terms,
    inspections_have_their_shapes,
)
"""The rules that a study does not check at its start."""
