"""The stacked engine with kernels against the same engine without them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedConfig

pytest.importorskip("triton", reason="Triton is not installed")

from harness.config import TrainingConfig
from harness.method import Need, Pooling
from harness.models.kernel_operations import KernelOperations
from harness.models.network import Leaf
from harness.models.operations import PlainOperations
from harness.models.stacked import StackedClassifier
from harness.runtime.randomness import DropoutKey
from harness.training.kernel_optimizer import KernelOptimizer
from harness.training.member_optimizer import MemberOptimizer
from harness.training.optimizer import Optimizer, make_optimizer
from harness.training.rates import Rates
from tests.harness.models.test_stacked import CONFIGS, batch_of, models_of

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
EVERYTHING: frozenset[Need] = frozenset({"tokens", "scores", "qkv"})


@pytest.fixture
def choose_kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Choose whether what is made from now on computes by kernels."""

    def choose(has_kernels: bool) -> None:
        for module in (
            "harness.models.stacked",
            "harness.runtime.randomness",
            "harness.training.optimizer",
        ):
            monkeypatch.setattr(f"{module}.has_kernels", lambda device: has_kernels)

    return choose


def small_batch(config: PreTrainedConfig, members: int) -> dict[str, Tensor]:
    batch = batch_of(config, members, width=5)
    return {name: values[:, :2].to(DEVICE) for name, values in batch.items()}


def run(
    config: PreTrainedConfig,
    dtype: torch.dtype,
    key: DropoutKey | None,
    pooling: Pooling | None,
    needs: frozenset[Need],
) -> tuple[StackedClassifier, dict[str, Tensor]]:
    """A classifier of two members after a backward pass, with its outputs and gradients by name."""
    models = models_of(config, 2)
    batch = small_batch(config, 2)
    weights = [model.state_dict() for model in models]
    network = StackedClassifier(config, weights, DEVICE, dtype)
    found = network.forward(batch, key, pooling, needs)
    values = {"logits": found.logits, "states": found.states}
    for part in ("tokens", "scores", "queries", "keys", "values"):
        values |= {f"{part} {i}": tensor for i, tensor in enumerate(getattr(found, part))}
    values = {name: tensor for name, tensor in values.items() if tensor.numel()}
    total = sum(tensor.float().square().mean() for tensor in values.values())
    total.backward()
    gradients = {f"gradient of {name}": block.values.grad for name, block in network.blocks.items()}
    gradients["gradient of words"] = network.words.vectors.grad
    values |= {name: gradient for name, gradient in gradients.items() if gradient is not None}
    return network, {name: tensor.detach() for name, tensor in values.items()}


