"""Each method's term against a second float64 implementation: plain loops over METHODS' formulas."""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch

from harness.method import Context, Layers, Method, Shapes, Value
from harness.randomness import generator, global_seed
from harness.registry import registry

Array = npt.NDArray[np.float64]
WIDTH = 5
ALP: dict[str, Value] = {"scaled": True, "detach_attention": False, "value": "raw"}
DEPTHS = [(m, n, b) for m in (2, 3, 4, 6) for n in (6, 12) for b in (1, 7)]


def squared(a: Array, b: Array) -> float:
    """Mean over the width of one pair of states."""
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def unit(a: Array) -> Array:
    return a / math.sqrt(sum(float(x) ** 2 for x in a))


def queries(weights: Mapping[str, Array], state: Array) -> Array:
    return weights["query.weight"] @ state if "query.weight" in weights else state


def alp(
    students: Array, teachers: Array, weights: Mapping[str, Array], options: Mapping[str, Value]
) -> float:
    """mean over examples and j of MSE(u_j, Σ_i softmax_i(⟨u_j, φ(t_i)⟩ / √d) t_i)."""
    phi = weights.get("key.weight", np.eye(teachers.shape[2]))
    root = math.sqrt(teachers.shape[2]) if options["scaled"] else 1.0
    losses = []
    for states, layers in zip(students, teachers, strict=True):
        for state in states:
            query = queries(weights, state)
            keys = [phi @ layer for layer in layers]
            energies = [float(query @ key) / root for key in keys]
            powers = [math.exp(energy - max(energies)) for energy in energies]
            fused = np.zeros(teachers.shape[2])
            for power, key, layer in zip(powers, keys, layers, strict=True):
                value = key if options.get("value") == "projected" else layer
                fused += power / sum(powers) * value
            losses.append(squared(query, fused))
    return sum(losses) / len(losses)


def pkd_skip(
    students: Array, teachers: Array, weights: Mapping[str, Array], options: Mapping[str, Value]
) -> float:
    """Student layer j = 1..m−1 against teacher layer j·n/m, both of unit length."""
    m, n = students.shape[1], teachers.shape[1]
    losses = []
    for states, layers in zip(students, teachers, strict=True):
        for j in range(1, m):
            matched = math.floor(Fraction(j * n, m) + Fraction(1, 2))
            losses.append(squared(unit(states[j - 1]), unit(layers[matched - 1])))
    return sum(losses) / len(losses)


def uniform(
    students: Array, teachers: Array, weights: Mapping[str, Array], options: Mapping[str, Value]
) -> float:
    losses = []
    for states, layers in zip(students, teachers, strict=True):
        average = sum(layers[1:], layers[0]) / len(layers)
        losses += [squared(queries(weights, state), average) for state in states]
    return sum(losses) / len(losses)


def random_projection(
    students: Array, teachers: Array, weights: Mapping[str, Array], options: Mapping[str, Value]
) -> float:
    """R_j · concat(t_1..t_n), with R_j (d, n·d) the transpose of the kept buffer."""
    losses = []
    for states, layers in zip(students, teachers, strict=True):
        joined = np.concatenate(list(layers))
        for state, drawn in zip(states, weights["projection"], strict=True):
            losses.append(squared(queries(weights, state), drawn.T @ joined))
    return sum(losses) / len(losses)


ORACLES: dict[str, Callable[..., float]] = {
    "alp": alp,
    "alp-np": alp,
    "pkd-skip": pkd_skip,
    "uniform": uniform,
    "random-projection": random_projection,
}


def build(name: str, shapes: Shapes, options: Mapping[str, Value]) -> Method:
    """A float64 method whose learned maps are away from their initial values."""
    with global_seed("oracle", name):
        method = registry().resolve(name)(shapes, options, generator("oracle", name)).double()
        for parameter in method.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return method


def states(m: int, n: int, examples: int, student_width: int) -> tuple[Array, Array]:
    rng = np.random.default_rng([m, n, examples])
    students = rng.normal(size=(examples, m, student_width)) * 1.5
    return students, rng.normal(size=(examples, n, WIDTH)) * 1.5 + 0.2


