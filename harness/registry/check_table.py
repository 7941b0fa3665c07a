"""The table of a method's rules: which it keeps, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from harness.errors import MethodError
from harness.method import Method
from harness.registry.case import Case, Rule, cases
from harness.registry.checks import AT_START, check_case
from harness.registry.class_rules import CLASS_RULES
from harness.registry.contract_rules import CONTRACT


@dataclass(frozen=True)
class CheckedRule:
    """A rule in words, and the fault of a method that breaks it."""

    rule: str
    fault: str | None


def check_table(kind: type[Method]) -> list[CheckedRule]:
    """Check every rule of a method, in fp32 as in training.

    The rules of terms need a method that can be made: without one the fault is the table's last row.
    """
    table = [_checked(rule, partial(rule, kind)) for rule in CLASS_RULES]
    if any(row.fault for row in table):
        return table
    try:
        found = cases(kind)
    except MethodError as error:
        return [*table, CheckedRule("The constructor makes a method.", str(error))]
    if not found:
        words = "the constructor refuses all made-up shapes"
        return [*table, CheckedRule("The constructor makes a method.", words)]
    rules = (*AT_START, *CONTRACT)
    return table + [_checked(rule, partial(_check_cases, rule, found)) for rule in rules]


def _check_cases(rule: Rule, found: Sequence[Case]) -> None:
    for case in found:
        check_case(rule, case)


def _checked(rule: Callable[..., None], check: Callable[[], None]) -> CheckedRule:
    words = (rule.__doc__ or rule.__name__).splitlines()[0]
    try:
        check()
    except MethodError as error:
        return CheckedRule(words, str(error))
    return CheckedRule(words, None)
