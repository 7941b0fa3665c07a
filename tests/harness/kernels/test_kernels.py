"""Each kernel against plain PyTorch, values and gradients: on a GPU, or by Triton's interpreter."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

pytest.importorskip("triton", reason="Triton is not installed")

from harness.kernels.adamw import adamw_update, bias_corrections, squared_norms
from harness.kernels.bias import bias_gelu, bias_heads
from harness.kernels.dropout import dropout_mask
from harness.kernels.normalisation import Form, add_norm, norm_dropout
from harness.kernels.softmax import softmax_dropout
from harness.models.kernel_operations import times_transposed
from harness.runtime.randomness import DropoutKey

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MEMBERS, EXAMPLES, LENGTH, WIDTH, HEADS = 3, 2, 5, 12, 4
SHAPE = (MEMBERS, EXAMPLES, LENGTH, WIDTH)
LEVELS, SITE = 26, 4


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, device=DEVICE).requires_grad_()


def key() -> DropoutKey:
    made = DropoutKey([1, 2, 30], DEVICE)
    made.step = 5
    return made


def plain_mask(*shape: int) -> Tensor:
    """The mask as the CPU makes it."""
    on_cpu = DropoutKey([1, 2, 30])
    on_cpu.step = 5
    return on_cpu.mask(SITE, shape, LEVELS, torch.float32).to(DEVICE)


def assert_same(found: list[Tensor], expected: list[Tensor], leaves: list[Tensor]) -> None:
    """Outputs are the same, and so are the gradients of their sum with random factors."""
    factors = [torch.randn_like(values) for values in expected]
    sums = [
        sum((values * factor).sum() for values, factor in zip(outputs, factors, strict=True))
        for outputs in (found, expected)
    ]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(total, leaves, retain_graph=True) for total in sums]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [SHAPE, (3, 4, 2, 6, 6), (3, 7, 5), (3, 2, 1500)])
@pytest.mark.parametrize("levels", [1, 26, 255])
def test_masks_are_those_of_the_cpu_bit_by_bit(shape: tuple[int, ...], levels: int) -> None:
    on_cpu = DropoutKey([1, 2, 30])
    on_cpu.step = 5
    expected = on_cpu.mask(SITE, shape, levels, torch.float32)
    found = dropout_mask(shape, key().dropout(SITE, shape, levels), torch.float32)
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("length", [4, 7])
def test_masks_of_first_rows_and_of_parts_are_parts_of_whole_masks(length: int) -> None:
    whole = plain_mask(MEMBERS, 6, 2, length, length)
    parts = key()
    parts.part = (1, 4, 6)
    shape = (MEMBERS, 3, 2, 1, length)
    first = dropout_mask(shape, parts.dropout(SITE, shape, LEVELS, length), torch.float32)
    assert torch.equal(first, whole[:, 1:4, :, :1])
    shape = (MEMBERS, 3, 2, length, length)
    part = dropout_mask(shape, parts.dropout(SITE, shape, LEVELS), torch.float32)
    assert torch.equal(part, whole[:, 1:4])


@pytest.mark.parametrize("drops", [True, False], ids=["dropout", "no dropout"])
@pytest.mark.parametrize("has_firsts", [True, False], ids=["first tokens", "all tokens"])
def test_normalisation_of_a_sum(drops: bool, has_firsts: bool) -> None:
    product, residual, bias, scale, shift = (
        *(drawn(*SHAPE) for _ in range(2)),
        *(drawn(MEMBERS, 2 * WIDTH) for _ in range(3)),
    )
    bias_part, scale_part, shift_part = (values[:, WIDTH:] for values in (bias, scale, shift))
    dropout = key().dropout(SITE, SHAPE, LEVELS) if drops else None
    form = Form(1e-12, dropout, None, has_firsts)
    full, half, firsts = add_norm(product, bias_part, residual, scale_part, shift_part, form)
    assert half is None
    sums = product + bias_part[:, None, None]
    sums = (sums * plain_mask(*SHAPE) if drops else sums) + residual
    expected = F.layer_norm(sums, (WIDTH,), eps=1e-12)
    expected = expected * scale_part[:, None, None] + shift_part[:, None, None]
    leaves = [product, residual, bias, scale, shift]
    if firsts is None:
        assert_same([full], [expected], leaves)
    else:
        assert_same([full, firsts], [expected, expected[:, :, :1]], leaves)
        (alone,) = torch.autograd.grad(firsts.square().sum(), [product], retain_graph=True)
        (other,) = torch.autograd.grad(expected[:, :, :1].square().sum(), [product])
        torch.testing.assert_close(alone, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("drops", [True, False], ids=["dropout", "no dropout"])
def test_dropout_of_a_normalisation_in_two_precisions(drops: bool) -> None:
    values, scale, shift = drawn(*SHAPE), drawn(MEMBERS, WIDTH), drawn(MEMBERS, WIDTH)
    dropout = key().dropout(SITE, SHAPE, LEVELS) if drops else None
    full, half, _ = norm_dropout(values, scale, shift, Form(1e-12, dropout, torch.bfloat16))
    assert half is not None
    assert half.dtype == torch.bfloat16
    expected = F.layer_norm(values, (WIDTH,), eps=1e-12)
    expected = expected * scale[:, None, None] + shift[:, None, None]
    expected = expected * plain_mask(*SHAPE) if drops else expected
    torch.testing.assert_close(half.float(), expected, atol=1e-2, rtol=1e-2)
    halves = [part.to(torch.bfloat16) for part in (full, expected)]
    assert_same([full], [expected], [values, scale, shift])
    factor = torch.randn_like(halves[0])
    found, other = (
        torch.autograd.grad((part * factor).sum(), [values])[0]
        for part in (
            norm_dropout(values, scale, shift, Form(1e-12, dropout, torch.bfloat16))[1],
            _norm(values, scale, shift, drops).to(torch.bfloat16),
        )
    )
    torch.testing.assert_close(found, other, atol=1e-5, rtol=1e-4)


def _norm(values: Tensor, scale: Tensor, shift: Tensor, drops: bool) -> Tensor:
    outputs = F.layer_norm(values, (WIDTH,), eps=1e-12) * scale[:, None, None]
    outputs = outputs + shift[:, None, None]
    return outputs * plain_mask(*SHAPE) if drops else outputs


@pytest.mark.parametrize("drops", [True, False], ids=["dropout", "no dropout"])
@pytest.mark.parametrize("rows", [LENGTH, 1], ids=["all tokens", "the first token"])
def test_shares_of_attention(drops: bool, rows: int) -> None:
    scores = drawn(MEMBERS * EXAMPLES * HEADS, rows, LENGTH)
    padding = torch.zeros(MEMBERS * EXAMPLES, LENGTH, dtype=torch.uint8, device=DEVICE)
    padding[1, 3:], padding[2], padding[4, 1:] = 1, 1, 1
    full = (MEMBERS, EXAMPLES, HEADS, LENGTH, LENGTH)
    shape = (*full[:3], rows, LENGTH)
    dropout = key().dropout(SITE, shape, LEVELS, LENGTH if rows == 1 else None)
    found = softmax_dropout(scores, padding, MEMBERS, 0.3, dropout if drops else None)
    least = torch.zeros(padding.shape, device=DEVICE).masked_fill(
        padding > 0, torch.finfo(torch.float32).min
    )
    sums = scores.unflatten(0, (-1, HEADS)) * 0.3 + least[:, None, None]
    expected = sums.softmax(-1).flatten(0, 1)
    if drops:
        expected = expected * plain_mask(*full)[..., :rows, :].flatten(0, 2)
    assert_same([found], [expected], [scores])


def test_gradients_of_shares_that_lie_column_by_column() -> None:
    scores = drawn(MEMBERS * EXAMPLES, 4, LENGTH)
    padding = torch.zeros(MEMBERS * EXAMPLES, LENGTH, dtype=torch.uint8, device=DEVICE)
    gradient = torch.randn(MEMBERS * EXAMPLES, LENGTH, 4, device=DEVICE).transpose(1, 2)
    results = [softmax_dropout(scores, padding, MEMBERS, 0.3), (0.3 * scores).softmax(-1)]
    found, expected = (torch.autograd.grad(result, [scores], gradient) for result in results)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_split_of_heads(parts: int) -> None:
    product = drawn(MEMBERS, EXAMPLES, LENGTH, parts * WIDTH)
    bias = drawn(MEMBERS, 4 * WIDTH)
    part_bias = bias[:, WIDTH : (1 + parts) * WIDTH]
    sums = (product + part_bias[:, None, None]).unflatten(-1, (parts, HEADS, -1))
    expected = sums.permute(3, 0, 1, 4, 2, 5).flatten(1, 3).unbind(0)
    found = bias_heads(product, part_bias, HEADS, parts)
    assert_same([*found], [*expected], [product, bias])


def test_gelu_of_a_sum() -> None:
    product, bias = drawn(MEMBERS, EXAMPLES, LENGTH, 150), drawn(MEMBERS, 160)
    found = bias_gelu(product, bias[:, 10:])
    assert_same([found], [F.gelu(product + bias[:, None, None, 10:])], [product, bias])


def test_gradients_of_products_have_the_layout_of_their_factors() -> None:
    left, right = drawn(MEMBERS, LENGTH, WIDTH), drawn(MEMBERS, HEADS, WIDTH)
    found = times_transposed(left, right)
    assert_same([found], [left @ right.transpose(1, 2)], [left, right])
    gradients = torch.autograd.grad(found.sum(), [left, right])
    assert all(gradient.is_contiguous() for gradient in gradients)


def test_updates_are_those_of_adamw_with_clipping() -> None:
    """Two leaves; the second one's parts belong to the last two of three members."""
    starts = [torch.randn(3, 40, 50, device=DEVICE), torch.randn(2, 7, device=DEVICE)]
    ours = [values.clone() for values in starts]
    moments = [(torch.zeros_like(values), torch.zeros_like(values)) for values in ours]
    rates, decays, clip = torch.tensor([1e-2, 3e-2, 5e-2], device=DEVICE), (0.1, 0.0), 0.7
    alone = [
        [starts[0][row].clone().requires_grad_()]
        + ([starts[1][row - 1].clone().requires_grad_()] if row else [])
        for row in range(3)
    ]
    adams = [
        AdamW(
            [{"params": [part], "weight_decay": decays[i]} for i, part in enumerate(parts)],
            lr=float(rates[row]),
        )
        for row, parts in enumerate(alone)
    ]
    for step in range(4):
        gradients = [0.1 * torch.randn_like(values) for values in starts]
        norms = squared_norms([(0, gradients[0]), (1, gradients[1])], 3)
        for row, parts in enumerate(alone):
            own = [gradients[0][row], *([gradients[1][row - 1]] if row else [])]
            total = sum(float(values.double().square().sum()) for values in own)
            assert float(norms[row]) == pytest.approx(total, rel=1e-5)
            for part, gradient in zip(parts, own, strict=True):
                part.grad = gradient.clone()
            torch.nn.utils.clip_grad_norm_(parts, clip)
            adams[row].step()
        for number, (first, gradient) in enumerate(zip((0, 1), gradients, strict=True)):
            adamw_update(
                *(ours[number], gradient, *moments[number], norms[first:], rates[first:]),
                corrections=torch.tensor(bias_corrections(step), device=DEVICE),
                decay=decays[number],
                clip_norm=clip,
            )
    for row, parts in enumerate(alone):
        torch.testing.assert_close(ours[0][row], parts[0].detach(), atol=1e-5, rtol=1e-5)
        if row:
            torch.testing.assert_close(ours[1][row - 1], parts[1].detach(), atol=1e-5, rtol=1e-5)


