"""Keys, generators and dropout that depends on its key alone."""

import math

import pytest
import torch
from torch import Tensor, nn

from harness.runtime.randomness import CounterDropout, DropoutKey, derive, generator, global_seed
from harness.runtime.randomness import key_dropout as key_all


def keyed(seed: int = 0, step: int = 0) -> DropoutKey:
    key = DropoutKey([seed])
    key.step = step
    return key


def mask(seed: int = 0, step: int = 0, site: int = 0, p: float = 0.1, size: int = 1000) -> Tensor:
    found: Tensor = CounterDropout(p, site, keyed(seed, step)).train()(torch.ones(size))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_mask_is_a_function_of_seed_step_and_site(seed: int) -> None:
    torch.manual_seed(1)
    first = mask(seed, 5, 2)
    torch.manual_seed(2)
    mask(9, 9, 9)
    torch.rand(7)
    assert torch.equal(first, mask(seed, 5, 2))
    assert not torch.equal(first, mask(seed + 1, 5, 2))
    assert not torch.equal(first, mask(seed, 6, 2))
    assert not torch.equal(first, mask(seed, 5, 3))


def test_keys_are_not_confused_with_each_other() -> None:
    """(1, 23) and (12, 3) and (3, 2, 1) are different draws."""
    masks = [mask(1, 23, 4), mask(12, 3, 4), mask(1, 2, 34), mask(4, 23, 1), mask(23, 1, 4)]
    assert len({tuple(one.tolist()) for one in masks}) == len(masks)


def test_a_mask_does_not_depend_on_the_values_or_their_shape() -> None:
    layer = CounterDropout(0.3, 1, keyed(4, 2)).train()
    flat, square = torch.rand(24) + 1, torch.rand(2, 3, 4) + 1
    assert torch.equal(layer(flat) == 0, (layer(square) == 0).flatten())


def test_nothing_is_drawn_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    mask()
    generator("any", 3)
    assert torch.equal(before, torch.get_rng_state())


def test_the_key_of_a_model_is_read_at_every_call() -> None:
    key = keyed(1, 0)
    layer = CounterDropout(0.5, 0, key).train()
    first = layer(torch.ones(100))
    key.step = 1
    assert torch.equal(layer(torch.ones(100)), mask(1, 1, 0, 0.5, 100))
    assert not torch.equal(layer(torch.ones(100)), first)


@pytest.mark.parametrize(("p", "levels"), [(0.1, 26), (0.5, 128), (0.0, 0), (0.9, 230)])
@pytest.mark.parametrize("seed", [0, 7])
def test_the_rate_is_p_rounded_to_256ths(p: float, levels: int, seed: int) -> None:
    count = 400_003  # not a multiple of the eight bytes drawn together
    rate = levels / 256
    dropped = (mask(seed, 3, 1, p, count) == 0).double().mean().item()
    assert abs(dropped - rate) <= 4 * math.sqrt(rate * (1 - rate) / count)


@pytest.mark.parametrize("place", range(8))
def test_every_byte_of_a_draw_is_dropped_at_the_same_rate(place: int) -> None:
    rate, drawn = 26 / 256, mask(size=800_000)[place::8]
    dropped = (drawn == 0).double().mean().item()
    assert abs(dropped - rate) <= 4.5 * math.sqrt(rate * (1 - rate) / len(drawn))


@pytest.mark.parametrize("other", ["seed", "step", "site", "next byte", "next word"])
def test_masks_are_not_correlated(other: str) -> None:
    """Neighbours in any direction are dropped independently of each other."""
    size, rate = 800_000, 26 / 256
    first = mask(1, 2, 3, size=size) == 0
    second = {
        "seed": lambda: mask(2, 2, 3, size=size),
        "step": lambda: mask(1, 3, 3, size=size),
        "site": lambda: mask(1, 2, 4, size=size),
        "next byte": lambda: mask(1, 2, 3, size=size).roll(1),
        "next word": lambda: mask(1, 2, 3, size=size).roll(8),
    }[other]()
    both = (first & (second == 0)).double().mean().item()
    assert abs(both - rate**2) <= 4.5 * math.sqrt(rate**2 * (1 - rate**2) / size)


