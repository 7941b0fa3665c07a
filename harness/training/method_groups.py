"""Runs of a population whose methods differ in numbers only: their terms are computed at once."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._pytree import tree_map

from harness.method import Context, Layers, Method
from harness.method.losses import distillation_loss, label_loss, objective
from harness.models.reference import Leaf
from harness.training.recipe import Member, Recipe

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes that torch keeps: its tables of parameters and buffers, hooks, the mode."""


def grouped(members: Sequence[Member]) -> list[list[int]]:
    """The places of the members that can be batched with each other, in order of appearance."""
    alike: dict[object, list[int]] = {}
    for place, member in enumerate(members):
        unbatched = member.method is not None and not member.method.supports_vmap
        alike.setdefault(place if unbatched else _signature(member.method), []).append(place)
    return list(alike.values())


class MethodGroup:
    """Neighbours in a population whose methods differ in numbers only; `first` is their first place."""

    def __init__(self, members: list[Member], recipe: Recipe) -> None:
        self.members = members
        self.first = 0
        self.recipe = recipe
        self.template = members[0].method
        self.sums: dict[str, Tensor] = {}
        device = recipe.arithmetic.device
        self.parameters: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        if self.template is not None:
            self.parameters, self.buffers = stack_module_state(
                [_on(member.method, device) for member in members]
            )
        self.uses_teacher = self.template is not None and self.template.uses_teacher()
        self.matches_layers = self.template is not None and self.template.matches_layers()
        self.inspected = self.template is not None and self.template.inspects()
        self._set_scalars()

    def leaves(self) -> list[Leaf]:
        """The stacked projections that are trained; no decay for what is a vector of one member."""
        return [
            Leaf(values, values.ndim > 2, self.first)
            for values in self.parameters.values()
            if values.requires_grad
        ]

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some members only."""
        self.members = [self.members[place] for place in places]
        self.parameters = {
            name: values.detach()[list(places)].requires_grad_(values.requires_grad)
            for name, values in self.parameters.items()
        }
        self.buffers = {name: values[list(places)] for name, values in self.buffers.items()}
        self._set_scalars()

    def trained(self, place: int) -> Method | None:
        """A member's method with what it has learned."""
        method = self.members[place].method
        if method is not None:
            own = {name: values[place] for name, values in self.parameters.items()}
            own |= {name: values[place] for name, values in self.buffers.items()}
            method.load_state_dict(own, strict=False)  # buffers may be left out of a method's state
            method = method.cpu().eval()
        return method

    def total(
        self,
        student: Layers,
        teacher: Layers | None,
        labels: Tensor,
        mask: Tensor,
        epoch: Tensor,
    ) -> Tensor:
        """The objective of each member (members,); adds the terms to the epoch's sums."""

        def one(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            scalars: dict[str, Tensor],
            own_student: Layers,
            own_teacher: Layers | tuple[()],
            own_labels: Tensor,
            own_mask: Tensor,
        ) -> tuple[Tensor, dict[str, Tensor]]:
            terms = self._terms(
                (parameters, buffers),
                own_student,
                own_teacher or None,
                own_labels,
                Context(epoch, scalars, own_mask),
            )
            return objective(terms, scalars, self.recipe.weights), terms

        given = (
            self.parameters,
            self.buffers,
            self.scalars,
            student,
            () if teacher is None else teacher,
            labels,
            mask,
        )
        if self.template is None or self.template.supports_vmap:
            total, terms = vmap(one)(*given)
        else:
            total, terms = tree_map(lambda x: x[None], one(*tree_map(lambda x: x[0], given)))
        for name, value in {**terms, "total": total}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()
        return total

    def means(self, steps: int) -> list[dict[str, float]]:
        """The mean of each term over the steps since the last call, for each member."""
        sums = torch.stack(list(self.sums.values())).T.tolist()
        names, self.sums = list(self.sums), {}
        return [
            {name: value / steps for name, value in zip(names, own, strict=True)} for own in sums
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
        context: Context,
    ) -> dict[str, Tensor]:
        """One member's loss terms, unweighted."""
        regression, method = self.recipe.regression, self.template
        terms = {"label": label_loss(student.logits, labels, regression)}
        if teacher is None or method is None:
            return terms
        if "kd_weight" in method.space:
            temperature = context.scalars.get("temperature", torch.ones((), device=labels.device))
            terms["kd"] = distillation_loss(student.logits, teacher.logits, temperature, regression)
        own = functional_call(method, state, (student, teacher, labels, context))
        scale = method.simplex_scale if self.recipe.weights == "simplex" else 1.0
        return terms | {name: scale * term for name, term in own.items()}


def _on(method: Method | None, device: torch.device) -> Method:
    assert method is not None
    return method.to(device)


def _signature(method: Method | None) -> object:
    """Equal for methods that differ in the numbers of their parameters and buffers only."""
    if method is None:
        return None
    parts: list[object] = []
    for name, module in method.named_modules():
        plain = {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE}
        parts.append((name, type(module), sorted(plain.items(), key=lambda item: item[0])))
    for name, parameter in method.named_parameters():
        parts.append((name, tuple(parameter.shape), parameter.dtype, parameter.requires_grad))
    for name, buffer in method.named_buffers():
        parts.append((name, tuple(buffer.shape), buffer.dtype))
    try:
        return pickle.dumps(parts)
    except (pickle.PicklingError, TypeError, AttributeError):
        return id(method)
