"""Cases on which a method's rules are checked: a class, shapes, a precision, and made-up tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import MethodError
from harness.method import Context, Layers, Method, Need, Shapes, Value
from harness.registry.construction import make_method
from harness.registry.faults import NO_SUPER, BrokenRule, explain, fault, place_of
from harness.registry.made_up import (
    EQUAL_WIDTHS,
    OTHER_DEPTHS,
    OTHER_WIDTHS,
    PROGRESS,
    batch,
    context,
    middle,
    shift_parameters,
)
from harness.registry.space import any_value
from harness.runtime import interrupt

TOLERANCES = {torch.float32: (1e-3, 1e-5), torch.float64: (1e-9, 1e-12)}
"""Relative and absolute differences that rounding may cause, by precision."""


@dataclass(frozen=True)
class Case:
    """A method with shapes, and the precision of the tensors: fp32, as in training, or float64.

    `needs` are the tensors that the made-up models return.
    """

    kind: type[Method]
    shapes: Shapes = EQUAL_WIDTHS
    dtype: torch.dtype = torch.float32
    needs: frozenset[Need] = frozenset()

    @classmethod
    def of(
        cls, kind: type[Method], shapes: Shapes = EQUAL_WIDTHS, dtype: torch.dtype = torch.float32
    ) -> Case:
        """The case of a method's own needs."""
        return cls(kind, shapes, dtype, kind.needs)

    def method(self, seed: int = 0, structure: Mapping[str, Value] | None = None) -> Method:
        """The method as a run makes it. Raises `MethodError`."""
        setting = {name: any_value(hyper) for name, hyper in self.kind.space.items()}
        with self.explained("__init__"):
            method = make_method(self.kind, self.shapes, setting | dict(structure or {}), seed)
        if "_parameters" not in vars(method):
            raise self.fault(NO_SUPER, "__init__")
        return method if self.dtype == torch.float32 else method.to(self.dtype)

    def shifted(self, seed: int = 0, structure: Mapping[str, Value] | None = None) -> Method:
        """The method with its parameters away from where they start."""
        return shift_parameters(self.method(seed, structure), seed)

    def batch(self, seed: int = 0) -> tuple[Layers, Layers, Tensor]:
        """Student, teacher and labels."""
        return batch(self.shapes, seed, self.needs, self.dtype)

    def scalars(self, share: float = 0.4) -> dict[str, Tensor]:
        """A value inside the range of every scalar hyper-parameter."""
        return middle(self.kind, share, self.dtype)

    def context(
        self,
        scalars: Mapping[str, Tensor] | None = None,
        progress: float = PROGRESS[0],
        rows: Tensor | None = None,
    ) -> Context:
        """The context of a step. `rows` are the examples of the batch."""
        values = self.scalars() if scalars is None else scalars
        return context(values, progress, self.needs, rows)

    def terms(
        self,
        method: Method,
        inputs: tuple[Layers, Layers, Tensor] | None = None,
        given: Context | None = None,
    ) -> dict[str, Tensor]:
        """The terms of a batch. Raises `MethodError`, also for terms that are no scalars."""
        with self.explained():
            terms = method(*(inputs or self.batch()), given or self.context())
        if not isinstance(terms, dict):
            raise self.fault("`terms` returns no dict; return {name: scalar tensor}")
        for name, value in terms.items():
            if not isinstance(value, Tensor) or value.shape != ():
                form = (
                    f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else "no tensor"
                )
                raise self.fault(f"the term {name!r} is {form}; return a scalar: take the mean")
        return terms

    def factors(self, method: Method) -> dict[str, Tensor]:
        """The factors of a step. Raises `MethodError`, also for factors that are no scalars."""
        with self.explained("factors"):
            factors = method.factors(self.context())
        for name, value in factors.items():
            if not isinstance(value, Tensor) or value.shape != ():
                raise self.fault(f"the factor {name!r} is no 0-d tensor", "factors")
        return factors

    def fault(self, words: str, attribute: str = "terms") -> BrokenRule:
        """A broken rule, at an attribute of the class."""
        return fault(self.kind, words, place_of(self.kind, attribute))

    def close(self, one: Tensor, other: Tensor) -> bool:
        """Whether two tensors differ by rounding only."""
        relative, absolute = TOLERANCES[self.dtype]
        return torch.allclose(one, other, rtol=relative, atol=absolute)

    @contextmanager
    def explained(self, where: str = "terms") -> Iterator[None]:
        """Turn exceptions of the method into faults."""
        try:
            yield
        except MethodError:
            raise
        except Exception as error:  # a method may fail in any way
            interrupt.check(error)
            raise explain(self.kind, error, self.shapes, where) from error


Rule = Callable[[Case], None]
"""A rule raises `MethodError` for a case that breaks it. The docstring's first line says the rule."""


def cases(kind: type[Method], dtype: torch.dtype = torch.float32) -> list[Case]:
    """Two cases of other shapes, or fewer if the constructor refuses them.

    Raises:
        BrokenRule: the constructor fails, without a refusal of its own.
    """
    found = []
    for shapes in (EQUAL_WIDTHS, OTHER_WIDTHS, OTHER_DEPTHS):
        case = Case.of(kind, shapes, dtype)
        try:
            case.method()
        except BrokenRule:
            raise
        except MethodError:  # the method does not work with these shapes
            continue
        found.append(case)
    return found[:2]
