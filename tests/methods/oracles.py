"""METHODS' formulas a second time: float64, plain loops over examples and layers."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from harness.method import Value

Array = npt.NDArray[np.float64]
Weights = Mapping[str, Array]
Options = Mapping[str, Value]


@dataclass(frozen=True)
class Side:
    """What one model hands out of B examples of at most T tokens.

    `states` (B, layers, width); `tokens` (1 + layers, B, T, width), the embeddings first; `scores`
    (layers, B, heads, T, T); `queries`, `keys`, `values` (layers, B, heads, T, width / heads).
    """

    states: Array
    tokens: Array
    scores: Array
    queries: Array
    keys: Array
    values: Array


@dataclass(frozen=True)
class Batch:
    """One batch: `lengths` without padding, `labels` (B,), numbers where the task is a regression."""

    student: Side
    teacher: Side
    labels: npt.NDArray[np.generic]
    lengths: Sequence[int]
    epoch: int
    temperature: float

    @property
    def depths(self) -> tuple[int, int]:
        """m and n: layers of the student and of the teacher."""
        return self.student.states.shape[1], self.teacher.states.shape[1]

    def examples(self) -> Iterable[tuple[Array, Array]]:
        """States (m, d_S) and (n, d_T) of every example."""
        return zip(self.student.states, self.teacher.states, strict=True)


Oracle = Callable[[Batch, Weights, Options], float]


def average(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def squared(a: Array, b: Array) -> float:
    """Mean over the width of one pair of states."""
    return average((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def unit(a: Array) -> Array:
    return a / math.sqrt(sum(float(x) ** 2 for x in a))


def softmax(energies: Iterable[float]) -> list[float]:
    listed = [float(energy) for energy in energies]
    powers = [math.exp(energy - max(listed)) for energy in listed]
    return [power / sum(powers) for power in powers]


def divergence(target: Sequence[float], found: Sequence[float]) -> float:
    """KL(target ‖ found) of two distributions, summed."""
    return sum(p * (math.log(p) - math.log(q)) for p, q in zip(target, found, strict=True))


def weighted(weights: Iterable[float], layers: Iterable[Array]) -> Array:
    parts = [weight * layer for weight, layer in zip(weights, layers, strict=True)]
    return sum(parts[1:], parts[0])


def query(weights: Weights, state: Array) -> Array:
    return weights["query.weight"] @ state if "query.weight" in weights else state


def half_up(j: int, n: int, m: int) -> int:
    """j·n/m, halves upwards."""
    return math.floor(Fraction(j * n, m) + Fraction(1, 2))


def bucket(j: int, m: int, n: int, overlapping: bool) -> list[int]:
    """C(j), 1-based: the layers between two cuts, and the first one of the next bucket."""
    last = half_up(j, n, m) + (1 if overlapping and j < m else 0)
    return list(range(half_up(j - 1, n, m) + 1, last + 1))


def alp(batch: Batch, weights: Weights, options: Options, kind: str = "all") -> float:
    """Mean over examples and j of MSE(u_j, Σ_{i ∈ C(j)} softmax_i(⟨u_j, φ(t_i)⟩ / √d) t_i)."""
    m, n = batch.depths
    width = batch.teacher.states.shape[2]
    phi = weights.get("key.weight", np.eye(width))
    root = math.sqrt(width) if options["scaled"] else 1.0
    losses = []
    for states, layers in batch.examples():
        for j in range(1, m + 1):
            own = range(1, n + 1) if kind == "all" else bucket(j, m, n, kind == "overlapping")
            asked = query(weights, states[j - 1])
            keys = [phi @ layers[i - 1] for i in own]
            attention = softmax(float(asked @ key) / root for key in keys)
            raw = [layers[i - 1] for i in own]
            fused = weighted(attention, keys if options["value"] == "projected" else raw)
            losses.append(squared(asked, fused))
    return average(losses)


def ckd(batch: Batch, weights: Weights, options: Options, overlapping: bool) -> float:
    """Mean over examples and j of MSE(W_j s_j, concat_{i ∈ C(j)} t_i), or MSE(s_j, V_j concat)."""
    m, n = batch.depths
    losses = []
    for states, layers in batch.examples():
        for j in range(1, m + 1):
            joined = np.concatenate([layers[i - 1] for i in bucket(j, m, n, overlapping)])
            own, linear = states[j - 1], weights[f"maps.{j - 1}.weight"]
            if options["direction"] == "to-teacher":
                losses.append(squared(linear @ own, joined))
            else:
                losses.append(squared(own, linear @ joined))
    return average(losses)


Map = Callable[[int, int, Weights], Sequence[int]]
MAPS: dict[str, Map] = {
    "pkd-skip": lambda m, n, _: [half_up(j, n, m) for j in range(1, m)],
    "pkd-last": lambda m, n, _: [n - m + j for j in range(1, m)],
    "reverse": lambda m, n, _: [half_up(m - j, n, m) for j in range(1, m)],
    "random-map": lambda m, n, weights: [int(index) + 1 for index in weights["layer_indices"]],
    "all-to-last": lambda m, n, _: [n] * m,
}
"""Teacher layers, 1-based, of student layers 1, 2, ..; what the list does not reach is left out."""


def mapped(batch: Batch, weights: Weights, options: Options, layer_map: Map) -> float:
    """Mean over examples and j of MSE(s_j, t_A(j)), both of unit length or as they are."""
    numbers = layer_map(*batch.depths, weights)
    losses = []
    for states, layers in batch.examples():
        for j, number in enumerate(numbers, start=1):
            one, two = states[j - 1], layers[number - 1]
            losses.append(
                squared(unit(one), unit(two)) if options["normalised"] else squared(one, two)
            )
    return average(losses)


Mixture = Callable[[int, int, Weights], Sequence[Sequence[float]]]
MIXTURES: dict[str, Mixture] = {
    "uniform": lambda m, n, _: [[1 / n] * n] * m,
    "random-mix": lambda m, n, weights: weights["weights"].tolist(),
    "static-mix": lambda m, n, weights: [softmax(100 * row) for row in weights["logits"]],
}
"""ε_j, one row for each student layer."""


def mixed(batch: Batch, weights: Weights, options: Options, mixture: Mixture) -> float:
    """Mean over examples and j of MSE(u_j, Σ_i ε_ji t_i), ε the same for every example."""
    rows = mixture(*batch.depths, weights)
    losses = []
    for states, layers in batch.examples():
        for state, row in zip(states, rows, strict=True):
            losses.append(squared(query(weights, state), weighted(row, layers)))
    return average(losses)


def random_projection(batch: Batch, weights: Weights, options: Options) -> float:
    """R_j · concat(t_1..t_n), with R_j (d, n·d) the transpose of the kept buffer."""
    losses = []
    for states, layers in batch.examples():
        joined = np.concatenate(list(layers))
        for state, drawn in zip(states, weights["projection"], strict=True):
            losses.append(squared(query(weights, state), drawn.T @ joined))
    return average(losses)


def rail(batch: Batch, weights: Weights, options: Options) -> float:
    """Mean over examples and j of ‖ norm(W_j s_j) − norm(V_j t_A(j)) ‖², A of this epoch."""
    layer_numbers = [int(index) + 1 for index in weights["epoch_layers"][batch.epoch]]
    losses = []
    for states, layers in batch.examples():
        ours = [states[j] for j in range(len(layer_numbers))]
        theirs = [layers[number - 1] for number in layer_numbers]
        if options["compared"] == "concatenated":
            ours, theirs = [np.concatenate(ours)], [np.concatenate(theirs)]
        for j, (one, two) in enumerate(zip(ours, theirs, strict=True)):
            here = unit(weights["student_maps"][j].T @ one)
            there = unit(weights["teacher_maps"][j].T @ two)
            losses.append(128 * squared(here, there))
    return average(losses)


def guesses(weights: Weights, side: str, layers: Array) -> list[Array]:
    """What the pseudo-classifiers of a side make of all its layers but the last."""
    heads, biases = weights[f"{side}_heads"], weights[f"{side}_biases"]
    return [
        head.T @ layer + bias for head, bias, layer in zip(heads, biases, layers[:-1], strict=True)
    ]


def universal(batch: Batch, weights: Weights, options: Options) -> float:
    """mean_j T²·KL(Σ_i ε_ji softmax(p_i/T) ‖ softmax(q_j/T)) + mean_i label(p_i), or squared errors."""
    heat = batch.temperature
    regression = batch.labels.dtype.kind == "f"
    matches, labelled = [], []
    for (states, layers), label in zip(batch.examples(), batch.labels.tolist(), strict=True):
        theirs = guesses(weights, "teacher", layers)
        for theirs_i in theirs:
            if regression:
                labelled.append((float(theirs_i[0]) - label) ** 2)
            else:
                labelled.append(-math.log(softmax(theirs_i)[label]))
        for ours_j in guesses(weights, "student", states):
            root = math.sqrt(len(ours_j))
            attention = softmax(float(ours_j @ theirs_i) / root for theirs_i in theirs)
            if regression:
                matches.append(squared(ours_j, weighted(attention, theirs)))
            else:
                soft = [np.array(softmax(theirs_i / heat)) for theirs_i in theirs]
                target = weighted(attention, soft).tolist()
                matches.append(heat**2 * divergence(target, softmax(ours_j / heat)))
    return average(matches) + average(labelled)


def transport(costs: Array, rows: Array, columns: Array) -> Array:
    """The cheapest plan with these sums of rows and columns, by linear programming."""
    m, n = costs.shape
    row_sums = [[float(k // n == j) for k in range(m * n)] for j in range(m)]
    column_sums = [[float(k % n == i) for k in range(m * n)] for i in range(n)]
    found = linprog(
        costs.ravel(), A_eq=row_sums + column_sums, b_eq=np.concatenate([rows, columns])
    )
    assert found.success
    plan: Array = found.x.reshape(m, n)
    return plan


def emd_plan(batch: Batch, weights: Weights) -> tuple[Array, Array]:
    """The second plan, and the costs: D_ji the mean over examples of MSE(u_j, t_i)."""
    m, n = batch.depths
    costs = np.zeros((m, n))
    for states, layers in batch.examples():
        for j in range(m):
            for i in range(n):
                distance = squared(query(weights, states[j]), layers[i])
                costs[j, i] += distance / len(batch.lengths)
    first = transport(costs, np.full(m, 1 / m), np.full(n, 1 / n))
    rows = [1 / sum(first[j, i] * costs[j, i] * m for i in range(n)) for j in range(m)]
    columns = [1 / sum(first[j, i] * costs[j, i] * n for j in range(m)) for i in range(n)]
    return transport(costs, np.array(rows) / sum(rows), np.array(columns) / sum(columns)), costs


def emd(batch: Batch, weights: Weights, options: Options) -> float:
    plan, costs = emd_plan(batch, weights)
    return sum(p * d for p, d in zip(plan.ravel().tolist(), costs.ravel().tolist(), strict=True))


def tinybert(batch: Batch, weights: Weights, options: Options) -> float:
    """Scores under A(j) = j·n/m, and token states, layer 0 among them; each a mean over layers."""
    m, n = batch.depths
    student, teacher = batch.student, batch.teacher
    scores, states = [], []
    for j in range(m + 1):
        i = half_up(j, n, m)
        found = []
        for b, length in enumerate(batch.lengths):
            for place in range(length):
                mapped_state = weights["state_map.weight"] @ student.tokens[j, b, place]
                found.append(squared(mapped_state, teacher.tokens[i, b, place]))
        states.append(average(found))
    for j in range(1, m + 1):
        i = half_up(j, n, m)
        found = []
        for b, length in enumerate(batch.lengths):
            for head in range(student.scores.shape[2]):
                ours, theirs = student.scores[j - 1, b, head], teacher.scores[i - 1, b, head]
                for pair in product(range(length), repeat=2):
                    found.append((float(ours[pair]) - float(theirs[pair])) ** 2)
        scores.append(average(found))
    return average(scores) + average(states)


def relation(heads: Array, length: int, relations: int, head: int) -> list[list[float]]:
    """softmax(A Aᵀ / √d_r) of one relation head; A is cut out of the joined `heads` (heads, T, d)."""
    joined = [np.concatenate([own[place] for own in heads]) for place in range(length)]
    width = len(joined[0]) // relations
    cut = [token[head * width : (head + 1) * width] for token in joined]
    return [softmax(float(a @ b) / math.sqrt(width) for b in cut) for a in cut]


def minilm(batch: Batch, weights: Weights, options: Options) -> float:
    """Σ over queries, keys, values: mean over tokens and relation heads of KL(teacher's ‖ student's)."""
    relations = batch.student.queries.shape[2]
    total = 0.0
    for part in ("queries", "keys", "values"):
        found = []
        for b, length in enumerate(batch.lengths):
            for head in range(relations):
                ours = relation(getattr(batch.student, part)[-1, b], length, relations, head)
                theirs = relation(getattr(batch.teacher, part)[-1, b], length, relations, head)
                found += [divergence(t, s) for t, s in zip(theirs, ours, strict=True)]
        total += average(found)
    return total


ORACLES: dict[str, Oracle] = {
    "alp": alp,
    "alp-np": alp,
    "alp-no": partial(alp, kind="apart"),
    "alp-po": partial(alp, kind="overlapping"),
    "ckd-no": partial(ckd, overlapping=False),
    "ckd-po": partial(ckd, overlapping=True),
    **{name: partial(mapped, layer_map=layer_map) for name, layer_map in MAPS.items()},
    **{name: partial(mixed, mixture=mixture) for name, mixture in MIXTURES.items()},
    "random-projection": random_projection,
    "rail": rail,
    "universal": universal,
    "emd": emd,
    "tinybert": tinybert,
    "minilm": minilm,
}
