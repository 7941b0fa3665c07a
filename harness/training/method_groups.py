"""Groups of members whose methods differ in numbers only: a group's loss terms are computed at once."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._pytree import tree_map

from harness.method import Context, Layers, Method
from harness.method.losses import distillation_loss, factored, objective
from harness.models.network import Leaf
from harness.training.label_weights import weighted_label_loss
from harness.training.recipe import Member, Recipe
from harness.training.stages import staged, stages_of
from harness.training.step_inputs import StepInputs

_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))
"""Attributes that every torch module has: tables of parameters and buffers, hooks, the mode."""


def group_members(members: Sequence[Member]) -> list[list[int]]:
    """Indices of members that can be batched with each other, groups in order of appearance."""
    groups: dict[object, list[int]] = {}
    for index, member in enumerate(members):
        needs_own_group = member.method is not None and not member.method.supports_vmap
        groups.setdefault(index if needs_own_group else _signature(member.method), []).append(index)
    return list(groups.values())


class MethodGroup:
    """Neighbours in a population whose methods differ in numbers only, from `first_row` on.

    `parameters` and `buffers` are those of the members' methods, stacked (members, ...). `scalars` are
    the members' numeric hyper-parameters (members,).
    """

    def __init__(self, members: list[Member], recipe: Recipe) -> None:
        self.members = members
        self.first_row = 0
        self.recipe = recipe
        self.template = members[0].method
        self.terms: list[str] = []
        self.sums: Tensor | None = None
        """(terms, members): the sums of the terms, and of the total, since the last `means`."""
        device = recipe.arithmetic.device
        self.parameters: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        if self.template is not None:
            self.parameters, self.buffers = stack_module_state(
                [_method_on(member.method, device) for member in members]
            )
        self.uses_teacher = self.template is not None and self.template.uses_teacher()
        self.matches_layers = self.template is not None and self.template.matches_layers()
        kind = None if self.template is None else type(self.template)
        self.staged_kinds = stages_of(kind, recipe.training.stages).kinds
        """The kinds of losses whose weights change from step to step."""
        self.inspects = self.template is not None and self.template.inspects()
        self._set_scalars()

    def leaves(self) -> list[Leaf]:
        """The stacked projections that are trained; weight decay is for matrices only."""
        return [
            Leaf(values, values.ndim > 2, self.first_row)
            for values in self.parameters.values()
            if values.requires_grad
        ]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the group's members, by their rows in the group."""
        self.members = [self.members[row] for row in rows]
        self.parameters = {
            name: values.detach()[list(rows)].requires_grad_(values.requires_grad)
            for name, values in self.parameters.items()
        }
        self.buffers = {name: values[list(rows)] for name, values in self.buffers.items()}
        self.sums = None
        self._set_scalars()

    def method(self, row: int) -> Method | None:
        """A member's method with the parameters that it has now, on the CPU, in eval mode."""
        method = self.members[row].method
        if method is not None:
            tensors = {**self.parameters, **self.buffers}
            state = {name: values[row] for name, values in tensors.items()}
            method.load_state_dict(state, strict=False)  # a method's state may lack its buffers
            method = method.cpu().eval()
        return method

    def total(
        self,
        student: Layers,
        teacher: Layers | None,
        labels: Tensor,
        label_weights: Tensor | tuple[()],
        mask: Tensor,
        words: Tensor | tuple[()],
        inputs: StepInputs,
        share: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """The objective of each member (members,), and the values (terms, members) for `add`.

        With a `share` below 1 the tensors hold this share of the batch's examples, and the objective is
        the share's part of the batch's.

        Args:
            student: `Layers` with tensors (members, B, ...).
            teacher: the same for the teacher, None where no member's method uses it.
            labels: (members, B).
            label_weights: the examples' weights in the label loss (members, B); empty where each has 1.
            mask: which tokens are no padding (members, B, T).
            words: the numbers of the tokens' words (members, B, T); empty where no method needs them.
            inputs: the step's inputs, of which epoch, progress and factors are read.
        """

        def member_total(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            scalars: dict[str, Tensor],
            member_student: Layers,
            member_teacher: Layers | tuple[()],
            member_labels: Tensor,
            member_weights: Tensor | tuple[()],
            member_mask: Tensor,
            member_words: Tensor | tuple[()],
        ) -> tuple[Tensor, dict[str, Tensor]]:
            context = Context(inputs.epoch, scalars, member_mask, inputs.progress)
            if isinstance(member_words, Tensor):
                context = replace(context, words=member_words)
            terms = self._terms(
                (parameters, buffers),
                member_student,
                member_teacher or None,
                member_labels,
                member_weights,
                context,
            )
            acting = (
                terms if self.template is None else factored(terms, self.template.factors(context))
            )
            weighted = (acting, scalars)
            if self.staged_kinds:
                weighted = staged(acting, scalars, inputs.factors, self.staged_kinds)
            return objective(*weighted, self.recipe.weights), terms

        arguments = (
            self.parameters,
            self.buffers,
            self.scalars,
            student,
            () if teacher is None else teacher,
            labels,
            label_weights,
            mask,
            words,
        )
        if self.template is None or self.template.supports_vmap:
            total, terms = vmap(member_total)(*arguments)
        else:  # a group of one
            member_arguments = tree_map(lambda values: values[0], arguments)
            total, terms = tree_map(lambda values: values[None], member_total(*member_arguments))
        if share < 1.0:
            total, terms = total * share, {name: value * share for name, value in terms.items()}
        values = {**terms, "total": total}
        self.terms = list(values)
        return total, torch.stack([value.detach() for value in values.values()])

    def add(self, values: Tensor) -> None:
        """Add the values of a step, or of a part of a step, to the sums, in the same memory."""
        if self.sums is None:
            self.sums = torch.zeros_like(values)
        self.sums += values

    def means(self, steps: int) -> list[dict[str, float]]:
        """The mean of each term over the steps since the last call, for each member."""
        assert self.sums is not None
        sums = self.sums.T.tolist()
        self.sums.zero_()
        return [
            {name: value / steps for name, value in zip(self.terms, member_sums, strict=True)}
            for member_sums in sums
        ]

    def _set_scalars(self) -> None:
        settings = [member.setting for member in self.members]
        names = [
            name
            for name, value in settings[0].items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        device = self.recipe.arithmetic.device
        self.scalars = {
            name: torch.tensor([float(setting[name]) for setting in settings], device=device)
            for name in names
        }

    def _terms(
        self,
        state: tuple[dict[str, Tensor], dict[str, Tensor]],
        student: Layers,
        teacher: Layers | None,
        labels: Tensor,
        label_weights: Tensor | tuple[()],
        context: Context,
    ) -> dict[str, Tensor]:
        """One member's loss terms, unweighted."""
        regression, method = self.recipe.regression, self.template
        terms = {"label": weighted_label_loss(student.logits, labels, regression, label_weights)}
        if teacher is None or method is None:
            return terms
        if "kd_weight" in method.space:
            temperature = context.scalars.get("temperature", torch.ones((), device=labels.device))
            terms["kd"] = distillation_loss(student.logits, teacher.logits, temperature, regression)
        method_terms = functional_call(method, state, (student, teacher, labels, context))
        scale = method.simplex_scale if self.recipe.weights == "simplex" else 1.0
        return terms | {name: scale * term for name, term in method_terms.items()}


def _method_on(method: Method | None, device: torch.device) -> Method:
    assert method is not None
    return method.to(device)


def _signature(method: Method | None) -> object:
    """A key that is equal for methods that differ in the numbers of parameters and buffers only.

    One method of a group computes the terms of all: whatever else a constructor keeps (options, lists,
    tensors outside parameters and buffers) must be the same. `==` cannot tell, since it compares most
    objects by identity and gives no single answer for tensors. Pickled bytes are compared instead: equal
    bytes are equal values, all the way down. Equal values with other bytes only cost a group of their
    own. Nothing is ever loaded from the bytes. A method that cannot be pickled is a group by itself.
    """
    if method is None:
        return None
    parts: list[object] = []
    for name, module in method.named_modules():
        attributes = {k: v for k, v in vars(module).items() if k not in _MODULE_ATTRIBUTES}
        parts.append((name, type(module), sorted(attributes.items(), key=lambda item: item[0])))
    for name, parameter in method.named_parameters():
        parts.append((name, tuple(parameter.shape), parameter.dtype, parameter.requires_grad))
    for name, buffer in method.named_buffers():
        parts.append((name, tuple(buffer.shape), buffer.dtype))
    try:
        return pickle.dumps(parts)
    except (pickle.PicklingError, TypeError, AttributeError):
        return id(method)
