"""Against loops in numpy's float64, and where the answer is known."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from harness.evaluation.similarity import (
    centred_products,
    linear_cka,
    mean_cosines,
    principal_plane,
    teacher_angles,
)

Floats = npt.NDArray[np.float64]
EXAMPLES, STUDENTS, TEACHERS, WIDTH = 9, 2, 4, 5


def states(layers: int, width: int = WIDTH, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(EXAMPLES, layers, width)) + 0.5


def alignment(students: torch.Tensor, teachers: torch.Tensor) -> torch.Tensor:
    return linear_cka(centred_products(students), centred_products(teachers))


def unbiased_hsic(x: Floats, y: Floats) -> float:
    """Song et al. 2012, equation 5, of rows of features."""
    n = len(x)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    ones = np.ones(n)
    products = np.trace(k @ l)
    sums = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return float((products + sums - 2 / (n - 2) * (ones @ k @ l @ ones)) / (n * (n - 3)))


@pytest.mark.parametrize("width", [WIDTH, 3])
def test_alignment_is_the_unbiased_estimate(width: int) -> None:
    ours, theirs = states(STUDENTS, width, 1), states(TEACHERS, WIDTH, 2)
    found = alignment(torch.from_numpy(ours), torch.from_numpy(theirs))
    assert found.shape == (STUDENTS, TEACHERS)
    for j in range(STUDENTS):
        for i in range(TEACHERS):
            x, y = ours[:, j], theirs[:, i]
            expected = unbiased_hsic(x, y) / np.sqrt(unbiased_hsic(x, x) * unbiased_hsic(y, y))
            assert float(found[j, i]) == pytest.approx(expected, rel=1e-9)


def test_alignment_is_one_under_rotation_and_scale_and_near_zero_for_strangers() -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(256, 1, 64, generator=generator)
    rotation = torch.linalg.qr(torch.randn(64, 64, generator=generator))[0]
    assert float(alignment(own, 3.0 * own @ rotation + 1.0)[0, 0]) == pytest.approx(1.0, abs=1e-5)
    stranger = torch.randn(256, 1, 64, generator=generator)
    # The plain estimate gives 0.2 here.
    assert abs(float(alignment(own, stranger)[0, 0])) < 0.03


def test_what_does_not_vary_or_is_too_little_has_no_alignment() -> None:
    ours, theirs = torch.from_numpy(states(STUDENTS)), torch.from_numpy(states(TEACHERS))
    ours[:, 1] = 0.3
    found = alignment(ours, theirs)
    assert found[1].isnan().all()
    assert found[0].isfinite().all()
    assert alignment(ours[:3], theirs[:3]).isnan().all()


def test_cosines_and_angles_are_means_over_examples() -> None:
    ours, theirs = states(STUDENTS, seed=1), states(TEACHERS, seed=2)
    cosines = mean_cosines(torch.from_numpy(ours), torch.from_numpy(theirs))
    angles = teacher_angles(torch.from_numpy(ours), torch.from_numpy(theirs))
    assert angles.shape == (STUDENTS, TEACHERS, TEACHERS)

    def cosine(x: Floats, y: Floats) -> float:
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    for j in range(STUDENTS):
        for i in range(TEACHERS):
            expected = np.mean([cosine(ours[b, j], theirs[b, i]) for b in range(EXAMPLES)])
            assert float(cosines[j, i]) == pytest.approx(expected, rel=1e-9)
            for k in range(TEACHERS):
                seen = [
                    np.degrees(np.arccos(cosine(t[i] - s[j], t[k] - s[j])))
                    for s, t in zip(ours, theirs, strict=True)
                    if i != k
                ]
                expected = np.mean(seen) if seen else 0.0
                assert float(angles[j, i, k]) == pytest.approx(expected, rel=1e-9)


def test_a_layer_that_the_student_still_is_has_no_direction() -> None:
    """Right angle at the corner of three points; where a state is the teacher's own there is none."""
    theirs = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]] * 2)
    ours = torch.tensor([[[0.0, 0.0]], [[1.0, 0.001]]])
    assert float(teacher_angles(ours, theirs)[0, 0, 1]) == pytest.approx(90.0)
    found = teacher_angles(ours[1:], theirs[1:])[0]
    assert found[0, 1].isnan()
    assert found.diagonal().tolist() == [0.0, 0.0]


def test_the_plane_is_that_of_a_singular_value_decomposition() -> None:
    points = states(3).reshape(-1, WIDTH)
    mean, components, explained = principal_plane(torch.from_numpy(points))
    centred = points - points.mean(axis=0)
    _, lengths, rows = np.linalg.svd(centred, full_matrices=False)
    assert mean.numpy() == pytest.approx(points.mean(axis=0))
    assert explained.numpy() == pytest.approx(lengths[:2] ** 2 / np.sum(lengths**2))
    for place in range(2):
        sign = np.sign(rows[place][np.abs(rows[place]).argmax()])
        assert components[:, place].numpy() == pytest.approx(sign * rows[place])
