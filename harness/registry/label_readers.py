"""Methods whose own terms read labels: unlabelled texts have none to read."""

from __future__ import annotations

from functools import cache

import torch

from harness.errors import MethodError
from harness.method import Method
from harness.registry.case import cases
from harness.runtime.cpu import one_thread


@cache
def reads_labels(kind: type[Method]) -> bool:
    """Whether other labels change a term of the method, on made-up tensors."""
    with one_thread(), torch.no_grad():
        for case in cases(kind):
            method, (student, teacher, labels) = case.shifted(), case.batch()
            others = (labels + 1) % case.shapes.outputs
            terms, changed = (
                case.terms(method, (student, teacher, given)) for given in (labels, others)
            )
            if any(not torch.equal(value, changed[name]) for name, value in terms.items()):
                return True
    return False


def refuse_label_reader(kind: type[Method]) -> None:
    """Refuse a method for unlabelled texts. Raises `MethodError`."""
    if reads_labels(kind):
        raise MethodError(
            f"{kind.name} reads labels in its own terms, and unlabelled texts have none: leave the "
            "method or the texts (--transfer, or transfer in the task's file) out"
        )