def term(method: Method, students: Array, teachers: Array) -> torch.Tensor:
    def layers(values: Array) -> Layers:
        logits = torch.zeros(len(values), 2, dtype=torch.float64)
        return Layers(logits, torch.from_numpy(values))

    labels = torch.zeros(len(students), dtype=torch.int64)
    terms = method(layers(students), layers(teachers), labels, Context(torch.tensor(0), {}))
    assert set(terms) == {"layer"}
    found: torch.Tensor = terms["layer"]
    assert found.dtype == torch.float64
    return found


def weights_of(method: Method) -> dict[str, Array]:
    return {name: value.numpy() for name, value in method.state_dict().items()}


def compare(
    name: str, m: int, n: int, examples: int, width: int, options: Mapping[str, Value]
) -> None:
    method = build(name, Shapes(n, WIDTH, m, width, 2), options)
    students, teachers = states(m, n, examples, width)
    expected = ORACLES[name](students, teachers, weights_of(method), options)
    assert expected > 1e-3
    assert term(method, students, teachers).detach().item() == pytest.approx(
        expected, abs=1e-6, rel=0
    )


def test_every_method_with_a_term_here_has_an_oracle() -> None:
    ours = {
        name
        for name, method in registry().methods.items()
        if method.matches_layers() and method.__module__.startswith("methods.")
    }
    assert ours == set(ORACLES)


@pytest.mark.parametrize(("m", "n", "examples"), DEPTHS)
@pytest.mark.parametrize("name", ORACLES)
def test_terms_equal_plain_loops(name: str, m: int, n: int, examples: int) -> None:
    compare(name, m, n, examples, WIDTH, ALP)


@pytest.mark.parametrize(("m", "n", "examples"), DEPTHS)
@pytest.mark.parametrize("name", ["alp", "uniform", "random-projection"])
@pytest.mark.parametrize("width", [3, 8])
def test_terms_equal_plain_loops_with_different_widths(
    name: str, width: int, m: int, n: int, examples: int
) -> None:
    compare(name, m, n, examples, width, ALP)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("value", ["raw", "projected"])
@pytest.mark.parametrize("width", [WIDTH, 3])
def test_alps_options_equal_plain_loops(scaled: bool, value: str, width: int) -> None:
    compare("alp", 4, 6, 7, width, {**ALP, "scaled": scaled, "value": value})


def test_alp_nps_unscaled_attention_equals_plain_loops() -> None:
    compare("alp-np", 4, 6, 7, WIDTH, {**ALP, "scaled": False})


@pytest.mark.parametrize(("name", "value"), [("alp", "raw"), ("alp", "projected"), ("alp-np", "")])
def test_detaching_the_attention_changes_the_gradient_and_not_the_value(
    name: str, value: str
) -> None:
    students, teachers = states(4, 6, 7, WIDTH)
    values, gradients = [], []
    for detached in (False, True):
        options = {**ALP, "value": value, "detach_attention": detached}
        method = build(name, Shapes(6, WIDTH, 4, WIDTH, 2), options)
        queried = torch.from_numpy(students).requires_grad_()
        layers = [Layers(torch.zeros(7, 2), s) for s in (queried, torch.from_numpy(teachers))]
        labels = torch.zeros(7, dtype=torch.int64)
        loss = method(*layers, labels, Context(torch.tensor(0), {}))["layer"]
        (gradient,) = torch.autograd.grad(loss, queried)
        values.append(loss.detach().item())
        gradients.append(gradient)
    assert values[0] == values[1]
    assert not torch.allclose(*gradients, rtol=1e-3)


def test_random_projection_is_gaussian_of_variance_one_over_inputs_and_differs_by_layer() -> None:
    kind = registry().resolve("random-projection")
    method = kind(Shapes(12, 16, 4, 16, 2), {}, generator("variance"))
    drawn = method.get_buffer("projection").double() * math.sqrt(12 * 16)
    assert drawn.shape == (4, 12 * 16, 16)
    assert abs(drawn.mean().item()) < 4 / math.sqrt(drawn.numel())
    assert drawn.var().item() == pytest.approx(1.0, abs=4 * math.sqrt(2 / drawn.numel()))
    assert not torch.allclose(drawn[0], drawn[1])
    other = kind(Shapes(12, 16, 4, 16, 2), {}, generator("another seed"))
    assert not torch.equal(method.get_buffer("projection"), other.get_buffer("projection"))
