"""Draws of methods (layer maps, mixing weights, projections): their laws, over many seeds."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from harness.method import Method, Shapes, Value
from harness.registry.discovery import registry
from harness.runtime.randomness import generator

SHAPES = Shapes(6, 4, 3, 4, 2)


def build(name: str, shapes: Shapes, seed: int | str) -> Method:
    structure: dict[str, Value] = {"normalised": True, "compared": "layer-wise"}
    return registry().resolve(name)(shapes, structure, generator("draws", seed))


def assert_all_maps_are_equally_likely(maps: Iterable[tuple[int, ...]]) -> None:
    """Two of the teacher's layers 1 to 5, counted from 0, in order: ten maps."""
    counts = Counter(maps)
    assert set(counts) == set(combinations(range(5), 2))
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_random_maps_are_increasing_and_equally_likely() -> None:
    drawn = [build("random-map", SHAPES, seed).get_buffer("layer_indices") for seed in range(600)]
    assert_all_maps_are_equally_likely(tuple(layers.tolist()) for layers in drawn)


@pytest.mark.parametrize(("m", "n"), [(2, 12), (4, 12), (6, 12), (4, 6), (6, 6)])
def test_a_random_map_is_increasing_and_leaves_the_last_layers_out(m: int, n: int) -> None:
    shapes = Shapes(n, 4, m, 4, 2)
    drawn = [
        build("random-map", shapes, seed).get_buffer("layer_indices").tolist() for seed in range(9)
    ]
    for layers in drawn:
        assert len(layers) == m - 1
        assert layers[0] >= 0
        assert layers[-1] <= n - 2
        assert all(one < two for one, two in pairwise(layers))
    assert len(set(map(tuple, drawn))) > 1 or n == m
    again = build("random-map", shapes, 3).get_buffer("layer_indices")
    assert again.tolist() == drawn[3]


def test_rails_layers_are_drawn_anew_in_every_epoch_and_equally_likely() -> None:
    shapes = Shapes(6, 4, 3, 4, 2, epochs=600)
    drawn = build("rail", shapes, 0).get_buffer("epoch_layers")
    assert drawn.shape == (600, 2)
    assert_all_maps_are_equally_likely(map(tuple, drawn.tolist()))
    following = Counter(one == two for one, two in pairwise(drawn.tolist()))
    assert stats.binomtest(following[True], 599, 0.1).pvalue > 0.01
    assert not torch.equal(drawn, build("rail", shapes, 1).get_buffer("epoch_layers"))
    assert torch.equal(drawn, build("rail", shapes, 0).get_buffer("epoch_layers"))


def test_rails_first_epoch_differs_between_seeds_and_all_maps_are_equally_likely() -> None:
    drawn = [build("rail", SHAPES, seed).get_buffer("epoch_layers")[0] for seed in range(600)]
    assert_all_maps_are_equally_likely(tuple(layers.tolist()) for layers in drawn)


@pytest.mark.parametrize(("m", "n"), [(2, 12), (4, 12), (6, 12), (4, 6), (6, 6)])
def test_rails_layers_are_increasing_and_leave_the_last_one_out(m: int, n: int) -> None:
    drawn = build("rail", Shapes(n, 4, m, 4, 2, epochs=20), 0).get_buffer("epoch_layers")
    assert drawn.shape == (20, m - 1)
    assert drawn.min() >= 0
    assert drawn.max() <= n - 2
    assert (drawn.diff(dim=1) > 0).all()
    assert len(set(map(tuple, drawn.tolist()))) > 1 or n == m


def test_random_mixtures_are_uniform_on_the_simplex() -> None:
    """Dirichlet(1): a weight is Beta(1, n−1), with mean 1/n and variance (n−1)/(n²(n+1))."""
    n, shapes = 6, Shapes(6, 4, 4, 4, 2)
    drawn = [
        build("random-mix", shapes, seed).get_buffer("weights").double() for seed in range(400)
    ]
    rows = torch.cat(drawn).numpy()
    assert rows.shape == (1600, n)
    assert rows.min() >= 0
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=0, atol=1e-6)
    variance = (n - 1) / (n**2 * (n + 1))
    np.testing.assert_allclose(
        rows.mean(axis=0), 1 / n, rtol=0, atol=4 * math.sqrt(variance / 1600)
    )
    np.testing.assert_allclose(rows.var(axis=0), variance, rtol=0.2)
    for weights in rows.T:
        assert stats.kstest(weights, stats.beta(1, n - 1).cdf).pvalue > 0.001
    covariance = np.cov(rows.T)[~np.eye(n, dtype=bool)]
    np.testing.assert_allclose(covariance, -variance / (n - 1), rtol=0, atol=0.15 * variance)
    first = np.array([own[:2].flatten().numpy() for own in drawn])
    between = np.corrcoef(first.T)[:n, n:]
    assert np.abs(between).max() < 4 / math.sqrt(len(drawn))


def test_random_projection_is_gaussian_of_variance_one_over_inputs_and_differs_by_layer() -> None:
    shapes = Shapes(12, 16, 4, 16, 2)
    method = build("random-projection", shapes, "variance")
    drawn = method.get_buffer("projection").double() * math.sqrt(12 * 16)
    assert drawn.shape == (4, 12 * 16, 16)
    assert abs(drawn.mean().item()) < 4 / math.sqrt(drawn.numel())
    assert drawn.var().item() == pytest.approx(1.0, abs=4 * math.sqrt(2 / drawn.numel()))
    assert stats.kstest(drawn.flatten().numpy(), stats.norm.cdf).pvalue > 0.01
    assert not torch.allclose(drawn[0], drawn[1])
    other = build("random-projection", shapes, "another seed")
    assert not torch.equal(method.get_buffer("projection"), other.get_buffer("projection"))
