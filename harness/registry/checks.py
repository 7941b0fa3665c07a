"""The rules of a method, checked in its first second on made-up tensors of two shapes.

Each rule is a function that raises `MethodError` in one line. The rules of the class are checked when
a method is found, those of `AT_START` before a study prepares anything, and all of them by
`--check-method` and the tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any, get_args

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._pytree import tree_map

from harness.errors import MethodError
from harness.method import Context, Layers, Method, Need
from harness.registry.case import Case, Rule, cases
from harness.registry.made_up import (
    EXAMPLES,
    change_padding,
    own_weights,
    tensors,
)
from harness.runtime.cpu import one_thread
from harness.runtime.randomness import generator

MEMBERS = 3
"""Members of the made-up population."""


def terms_are_finite_scalars(case: Case) -> None:
    """Terms are finite scalars in a dict, by names that are not the core's."""
    for name, value in case.terms(case.shifted()).items():
        if name in ("label", "kd"):
            raise case.fault(f"the core itself adds the term {name!r}; use another name")
        if not torch.isfinite(value):
            raise case.fault(
                f"the term {name!r} is {value.item()} on ordinary numbers; "
                "guard log, sqrt and division against zeros"
            )


def terms_and_weights_match(case: Case) -> None:
    """Each term `x` has a weight `x_weight` in `space`, and each weight a term."""
    terms, weights = set(case.terms(case.method())), own_weights(case.kind)
    for name in sorted({f"{term}_weight" for term in terms} - weights):
        raise case.fault(
            f"the term {name.removesuffix('_weight')!r} has no weight; "
            f'write "{name}": weight(low, high, why) into `space`',
            "space",
        )
    for name in sorted(weights - {f"{term}_weight" for term in terms}):
        raise case.fault(
            f"`space` has {name}, but `terms` returns no {name.removesuffix('_weight')!r}; "
            "return the term, or name a hyper-parameter that is no weight otherwise",
            "space",
        )


def factors_are_scalars_of_terms(case: Case) -> None:
    """Each factor is a finite scalar, by the name of a term of the method or the core."""
    method = case.shifted()
    names = {"label", *case.terms(method)} | ({"kd"} if "kd_weight" in case.kind.space else set())
    for name, value in case.factors(method).items():
        if name not in names:
            raise case.fault(f"there is no term for the factor {name!r}", "factors")
        if not torch.isfinite(value):
            raise case.fault(f"the factor {name!r} is {value.item()}", "factors")


def terms_move_the_student(case: Case) -> None:
    """Each term has a gradient to the student."""
    inputs = case.batch()
    for name, value in case.terms(case.shifted(), inputs).items():
        leaves = tensors(inputs[0])
        gradients = (
            torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
            if value.requires_grad
            else [None] * len(leaves)
        )
        if not any(found is not None and found.abs().sum() > 0 for found in gradients):
            raise case.fault(
                f"the term {name!r} has no gradient to the student, so it trains nothing; "
                "use the student's tensors without detach, .data, argmax or comparisons"
            )


def inputs_stay_as_they_are(case: Case) -> None:
    """Inputs are not written to."""
    student, teacher, labels = case.batch()
    given = case.context()
    inputs = [*tensors(student), *tensors(teacher), labels, given.mask, given.epoch, given.progress]
    inputs += [given.words, *given.scalars.values()]
    versions = [tensor._version for tensor in inputs]
    with torch.no_grad():  # autograd itself refuses to write to leaves
        method = case.method()
        case.terms(method, (student, teacher, labels), given)
        if method.inspects():
            with case.explained("inspect"):
                method.inspect(*(Layers(side.logits, side.states) for side in (student, teacher)))
    if [tensor._version for tensor in inputs] != versions:
        raise case.fault(
            "`terms` or `inspect` writes to its inputs in place; make new tensors (x = x + y for x += y)"
        )


def terms_draw_nothing(case: Case) -> None:
    """Two calls of `terms` give the same, and draw no random numbers."""
    method, inputs = case.method(), case.batch()
    before = torch.get_rng_state()
    first, second = (case.terms(method, inputs) for _ in range(2))
    has_drawn = not torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    if has_drawn or not _same(first, second):
        raise case.fault(
            "`terms` draws random numbers, or keeps something from call to call; draw in __init__, from "
            "its `generator`, and keep the draw in a buffer"
        )


def a_seed_gives_one_method(case: Case) -> None:
    """The constructor draws from its generator alone."""
    first, second = (case.method(seed=3) for _ in range(2))
    inputs = case.batch()
    same_state = _same(dict(first.state_dict()), dict(second.state_dict()))
    if not same_state or not _same(case.terms(first, inputs), case.terms(second, inputs)):
        raise case.fault(
            "one seed gives two methods: __init__ draws outside of its `generator`; pass "
            "generator=generator to torch's functions, and do without random and numpy.random",
            "__init__",
        )


