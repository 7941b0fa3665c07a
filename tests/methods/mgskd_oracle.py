"""A second implementation of `mgskd`: float64, plain loops over layers, examples and triples."""

import math
from collections.abc import Sequence
from itertools import permutations, product

import numpy as np

from tests.methods.oracles import (
    Array,
    Batch,
    Options,
    Weights,
    average,
    cosine,
    example_angle,
    half_up,
    huber,
    softmax,
)

Parts = Sequence[Array]
"""The states of one example's tokens or words."""


def mgskd(batch: Batch, weights: Weights, options: Options) -> float:
    """Σ of the distances of tokens and of words in layers below M, and of examples from M on."""
    m, n = batch.depths
    width = batch.teacher.states.shape[2]
    heads = int(options["relation_heads"]) or max(
        count for count in range(1, max(width // 12, 1) + 1) if width % count == 0
    )
    total = 0.0
    for j in range(m + 1):
        mapped = batch.student.tokens[j] @ weights["state_map.weight"].T
        sides = (mapped, batch.teacher.tokens[half_up(j, n, m)])
        student, teacher = (
            [list(states[b, :length]) for b, length in enumerate(batch.lengths)] for states in sides
        )
        if j < min(int(options["lower_layers"]), m):
            total += distance(student, teacher, heads, options)
            student, teacher = (in_words(side, batch.words) for side in (student, teacher))
            total += distance(student, teacher, heads, options)
        else:
            total += 4 * distance_of_examples(student, teacher, heads)
    return total


def in_words(examples: Sequence[Parts], words: Sequence[Sequence[int]]) -> list[Parts]:
    """The mean state of each word; an example of less than three words has none."""
    found = []
    for parts, numbers in zip(examples, words, strict=True):
        count = max(numbers) + 1
        means = [
            np.mean(
                [part for part, number in zip(parts, numbers, strict=False) if number == word], 0
            )
            for word in range(count)
        ]
        found.append(means if count >= 3 else [])
    return found


def product_of(a: Array, b: Array, head: int, heads: int) -> float:
    width = len(a) // heads
    part = slice(head * width, (head + 1) * width)
    return float(a[part] @ b[part]) / math.sqrt(width)


def distance(
    student: Sequence[Parts], teacher: Sequence[Parts], heads: int, options: Options
) -> float:
    """Mean squared difference of products, and mean of Huber's loss of the chosen angles."""
    squares, errors = [], []
    for ours, theirs in zip(student, teacher, strict=True):
        count = len(theirs)
        related = np.zeros((count, count))
        for head in range(heads):
            for a in range(count):
                products = [product_of(theirs[a], other, head, heads) for other in theirs]
                for b in range(count):
                    found = product_of(ours[a], ours[b], head, heads)
                    squares.append((found - products[b]) ** 2)
                related[a] += softmax(products)
        for centre in greatest(related.sum(axis=0), int(options["centres"])):
            row = related[centre].copy()
            row[centre] = 0.0
            chosen = [k for k in greatest(row, int(options["neighbours"])) if k != centre]
            for b, c in permutations(chosen, 2):
                angles = [cosine(s[centre] - s[b], s[centre] - s[c]) for s in (ours, theirs)]
                errors.append(huber(angles[0] - angles[1]))
    return (average(squares) if squares else 0.0) + (average(errors) if errors else 0.0)


def greatest(values: Array, count: int) -> list[int]:
    return [int(index) for index in np.argsort(-values)[:count]]


def distance_of_examples(student: Sequence[Parts], teacher: Sequence[Parts], heads: int) -> float:
    """Mean over heads and triples of Huber's loss of the angles between mean states."""
    ours, theirs = (
        np.stack([np.mean(parts, axis=0) for parts in side]) for side in (student, teacher)
    )
    count, width = len(ours), ours.shape[1] // heads
    errors = []
    for head, (a, b, c) in product(range(heads), product(range(count), repeat=3)):
        angles = [
            example_angle(states[:, head * width : (head + 1) * width], a, b, c)
            for states in (ours, theirs)
        ]
        errors.append(huber(angles[0] - angles[1]))
    return average(errors)
