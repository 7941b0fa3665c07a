"""A second implementation of the formulas in methods/: float64, plain loops over examples and layers."""

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
    """The tensors that one model hands out for B examples of at most T tokens.

    `logits` (B, outputs); `states` (B, layers, width); `tokens` (1 + layers, B, T, width), the
    embeddings first; `scores` (layers, B, heads, T, T); `queries`, `keys`, `values` (layers, B, heads,
    T, width / heads).
    """

    logits: Array
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
    scalars: Mapping[str, float]
    progress: float = 0.3
    words: Sequence[Sequence[int]] = ()
    """The numbers of the words (B, T) that tokens belong to, -1 where to none."""

    @property
    def temperature(self) -> float:
        return self.scalars["temperature"]

    @property
    def depths(self) -> tuple[int, int]:
        """m and n: layers of the student and of the teacher."""
        return self.student.states.shape[1], self.teacher.states.shape[1]

    def examples(self) -> Iterable[tuple[Array, Array]]:
        """States (m, d_S) and (n, d_T) of every example."""
        return zip(self.student.states, self.teacher.states, strict=True)


Oracle = Callable[[Batch, Weights, Options], float]


def average(values: Iterable[float]) -> float:
    items = list(values)
    return sum(items) / len(items)


def squared(a: Array, b: Array) -> float:
    """Mean over the width of one pair of states."""
    return average((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def unit(a: Array) -> Array:
    return a / math.sqrt(sum(float(x) ** 2 for x in a))


def softmax(energies: Iterable[float]) -> list[float]:
    items = [float(energy) for energy in energies]
    powers = [math.exp(energy - max(items)) for energy in items]
    return [power / sum(powers) for power in powers]


def divergence(target: Sequence[float], student: Sequence[float]) -> float:
    """KL(target ‖ found) of two distributions, summed."""
    return sum(p * (math.log(p) - math.log(q)) for p, q in zip(target, student, strict=True))


def weighted_sum(weights: Iterable[float], layers: Iterable[Array]) -> Array:
    parts = [weight * layer for weight, layer in zip(weights, layers, strict=True)]
    return sum(parts[1:], parts[0])


def query(weights: Weights, state: Array) -> Array:
    return weights["query.weight"] @ state if "query.weight" in weights else state


def half_up(j: int, n: int, m: int) -> int:
    """j·n/m, halves upwards."""
    return math.floor(Fraction(j * n, m) + Fraction(1, 2))


def bucket(j: int, m: int, n: int, overlap: int) -> list[int]:
    """C(j), 1-based: the layers between two cuts, and layers of the neighbours."""
    own = range(half_up(j - 1, n, m) + 1, half_up(j, n, m) + 1)
    after = [own[-1] + 1] if overlap >= 1 and j < m else []
    before = [own[0] - 1] if overlap == 2 and j > 1 else []
    return [*before, *own, *after]


def overlap_of(options: Options, has_overlap: bool) -> int:
    return int(options["overlap"]) if has_overlap else 0


def alp(batch: Batch, weights: Weights, options: Options, kind: str = "all") -> float:
    """Mean over examples and j of MSE(u_j, Σ_{i ∈ C(j)} softmax_i(⟨u_j, φ(t_i)⟩ / √d) t_i)."""
    m, n = batch.depths
    width = batch.teacher.states.shape[2]
    phi = weights.get("key.weight", np.eye(width))
    root = math.sqrt(width) if options["scaled"] else 1.0
    losses = []
    for states, layers in batch.examples():
        for j in range(1, m + 1):
            overlap = overlap_of(options, kind == "overlapping")
            members = range(1, n + 1) if kind == "all" else bucket(j, m, n, overlap)
            query_state = query(weights, states[j - 1])
            keys = [phi @ layers[i - 1] for i in members]
            attention = softmax(float(query_state @ key) / root for key in keys)
            states_of_layers = [layers[i - 1] for i in members]
            mixture = weighted_sum(
                attention, keys if options["value"] == "projected" else states_of_layers
            )
            losses.append(squared(query_state, mixture))
    return average(losses)


def ckd(batch: Batch, weights: Weights, options: Options, has_overlap: bool) -> float:
    """Mean over examples and j of ‖ norm(W_j s_j + b_j) − norm(concat_{i ∈ C(j)} t_i) ‖².

    MSE of the two if not `normalised`; with the other direction of s_j and V_j concat + c_j.
    """
    m, n = batch.depths
    losses = []
    for states, layers in batch.examples():
        for j in range(1, m + 1):
            members = bucket(j, m, n, overlap_of(options, has_overlap))
            pair = [states[j - 1], np.concatenate([layers[i - 1] for i in members])]
            side = 0 if options["direction"] == "to-teacher" else 1
            linear, bias = (weights[f"maps.{j - 1}.{part}"] for part in ("weight", "bias"))
            pair[side] = linear @ pair[side] + bias
            if options["normalised"]:
                losses.append(len(pair[0]) * squared(unit(pair[0]), unit(pair[1])))
            else:
                losses.append(squared(*pair))
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


def mapped_layers(batch: Batch, weights: Weights, options: Options, layer_map: Map) -> float:
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


def mixed_layers(batch: Batch, weights: Weights, options: Options, mixture: Mixture) -> float:
    """Mean over examples and j of MSE(u_j, Σ_i ε_ji t_i), ε the same for every example."""
    rows = mixture(*batch.depths, weights)
    losses = []
    for states, layers in batch.examples():
        for state, row in zip(states, rows, strict=True):
            losses.append(squared(query(weights, state), weighted_sum(row, layers)))
    return average(losses)


def random_projection(batch: Batch, weights: Weights, options: Options) -> float:
    """R_j · concat(t_1..t_n), with R_j (d, n·d) the transpose of the kept buffer."""
    losses = []
    for states, layers in batch.examples():
        concatenation = np.concatenate(list(layers))
        for state, projection in zip(states, weights["projection"], strict=True):
            losses.append(squared(query(weights, state), projection.T @ concatenation))
    return average(losses)


def rail(batch: Batch, weights: Weights, options: Options) -> float:
    """Mean over examples and j of ‖ norm(W_j s_j) − norm(V_j t_A(j)) ‖², A of this epoch."""
    layer_numbers = [int(index) + 1 for index in weights["epoch_layers"][batch.epoch]]
    losses = []
    for states, layers in batch.examples():
        student_states = [states[j] for j in range(len(layer_numbers))]
        teacher_states = [layers[number - 1] for number in layer_numbers]
        if options["compared"] == "concatenated":
            student_states, teacher_states = (
                [np.concatenate(student_states)],
                [np.concatenate(teacher_states)],
            )
        for j, (one, two) in enumerate(zip(student_states, teacher_states, strict=True)):
            student_vector = unit(weights["student_maps"][j].T @ one)
            teacher_vector = unit(weights["teacher_maps"][j].T @ two)
            losses.append(128 * squared(student_vector, teacher_vector))
    return average(losses)


def pseudo_outputs(weights: Weights, side: str, layers: Array) -> list[Array]:
    """The outputs of a side's pseudo-classifiers for all its layers but the last."""
    heads, biases = weights[f"{side}_heads"], weights[f"{side}_biases"]
    return [
        head.T @ layer + bias for head, bias, layer in zip(heads, biases, layers[:-1], strict=True)
    ]


def universal(batch: Batch, weights: Weights, options: Options) -> float:
    """mean_j T²·KL(Σ_i ε_ji softmax(p_i/T) ‖ softmax(q_j/T)) + mean_i label(p_i), or squared errors."""
    heat = batch.temperature
    regression = batch.labels.dtype.kind == "f"
    matches, label_losses = [], []
    for (states, layers), label in zip(batch.examples(), batch.labels.tolist(), strict=True):
        teacher_outputs = pseudo_outputs(weights, "teacher", layers)
        for p in teacher_outputs:
            if regression:
                label_losses.append((float(p[0]) - label) ** 2)
            else:
                label_losses.append(-math.log(softmax(p)[label]))
        for q in pseudo_outputs(weights, "student", states):
            root = math.sqrt(len(q))
            attention = softmax(float(q @ p) / root for p in teacher_outputs)
            if regression:
                matches.append(squared(q, weighted_sum(attention, teacher_outputs)))
            else:
                shares = [np.array(softmax(p / heat)) for p in teacher_outputs]
                target = weighted_sum(attention, shares).tolist()
                matches.append(heat**2 * divergence(target, softmax(q / heat)))
    return average(matches) + average(label_losses)


def transport(costs: Array, rows: Array, columns: Array) -> Array:
    """The cheapest plan with these sums of rows and columns, by linear programming."""
    m, n = costs.shape
    row_sums = [[float(k // n == j) for k in range(m * n)] for j in range(m)]
    column_sums = [[float(k % n == i) for k in range(m * n)] for i in range(n)]
    solution = linprog(
        costs.ravel(), A_eq=row_sums + column_sums, b_eq=np.concatenate([rows, columns])
    )
    assert solution.success
    plan: Array = solution.x.reshape(m, n)
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
        distances = []
        for b, length in enumerate(batch.lengths):
            for place in range(length):
                mapped_state = weights["state_map.weight"] @ student.tokens[j, b, place]
                distances.append(squared(mapped_state, teacher.tokens[i, b, place]))
        states.append(average(distances))
    for j in range(1, m + 1):
        i = half_up(j, n, m)
        distances = []
        for b, length in enumerate(batch.lengths):
            for head in range(student.scores.shape[2]):
                student_scores, teacher_scores = (
                    student.scores[j - 1, b, head],
                    teacher.scores[i - 1, b, head],
                )
                for pair in product(range(length), repeat=2):
                    distances.append(
                        (float(student_scores[pair]) - float(teacher_scores[pair])) ** 2
                    )
        scores.append(average(distances))
    return sum(scores) + sum(states)


def cosine(a: Array, b: Array) -> float:
    return float(unit(a) @ unit(b))


def layer_pairs(batch: Batch, options: Options) -> list[tuple[int, int]]:
    """Pairs of layers, 1-based: the last ones, or j with j·n/m."""
    m, n = batch.depths
    mapped = [(j, half_up(j, n, m)) for j in range(1, m + 1)]
    return mapped[-1:] if options["layers"] == "last" else mapped


def distilbert(batch: Batch, weights: Weights, options: Options) -> float:
    """Mean over layers and over all tokens of 1 − cos(W h, t)."""
    linear = weights.get("state_map.weight", np.eye(batch.student.tokens.shape[-1]))
    layers = []
    for j, i in layer_pairs(batch, options):
        layers.append(
            average(
                1 - cosine(linear @ batch.student.tokens[j, b, t], batch.teacher.tokens[i, b, t])
                for b, length in enumerate(batch.lengths)
                for t in range(length)
            )
        )
    return average(layers)


TokenMap = Callable[[int, int, Weights], Sequence[int]]
TOKEN_MAPS: dict[str, TokenMap] = {
    "forward-matching": lambda m, n, _: [half_up(j, n, m) for j in range(m + 1)],
    "reverse-matching": lambda m, n, _: [0, *(half_up(m + 1 - j, n, m) for j in range(1, m + 1))],
    "all-to-one-matching": lambda m, n, _: [half_up(1, n, 2)] * (m + 1),
    "random-matching": lambda m, n, weights: [
        0,
        *(half_up(int(index) + 1, n, m) for index in weights["order"]),
    ],
}
"""Teacher layers of student layers 0, 1, .., m; layer 0 are the embeddings."""


def mapped_tokens(batch: Batch, weights: Weights, options: Options, layer_map: TokenMap) -> float:
    """Mean over layers, the embeddings first, and over all tokens of MSE(W_j h_j, t_A(j))."""
    width = batch.student.tokens.shape[-1]
    layers = []
    for j, i in enumerate(layer_map(*batch.depths, weights)):
        linear = weights.get(f"state_maps.{j}.weight", np.eye(width))
        layers.append(
            average(
                squared(linear @ batch.student.tokens[j, b, t], batch.teacher.tokens[i, b, t])
                for b, length in enumerate(batch.lengths)
                for t in range(length)
            )
        )
    return average(layers)


def relation(queries: Sequence[Array], keys: Sequence[Array]) -> list[list[float]]:
    """softmax(Q Kᵀ / √d) of one head's tokens."""
    root = math.sqrt(len(queries[0]))
    return [softmax(float(q @ k) / root for k in keys) for q in queries]


def relation_distance(teacher: list[list[float]], student: list[list[float]]) -> float:
    """The mean over one head's tokens of KL(teacher's ‖ student's)."""
    return average(divergence(t, s) for t, s in zip(teacher, student, strict=True))


def cut(heads: Array, length: int, relations: int, head: int) -> list[Array]:
    """One relation head's part of every token, of the joined `heads` (heads, T, d)."""
    tokens = [
        np.concatenate([head_parts[place] for head_parts in heads]) for place in range(length)
    ]
    width = len(tokens[0]) // relations
    return [token[head * width : (head + 1) * width] for token in tokens]


def minilm(batch: Batch, weights: Weights, options: Options) -> float:
    """Σ over queries, keys, values: mean over tokens and heads, then examples, of KL(T's ‖ S's)."""
    heads, width = batch.teacher.queries.shape[2], batch.teacher.queries.shape[4]
    relations = int(options["relation_heads"]) or max(heads * width // 16, 1)
    total = 0.0
    for part in ("queries", "keys", "values"):
        examples = []
        for b, length in enumerate(batch.lengths):
            divergences = []
            for head in range(relations):
                student, teacher = (
                    cut(getattr(side, part)[-1, b], length, relations, head)
                    for side in (batch.student, batch.teacher)
                )
                divergences.append(
                    relation_distance(relation(teacher, teacher), relation(student, student))
                )
            examples.append(average(divergences))
        total += average(examples)
    return total


def minilm_v1(batch: Batch, weights: Weights, options: Options) -> float:
    """Mean over examples, heads and tokens of KL of softmax(Q Kᵀ / √d), plus that of V Vᵀ."""
    total = 0.0
    for one, two in (("queries", "keys"), ("values", "values")):
        examples = []
        for b, length in enumerate(batch.lengths):
            divergences = []
            for head in range(batch.student.queries.shape[2]):
                student, teacher = (
                    relation(
                        list(getattr(side, one)[-1, b, head, :length]),
                        list(getattr(side, two)[-1, b, head, :length]),
                    )
                    for side in (batch.student, batch.teacher)
                )
                divergences.append(relation_distance(teacher, student))
            examples.append(average(divergences))
        total += average(examples)
    return total


def huber(error: float) -> float:
    return error**2 / 2 if abs(error) < 1 else abs(error) - 0.5


Relation = Callable[[Array, Array, Batch], float]


def related_examples(batch: Batch, weights: Weights, options: Options, distance: Relation) -> float:
    """Mean over pairs of layers of a distance between states (B, d_S) and (B, d_T)."""
    return average(
        distance(batch.student.states[:, j - 1], batch.teacher.states[:, i - 1], batch)
        for j, i in layer_pairs(batch, options)
    )


def example_distances(states: Array) -> list[list[float]]:
    """Distances between examples over the mean of those that are not 0."""
    distances = [[math.dist(a, b) for b in states] for a in states]
    positive = [d for row in distances for d in row if d > 0]
    return [[d / average(positive) if d else 0.0 for d in row] for row in distances]


def example_angle(states: Array, a: int, b: int, c: int) -> float:
    """The cosine of the angle at a between b and c; 0 where one of them is a."""
    if a in (b, c):
        return 0.0
    return cosine(states[b] - states[a], states[c] - states[a])


def rkd(states: Array, targets: Array, batch: Batch) -> float:
    """Mean over pairs, plus r times the mean over triples, of Huber's loss of the difference."""
    count = len(states)
    ours, theirs = example_distances(states), example_distances(targets)
    pairs = average(huber(ours[a][b] - theirs[a][b]) for a, b in product(range(count), repeat=2))
    triples = average(
        huber(example_angle(states, a, b, c) - example_angle(targets, a, b, c))
        for a, b, c in product(range(count), repeat=3)
    )
    return pairs + batch.scalars["angle_ratio"] * triples


def cka(states: Array, targets: Array, batch: Batch) -> float:
    """1 − ‖ TᵀS ‖² / (‖ SᵀS ‖ ‖ TᵀT ‖) of centred states: Kornblith's other form, over features."""
    if len(states) == 1:
        return 0.0
    s, t = states - states.mean(axis=0), targets - targets.mean(axis=0)
    norms = [math.sqrt(float(np.sum((x.T @ y) ** 2))) for x, y in ((t, s), (s, s), (t, t))]
    return 1 - norms[0] ** 2 / (norms[1] * norms[2])


def spkd(states: Array, targets: Array, batch: Batch) -> float:
    """Mean over examples of the squared distance of their rows of similarities."""
    losses = []
    for a in range(len(states)):
        ours = unit(np.array([states[a] @ other for other in states]))
        theirs = unit(np.array([targets[a] @ other for other in targets]))
        losses.append(len(ours) * squared(ours, theirs))
    return average(losses)


def cos_nce(batch: Batch, weights: Weights, options: Options) -> float:
    """Mean of g + Σ_k (2 − (g_k − g)) / (2K): g to the own target, g_k to those of the batch."""

    def distance(states: Array, targets: Array, _: Batch) -> float:
        losses = []
        for a in range(len(states)):
            own = query(weights, states[a])
            distances = [1 - cosine(own, target) for target in targets]
            contrast = sum(2 - (other - distances[a]) for other in distances)
            losses.append(distances[a] + contrast / (2 * len(states)))
        return average(losses)

    return related_examples(batch, weights, options, distance)


def pearson(a: Array, b: Array) -> float:
    if len(a) == 1:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def dist(batch: Batch, weights: Weights, options: Options) -> float:
    """T²·(1 − mean correlation over classes + r·(1 − mean correlation over examples))."""
    heat = batch.temperature
    ours, theirs = (
        np.array([softmax(row / heat) for row in side.logits])
        for side in (batch.student, batch.teacher)
    )
    between = 1 - average(pearson(p, q) for p, q in zip(ours, theirs, strict=True))
    within = 1 - average(pearson(p, q) for p, q in zip(ours.T, theirs.T, strict=True))
    return heat**2 * (between + batch.scalars["intra_ratio"] * within)


def dkd(batch: Batch, weights: Weights, options: Options) -> float:
    """T²·(KL of (label's, all others') probability + r·KL among the others), mean over examples."""
    heat = batch.temperature
    losses = []
    for b, label in enumerate(batch.labels.tolist()):
        binary, others = [], []
        for side in (batch.teacher, batch.student):
            shares = softmax(side.logits[b] / heat)
            binary.append([shares[label], 1 - shares[label]])
            rest = [share for c, share in enumerate(shares) if c != label]
            others.append([share / sum(rest) for share in rest])
        losses.append(divergence(*binary) + batch.scalars["other_ratio"] * divergence(*others))
    return heat**2 * average(losses)


def annealed(batch: Batch, weights: Weights, options: Options, *, has_margin: bool) -> float:
    """Mean over examples of the squared error to the logits times φ = 1 − (T − 1)/T_max.

    T counts down from T_max to 1. With a margin errors count from φ·m on, and the whole training is
    one stage.
    """
    highest = batch.scalars["max_temperature"]
    stage = 1.0 if has_margin else batch.scalars["first_share"]
    temperature = highest
    while temperature > 1 and 1 - (temperature - 1) / highest <= batch.progress / stage:
        temperature -= 1
    factor = 1 - (temperature - 1) / highest
    losses = []
    for ours, theirs in zip(batch.student.logits, batch.teacher.logits, strict=True):
        error = squared(ours, np.array([factor * z for z in theirs]))
        losses.append(max(0.0, error - factor * batch.scalars["margin"]) if has_margin else error)
    return average(losses)


TERM_ORACLES: dict[str, Oracle] = {
    "alp": alp,
    "alp-np": alp,
    "alp-no": partial(alp, kind="apart"),
    "alp-po": partial(alp, kind="overlapping"),
    "ckd-no": partial(ckd, has_overlap=False),
    "ckd-po": partial(ckd, has_overlap=True),
    **{name: partial(mapped_layers, layer_map=layer_map) for name, layer_map in MAPS.items()},
    **{name: partial(mixed_layers, mixture=mixture) for name, mixture in MIXTURES.items()},
    "random-projection": random_projection,
    "rail": rail,
    "universal": universal,
    "emd": emd,
    "tinybert": tinybert,
    "distilbert": distilbert,
    **{name: partial(mapped_tokens, layer_map=layer_map) for name, layer_map in TOKEN_MAPS.items()},
    "minilm": minilm,
    "minilm-v1": minilm_v1,
    "rkd": partial(related_examples, distance=rkd),
    "cka": partial(related_examples, distance=cka),
    "spkd": partial(related_examples, distance=spkd),
    "cos-nce": cos_nce,
    "dist": dist,
    "dkd": dkd,
    "annealing-kd": partial(annealed, has_margin=False),
    "continuation-kd": partial(annealed, has_margin=True),
}
