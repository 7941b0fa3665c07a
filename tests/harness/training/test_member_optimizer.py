"""The optimiser of populations: each member is clipped, stepped and kept as if it were alone."""

import pytest
import torch
from torch import Tensor
from torch.optim import AdamW

from harness.config import TrainingConfig
from harness.models.network import Leaf
from harness.training.member_optimizer import MemberOptimizer
from harness.training.rates import Rates

STEPS = 6
RATES = (1e-2, 3e-2, 5e-2)
TRAINING = TrainingConfig(weight_decay=0.1, warmup=0.5, clip_norm=0.5)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def leaves_of(members: list[int]) -> list[Leaf]:
    """A matrix with decay and a vector without for each member, and a matrix of the last one alone."""
    matrices = torch.stack([drawn(member, 4, 3) for member in members]).requires_grad_()
    vectors = torch.stack([drawn(10 + member, 5) for member in members]).requires_grad_()
    last = drawn(20 + members[-1], 1, 2, 2).requires_grad_()
    return [Leaf(matrices, True), Leaf(vectors, False), Leaf(last, True, first=len(members) - 1)]


def set_gradients(leaves: list[Leaf], members: list[int], number: int) -> None:
    """Give every member's parts the gradients that it has at a step, whoever else is there."""
    for position, leaf in enumerate(leaves):
        parts = members[leaf.first : leaf.first + len(leaf.values)]
        shape = leaf.values.shape[1:]
        seeds = [1000 * number + 100 * position + member for member in parts]
        leaf.tensor.grad = torch.stack([drawn(seed, *shape) for seed in seeds])


def made(leaves: list[Leaf]) -> MemberOptimizer:
    return MemberOptimizer(leaves, Rates(RATES, STEPS, TRAINING.warmup), TRAINING)


def do_step(optimizer: MemberOptimizer, number: int) -> None:
    optimizer.step(torch.from_numpy(optimizer.begin(number)))


def train(optimizer: MemberOptimizer, leaves: list[Leaf], members: list[int], steps: range) -> None:
    for number in steps:
        set_gradients(leaves, members, number)
        do_step(optimizer, number)


def parts(leaves: list[Leaf], row: int) -> list[Tensor]:
    return [
        leaf.values[row - leaf.first]
        for leaf in leaves
        if leaf.first <= row < leaf.first + len(leaf.values)
    ]


def test_a_members_steps_are_those_of_a_plain_adamw_with_clipping() -> None:
    members = [0, 1, 2]
    leaves = leaves_of(members)
    optimizer = made(leaves)
    plain = [[part.clone().requires_grad_() for part in parts(leaves, row)] for row in members]
    assert [len(own) for own in plain] == [2, 2, 3]
    adams = [
        AdamW([{"params": own[0::2]}, {"params": own[1:2], "weight_decay": 0.0}], weight_decay=0.1)
        for own in plain
    ]
    shares = [1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3]  # up in half of the steps, then down
    for number in range(STEPS):
        set_gradients(leaves, members, number)
        for row, (own, adam, rate) in enumerate(zip(plain, adams, RATES, strict=True)):
            for view, leaf in zip(own, leaves, strict=False):
                assert leaf.tensor.grad is not None
                view.grad = leaf.tensor.grad[row - leaf.first].clone()
            norm = torch.nn.utils.clip_grad_norm_(own, 0.5)
            assert norm > 0.5
            for group in adam.param_groups:
                group["lr"] = rate * shares[number]
            adam.step()
        do_step(optimizer, number)
        assert optimizer.rates.at(number) == pytest.approx(
            [rate * shares[number] for rate in RATES]
        )
        assert all(leaf.tensor.grad is None for leaf in leaves)
    for row, own in enumerate(plain):
        for found, expected in zip(parts(leaves, row), own, strict=True):
            torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rows", [[0, 2], [2], [1, 2]])
def test_members_that_go_on_keep_moments_steps_and_rates(rows: list[int]) -> None:
    members = [0, 1, 2]
    whole = leaves_of(members)
    undisturbed = made(whole)
    train(undisturbed, whole, members, range(STEPS))
    before = leaves_of(members)
    optimizer = made(before)
    train(optimizer, before, members, range(3))
    index = torch.tensor(rows)
    after = [Leaf(leaf.values[index].requires_grad_(), leaf.has_decay) for leaf in before[:2]] + [
        Leaf(before[2].values.clone().requires_grad_(), True, first=len(rows) - 1)
    ]
    optimizer.keep(rows, after)
    train(optimizer, after, rows, range(3, STEPS))
    for new, old in enumerate(rows):
        for found, expected in zip(parts(after, new), parts(whole, old), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-6)