def order_does_not_matter(case: Case) -> None:
    """The order of the examples in a batch does not matter."""
    method = case.shifted()
    student, teacher, labels = case.batch()
    rows = torch.randperm(EXAMPLES, generator=generator("rows"))
    sides = [tree_map(lambda values: values[rows], side) for side in (student, teacher)]
    shuffled_context = case.context(rows=rows)
    terms = case.terms(method, (student, teacher, labels))
    shuffled = case.terms(method, (sides[0], sides[1], labels[rows]), shuffled_context)
    for name, value in terms.items():
        if not case.close(shuffled[name], value):
            raise case.fault(
                f"the term {name!r} depends on the order of the examples, which is random; treat all "
                "rows of a batch alike, as a mean over dimension 0 does"
            )


def padding_does_not_count(case: Case) -> None:
    """Values at padded tokens change nothing."""
    if not case.needs:
        return
    method = case.shifted()
    student, teacher, labels = case.batch()
    changed = case.terms(method, (change_padding(student), change_padding(teacher), labels))
    for name, value in case.terms(method, (student, teacher, labels)).items():
        if not case.close(changed[name], value):
            raise case.fault(
                f"the term {name!r} reads values at padded tokens, which have no meaning; "
                "`masked_mean` with context.mask leaves them out"
            )


def a_population_equals_a_loop(case: Case) -> None:
    """`vmap` over a population gives each member what it has alone."""
    if not case.kind.supports_vmap:
        return
    members = [case.shifted(seed) for seed in range(MEMBERS)]
    batches = [case.batch(seed) for seed in range(MEMBERS)]
    settings = [case.scalars(share) for share in (0.2, 0.5, 0.8)]
    loop = [
        _all_scalars(
            case.terms(member, inputs, case.context(scalars)), member, case.context(scalars)
        )
        for member, inputs, scalars in zip(members, batches, settings, strict=True)
    ]
    stacked_batches = tree_map(lambda *parts: torch.stack(parts), *batches)
    stacked_scalars = {name: torch.stack([s[name] for s in settings]) for name in settings[0]}

    def member_terms(
        state: dict[str, Tensor], inputs: tuple[Layers, Layers, Tensor], scalars: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        given = case.context(scalars)
        terms: dict[str, Tensor] = functional_call(members[0], state, (*inputs, given))
        return _all_scalars(terms, members[0], given)

    if not loop[0]:  # `vmap` wants a tensor
        return
    with case.explained(), no_vmap_fallback():
        parameters, buffers = stack_module_state([*members])
        terms = vmap(member_terms)({**parameters, **buffers}, stacked_batches, stacked_scalars)
    for name, values in terms.items():
        if not case.close(values, torch.stack([alone[name] for alone in loop])):
            raise case.fault(
                f"the term {name!r} of a run depends on the other runs that train beside it; keep what "
                "differs between runs in parameters and buffers, and nothing on the class or module"
            )


def forgotten_need(case: Case) -> frozenset[Need]:
    """The smallest set of needs with which `terms` works; empty without such a set."""
    others = [need for need in get_args(Need) if need not in case.needs]
    for count in range(1, len(others) + 1):
        for needs in combinations(others, count):
            try:
                for rule in (terms_are_finite_scalars, terms_move_the_student):
                    rule(replace(case, needs=case.needs | {*needs}))
            except MethodError:
                continue
            return frozenset(needs)
    return frozenset()


@contextmanager
def no_vmap_fallback() -> Iterator[None]:
    """An operation without a batching rule is an error, and not a slow loop."""
    functorch: Any = torch._C._functorch
    before = functorch._is_vmap_fallback_enabled()
    functorch._set_vmap_fallback_enabled(False)
    try:
        yield
    finally:
        functorch._set_vmap_fallback_enabled(before)


def _all_scalars(terms: Mapping[str, Tensor], method: Method, given: Context) -> dict[str, Tensor]:
    """The terms and the factors of a batch."""
    factors = {f"factor of {name}": value for name, value in method.factors(given).items()}
    return {**terms, **factors}


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in one.items()
    )


AT_START: tuple[Rule, ...] = (
    terms_are_finite_scalars,
    terms_and_weights_match,
    factors_are_scalars_of_terms,
    inputs_stay_as_they_are,
    terms_move_the_student,
    terms_draw_nothing,
    a_seed_gives_one_method,
    order_does_not_matter,
    padding_does_not_count,
    a_population_equals_a_loop,
)
"""The rules that every method keeps before a study prepares anything."""
READING_RULES = (terms_are_finite_scalars, terms_move_the_student)
"""The rules that a method without its needs breaks."""


def check_case(rule: Rule, case: Case) -> None:
    """Check one rule. Raises `MethodError`; a forgotten need is named by itself."""
    try:
        rule(case)
    except MethodError as error:
        needs = forgotten_need(case) if rule in READING_RULES else frozenset()
        if not needs:
            raise
        written = ", ".join(f'"{need}"' for need in sorted(case.kind.needs | needs))
        raise case.fault(
            f"`terms` reads outputs that `needs` does not name; write needs = frozenset({{{written}}})"
            + (' (or "last-qkv" for the last layer alone)' if "qkv" in needs else ""),
            "terms",
        ) from error


@cache
def check_at_start(kind: type[Method]) -> None:
    """Check the rules of `AT_START` in fp32. Raises `MethodError` for the first that is broken."""
    with one_thread():
        for case in cases(kind):
            for rule in AT_START:
                check_case(rule, case)