def test_updates_are_exact_to_the_precision_of_fp32() -> None:
    """The first moments and the decay of weights, by hand in double precision."""
    weights, gradients = torch.ones(1, 8, device=DEVICE), torch.full((1, 8), 0.5, device=DEVICE)
    means, squares = torch.zeros_like(weights), torch.zeros_like(weights)
    one, first = torch.ones(1, device=DEVICE), torch.tensor(bias_corrections(0), device=DEVICE)
    adamw_update(weights, gradients, means, squares, one, one * 1e-3, first, 0.0, 10.0)
    expected = {0.05: means, 0.25 * 0.001: squares, 1 - 1e-3: weights}
    for number, values in expected.items():
        torch.testing.assert_close(
            values.double(), torch.full_like(values, number, dtype=torch.float64), atol=0, rtol=2e-7
        )
    # Without gradients a weight of 0.75 loses rate * decay = 3.4 units of its last place in a step.
    unit = 2.0**-24
    weights, gradients = torch.full_like(weights, 0.75), torch.zeros_like(weights)
    rate, decay = 3.4 * unit / 0.75, 1.0
    for _ in range(100):
        adamw_update(
            *(weights, gradients, torch.zeros_like(weights), torch.zeros_like(weights)),
            *(one, one * rate, first, decay, 10.0),
        )
    torch.testing.assert_close(weights, 0.75 - torch.full_like(weights, 300 * unit), atol=0, rtol=0)