def test_bytes_are_uniform() -> None:
    key = keyed(3, 5)
    shares = [
        (key.mask(1, (1, 400_000), level, torch.float32) == 0).double().mean().item()
        for level in range(1, 256)
    ]
    counts = torch.tensor([0.0, *shares, 1.0]).diff() * 400_000
    chi_square = ((counts - 400_000 / 256).square() / (400_000 / 256)).sum().item()
    assert 255 - 4.5 * math.sqrt(510) < chi_square < 255 + 4.5 * math.sqrt(510)


def test_a_members_mask_is_the_one_it_has_alone() -> None:
    together = DropoutKey([4, 9, 2])
    together.step = 7
    masks = together.mask(3, (3, 5, 11), 26, torch.float32)
    for own, seed in zip(masks, (4, 9, 2), strict=True):
        assert torch.equal(own, keyed(seed, 7).mask(3, (1, 5, 11), 26, torch.float32)[0])


@pytest.mark.parametrize("shape", [(2, 5, 16, 8), (2, 3, 7, 24), (2, 3, 5, 7)])
def test_the_first_rows_of_a_mask_are_drawn_without_the_others(shape: tuple[int, ...]) -> None:
    key = DropoutKey([4, 9])
    whole = key.mask(3, shape, 26, torch.float32)
    first = key.mask(3, (*shape[:-2], 1, shape[-1]), 26, torch.float32, full_length=shape[-2])
    assert torch.equal(first, whole[..., :1, :])


def test_expectation_is_preserved() -> None:
    found = mask(size=400_000)
    assert sorted(set(found.tolist())) == pytest.approx([0.0, 256 / 230])
    sigma = 256 / 230 * math.sqrt(26 / 256 * 230 / 256 / 400_000)
    assert abs(found.double().mean().item() - 1) <= 4 * sigma


def test_gradients_pass_through_kept_values_only() -> None:
    values = torch.rand(200, requires_grad=True)
    layer = CounterDropout(0.4, 0, keyed()).train()
    layer(values).sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, mask(p=0.4, size=200))


def test_eval_is_the_identity() -> None:
    layer = CounterDropout(0.5, 0, keyed()).eval()
    values = torch.rand(50)
    assert torch.equal(layer(values), values)
    assert not torch.equal(layer.train()(values), values)


def test_key_dropout_numbers_sites_and_replaces_all() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4), nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.2), nn.ReLU()), nn.Dropout(0.3)
    )
    key = keyed()
    key_all(model, key)
    sites = [module for module in model.modules() if isinstance(module, CounterDropout)]
    assert [(site.site, site.p) for site in sites] == [(0, 0.1), (1, 0.2), (2, 0.3)]
    assert all(site.key is key for site in sites)
    assert not [module for module in model.modules() if isinstance(module, nn.Dropout)]


def test_key_dropout_replaces_a_shared_dropout_everywhere() -> None:
    shared = nn.Dropout(0.5)
    model = nn.ModuleDict({"first": shared, "second": shared})
    key_all(model, keyed())
    assert not [name for name, module in model.items() if isinstance(module, nn.Dropout)]


def test_derived_keys_are_stable_63_bit_and_tell_parts_apart() -> None:
    assert derive("order", 1, 2, 3) == derive("order", 1, 2, 3)
    keys = {derive("a", 1, 23), derive("a", 12, 3), derive("a1", 23), derive("a", 23, 1)}
    assert len(keys) == 4
    assert all(0 <= key < 2**63 for key in keys)


def test_a_key_means_the_same_in_every_process_and_version() -> None:
    """Records of earlier runs stay comparable: changing this changes every result."""
    assert derive("method", 1) == 8909804894747251372


def test_the_global_generator_is_seeded_inside_and_restored_after() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with global_seed("student", 1):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with global_seed("student", 1):
        assert torch.equal(torch.rand(3), first)
    with global_seed("student", 2):
        assert not torch.equal(torch.rand(3), first)
