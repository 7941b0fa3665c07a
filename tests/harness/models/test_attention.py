"""Dropped attention: the numbers of the plain product, and what is kept for its gradient."""

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from harness.models.attention import masked_product


def factors(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    shares = torch.randn(6, 5, 7, dtype=dtype).softmax(dim=-1).requires_grad_()
    values = torch.randn(6, 7, 4, dtype=dtype, requires_grad=True)
    return shares, (torch.rand(6, 5, 7) > 0.1).to(dtype) / 0.9, values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_product_and_its_gradients_are_the_plain_ones_to_the_bit(dtype: torch.dtype) -> None:
    shares, mask, values = factors(dtype)
    weights = torch.randn(6, 5, 4).to(dtype)
    found, plain = masked_product(shares, mask, values), torch.bmm(shares * mask, values)
    assert torch.equal(found, plain)
    for ours, expected in zip(
        torch.autograd.grad((found * weights).sum(), (shares, values)),
        torch.autograd.grad((plain * weights).sum(), (shares, values)),
        strict=True,
    ):
        assert torch.equal(ours, expected)


def test_the_gradients_are_those_of_differences() -> None:
    shares, mask, values = factors(torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: masked_product(a, mask, b), (shares, values))


def test_no_copy_of_the_dropped_shares_is_kept() -> None:
    logits = torch.randn(6, 5, 7, requires_grad=True)
    _, mask, values = factors(torch.float32)
    kept: dict[int, tuple[int, ...]] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tuple(tensor.shape)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        product = masked_product(logits.softmax(dim=-1), mask, values)
    product.sum().backward()
    assert sorted(kept.values()) == [(6, 5, 7), (6, 5, 7), (6, 7, 4)]  # shares, mask, values