def test_a_gradient_that_is_no_number_spoils_all_weights_of_its_member() -> None:
    """As clipping in PyTorch does, so that no part of such a member seems to train on."""
    weights, gradients = torch.ones(2, 8, device=DEVICE), torch.ones(2, 8, device=DEVICE)
    gradients[1, 3] = torch.nan
    means, squares = torch.zeros_like(weights), torch.zeros_like(weights)
    norms, rates = squared_norms([(0, gradients)], 2), torch.full((2,), 1e-3, device=DEVICE)
    first = torch.tensor(bias_corrections(0), device=DEVICE)
    adamw_update(weights, gradients, means, squares, norms, rates, first, 0.0, 10.0)
    assert weights[0].isfinite().all()
    assert weights[1].isnan().all()


def test_second_gradients_are_refused() -> None:
    """Kernels leave no graph, so a second gradient would lack their part."""
    values, bias = drawn(MEMBERS, LENGTH, WIDTH), drawn(MEMBERS, WIDTH)
    scale, shift = drawn(MEMBERS, WIDTH), drawn(MEMBERS, WIDTH)
    padding = torch.zeros(MEMBERS, WIDTH, dtype=torch.uint8, device=DEVICE)
    results = [
        bias_gelu(values, bias),
        bias_heads(values[:, None], bias, HEADS, 1)[0],
        norm_dropout(values[:, None], scale, shift, Form(1e-12))[0],
        softmax_dropout(values, padding, MEMBERS, 0.3),
    ]
    for result in results:
        (gradient,) = torch.autograd.grad(result.square().sum(), [values], create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            (gradient + values).sum().backward()
