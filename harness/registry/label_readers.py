"""Methods whose own terms read labels: unlabelled texts have none to read."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from optuna.distributions import CategoricalDistribution
from torch import Tensor

from harness.errors import MethodError
from harness.method import Method, Value
from harness.registry.case import Case, cases
from harness.runtime.cpu import one_thread


@cache
def reads_labels(kind: type[Method]) -> bool:
    """Whether other labels change a term of the method with any choice, on made-up tensors."""
    with one_thread(), torch.no_grad():
        return any(
            _reads_labels(case, structure)
            for case in cases(kind)
            for structure in _structures(kind)
        )


def _reads_labels(case: Case, structure: dict[str, Value]) -> bool:
    student, teacher, labels = case.batch()

    def terms(given: Tensor) -> dict[str, Tensor]:
        return case.terms(case.shifted(structure=structure), (student, teacher, given))

    own = terms(labels)
    # The first keep which labels are equal, and the second have them all equal.
    others = (terms((labels + 1) % case.shapes.outputs), terms(torch.zeros_like(labels)))
    return any(not torch.equal(own[name], other[name]) for other in others for name in own)


def _structures(kind: type[Method]) -> Iterator[dict[str, Value]]:
    """The default structure, and one for each choice of a structural hyper-parameter."""
    yield {}
    for name, hyper in kind.space.items():
        if isinstance(hyper.distribution, CategoricalDistribution):
            for choice in hyper.distribution.choices:
                assert isinstance(choice, bool | int | float | str)
                yield {name: choice}


def refuse_label_reader(kind: type[Method]) -> None:
    """Refuse a method for unlabelled texts. Raises `MethodError`."""
    if reads_labels(kind):
        raise MethodError(
            f"{kind.name} reads labels in its own terms, and unlabelled texts have none: leave the "
            "method or the texts (--transfer, or transfer in the task's file) out"
        )