CASES = [
    ("bert", "cls", frozenset()),
    ("bert", "mean", frozenset()),
    ("bert", "cls", EVERYTHING),
    ("roberta", None, frozenset()),
    ("electra, projected", "cls", frozenset()),
    ("other activation", "cls", frozenset()),
    ("distilbert", "cls", frozenset()),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pooling", "needs"), CASES)
@pytest.mark.parametrize("dropout", [False, True], ids=["no dropout", "dropout"])
def test_outputs_and_gradients_are_those_without_kernels(
    choose_kernels: Callable[[bool], None],
    name: str,
    pooling: Pooling | None,
    needs: frozenset[Need],
    dropout: bool,
) -> None:
    results = []
    for has_kernels in (False, True):
        choose_kernels(has_kernels)
        key = DropoutKey([3, 4], DEVICE) if dropout else None
        results.append(run(CONFIGS[name], torch.float32, key, pooling, needs))
    (plain, expected), (kernels, found) = results
    assert isinstance(plain.operations, PlainOperations)
    assert isinstance(kernels.operations, KernelOperations)
    assert set(found) == set(expected)
    for part, values in expected.items():
        torch.testing.assert_close(
            found[part], values, atol=2e-5, rtol=1e-4, msg=lambda text, part=part: f"{part}: {text}"
        )


def test_modernberts_layers_have_no_kernels(choose_kernels: Callable[[bool], None]) -> None:
    """Its masks of dropout come from kernels all the same, and are those of PyTorch's operations."""
    results = []
    for has_kernels in (False, True):
        choose_kernels(has_kernels)
        key = DropoutKey([3, 4], DEVICE)
        config = CONFIGS["modernbert, mean"]
        results.append(run(config, torch.float32, key, "cls", frozenset({"tokens", "qkv"})))
    (plain, expected), (kernels, found) = results
    assert isinstance(plain.operations, PlainOperations)
    assert isinstance(kernels.operations, PlainOperations)
    assert set(found) == set(expected)
    for part, values in expected.items():
        torch.testing.assert_close(found[part], values, atol=2e-5, rtol=1e-4)


@pytest.mark.slow
def test_in_bf16_they_are_as_near_to_fp32(choose_kernels: Callable[[bool], None]) -> None:
    choose_kernels(False)
    _, exact = run(CONFIGS["bert"], torch.float32, None, "cls", EVERYTHING)
    errors = []
    for has_kernels in (False, True):
        choose_kernels(has_kernels)
        _, found = run(CONFIGS["bert"], torch.bfloat16, None, "cls", EVERYTHING)
        distances = [
            float((found[part].float() - values).norm() / values.norm())
            for part, values in exact.items()
        ]
        errors.append(sum(distances) / len(distances))
    plain, kernels = errors
    # The interpreter rounds to bf16 towards 0, which doubles an error; a GPU rounds to the nearest.
    assert 0 < kernels < (1.2 if DEVICE.type == "cuda" else 2.4) * plain < 0.05


def gradients_of_products(
    network: StackedClassifier, config: PreTrainedConfig, passes: int = 1
) -> Tensor:
    """The gradients of the weights in bf16 products, after backward passes of equal batches."""
    for _ in range(passes):
        found = network.forward(small_batch(config, 2), None, None)
        found.logits.square().mean().backward()
    gradients = network.blocks["products"].values.grad
    assert gradients is not None
    return gradients


def test_bf16_gradients_are_not_cast_for_the_optimiser_with_kernels(
    choose_kernels: Callable[[bool], None],
) -> None:
    choose_kernels(True)
    config, training = CONFIGS["bert"], TrainingConfig()
    weights = [model.state_dict() for model in models_of(config, 2)]

    def make() -> StackedClassifier:
        return StackedClassifier(config, weights, DEVICE, torch.bfloat16)

    cast = gradients_of_products(make(), config)
    network = make()
    KernelOptimizer(network.leaves(), Rates([1e-3, 1e-3], 4, training.warmup), training)
    arrived = gradients_of_products(network, config)
    assert (cast.dtype, arrived.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(arrived.float(), cast)
    network = make()
    KernelOptimizer(network.leaves(), Rates([1e-3, 1e-3], 4, training.warmup), training)
    for leaf in network.leaves():
        leaf.tensor.grad_dtype = torch.float32
    assert torch.equal(gradients_of_products(network, config, passes=3), 3 * cast)


def trained(
    make: Callable[..., Optimizer], keep_at: int, half: torch.dtype | None = None
) -> list[Tensor]:
    """Leaves after four steps; before step `keep_at` the second of three members leaves.

    With `half` the gradients are numbers of bf16, in this dtype.
    """
    torch.manual_seed(0)
    matrices = torch.randn(3, 6, 5, device=DEVICE).requires_grad_()
    vectors = torch.randn(3, 5, device=DEVICE).requires_grad_()
    own = torch.randn(1, 4, device=DEVICE).requires_grad_()  # the last member's alone
    unused = torch.randn(3, 4, device=DEVICE).requires_grad_()
    leaves = [Leaf(matrices, True), Leaf(vectors, False), Leaf(own, True, 2), Leaf(unused, True)]
    training = TrainingConfig(weight_decay=0.1, warmup=0.5, clip_norm=0.5)
    optimizer = make(leaves, Rates([1e-2, 2e-2, 3e-2], 4, training.warmup), training)
    for step in range(4):
        if step == keep_at:
            kept = [
                leaf.values[[0, 2]] if len(leaf.values) == 3 else leaf.values for leaf in leaves
            ]
            leaves = [
                Leaf(values.clone().requires_grad_(), leaf.has_decay, min(leaf.first, 1))
                for values, leaf in zip(kept, leaves, strict=True)
            ]
            optimizer.keep([0, 2], leaves)
        for number, leaf in enumerate(leaves[:3]):
            torch.manual_seed(10 * step + number)
            gradient = torch.randn(3, *leaf.values.shape[1:], device=DEVICE)
            if half is not None:
                gradient = gradient.bfloat16().to(half)
            rows = [0, 2] if step >= keep_at else [0, 1, 2]
            leaf.tensor.grad = gradient[rows if len(leaf.values) > 1 else [2]]
        optimizer.step(torch.from_numpy(optimizer.begin(step)).to(DEVICE))
        assert all(leaf.tensor.grad is None for leaf in leaves)
    return [leaf.values for leaf in leaves]


@pytest.mark.parametrize("keep_at", [2, 9], ids=["a member leaves", "all stay"])
def test_the_optimiser_with_kernels_is_the_one_without(keep_at: int) -> None:
    expected, found = trained(MemberOptimizer, keep_at), trained(KernelOptimizer, keep_at)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_bf16_gradients_give_the_steps_of_the_same_numbers_in_fp32() -> None:
    found, expected = (
        trained(KernelOptimizer, 2, half) for half in (torch.bfloat16, torch.float32)
    )
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_the_choice_of_the_optimiser(choose_kernels: Callable[[bool], None]) -> None:
    leaves = [Leaf(torch.zeros(1, 3, device=DEVICE).requires_grad_(), True)]
    loose = [Leaf(torch.zeros(3, device=DEVICE).requires_grad_(), True, is_stacked=False)]
    choose_kernels(True)
    assert isinstance(make_optimizer(leaves, [1e-3], 4, TrainingConfig()), KernelOptimizer)
    assert isinstance(make_optimizer(loose, [1e-3], 4, TrainingConfig()), MemberOptimizer)
    choose_kernels(False)
    assert isinstance(make_optimizer(leaves, [1e-3], 4, TrainingConfig()), MemberOptimizer)
