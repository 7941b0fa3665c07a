"""Similarity of two models' layers: kernel alignment, cosines, angles, principal components."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from torch import Tensor

LEAST_EXAMPLES = 4
"""The unbiased estimate of the alignment divides by examples − 3."""
ROUNDING = 0.01
"""A share of a teacher state's length. A student state within this distance counts as the same state."""


def centred_products(states: Tensor) -> Tensor:
    """Each layer's products between examples, U-centred (Székely and Rizzo 2014).

    Args:
        states: (examples, layers, width).

    Returns:
        (layers, examples²), float64. NaN for a layer that does not vary, and for all layers with fewer
        than `LEAST_EXAMPLES` examples.
    """
    examples = len(states)
    if examples < LEAST_EXAMPLES:
        return states.new_full((states.shape[1], examples**2), torch.nan, dtype=torch.float64)
    layers = states.double().transpose(0, 1)
    energy = layers.square().sum(dim=(1, 2), keepdim=True)
    layers = layers - layers.mean(dim=1, keepdim=True)
    scale = layers.square().sum(dim=(1, 2), keepdim=True)
    # The remainder of a constant layer is rounding.
    is_constant = scale <= 1e-20 * energy
    products = layers @ layers.transpose(1, 2) / scale.masked_fill(is_constant, torch.nan)
    diagonal = torch.eye(examples, dtype=torch.bool, device=states.device)
    products = products.masked_fill(diagonal, 0.0)
    means = products.sum(dim=2) / (examples - 2)
    means = means - means.sum(dim=1, keepdim=True) / (2 * (examples - 1))
    products = products - means[:, :, None] - means[:, None, :]
    return products.masked_fill(diagonal, 0.0).flatten(1)


def linear_cka(students: Tensor, teachers: Tensor) -> Tensor:
    """Debiased linear centred kernel alignment of every student layer with every teacher layer.

    HSIC has its unbiased estimate, as in Nguyen, Raghu and Kornblith 2021 (arXiv 2010.15327). The plain
    estimate (Kornblith et al. 2019) is near 1 for any two wide layers on few examples. The alignment is
    at most 1. Unrelated layers have alignments around 0, below 0 at times.

    Args:
        students: `centred_products` of m layers (m, examples²).
        teachers: the same of n layers (n, examples²), on the same examples; widths need not agree.

    Returns:
        (m, n), float64; NaN where a layer's products are NaN.
    """
    return (students @ teachers.T) / torch.outer(students.norm(dim=1), teachers.norm(dim=1))


def mean_cosines(students: Tensor, teachers: Tensor) -> Tensor:
    """The cosine of a student layer's and a teacher layer's state, mean over examples.

    Args:
        students: states (examples, m, width).
        teachers: states (examples, n, width).

    Returns:
        (m, n), float64.
    """
    unit_students = F.normalize(students.double(), dim=-1)
    unit_teachers = F.normalize(teachers.double(), dim=-1)
    return torch.einsum("bmd,bnd->mn", unit_students, unit_teachers) / len(students)


def teacher_angles(students: Tensor, teachers: Tensor) -> Tensor:
    """The angle between two teacher layers as a student layer sees them, in degrees.

    The angle at student layer j lies between the directions t_i − s_j and t_k − s_j; the result is the
    mean over examples. Yu et al. (arXiv 2502.04499) explain with these angles why the choice of layers
    matters little: where all angles are acute, a student that moves towards one teacher layer also nears
    the other layers.

    Args:
        students: states (examples, m, width).
        teachers: states (examples, n, width).

    Returns:
        (m, n, n), float64, with zeros on the diagonal. Examples whose s_j is t_i or t_k but for rounding
        (`ROUNDING`) have no direction and do not count; NaN where none counts.
    """
    teacher = teachers.double()
    radius = ROUNDING * teacher.norm(dim=-1)
    angles = []
    for student in students.double().unbind(1):
        differences = teacher - student[:, None]
        coincides = differences.norm(dim=-1) <= radius
        directions = F.normalize(differences, dim=-1).masked_fill(coincides[..., None], torch.nan)
        cosines = (directions @ directions.transpose(1, 2)).clamp(-1.0, 1.0)
        angles.append(torch.rad2deg(cosines.arccos()).nanmean(0).fill_diagonal_(0.0))
    return torch.stack(angles)


def principal_plane(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first two principal components of vectors (vectors, width), width 2 or more, in float64.

    The vectors lie on the CPU. Only two eigenvectors are computed, which is a quarter of the work.

    Returns:
        The vectors' mean (width,), the components (width, 2), each with its largest entry positive, and
        the shares of variance that they explain (2,), NaN where there is no variance.
    """
    mean = states.double().mean(0)
    deviations = states.double() - mean
    products = deviations.T @ deviations
    width = len(products)
    values, vectors = map(
        torch.from_numpy, eigh(products.numpy(), subset_by_index=(width - 2, width - 1))
    )
    plane = vectors.flip(1)
    peaks = plane.gather(0, plane.abs().argmax(0, keepdim=True))
    return mean, plane * peaks.sign(), values.flip(0) / products.trace()
