"""How alike the layers of two models are: kernel alignment, cosines, angles, principal components."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_EXAMPLES = 4
"""The unbiased estimate of the alignment divides by examples − 3."""
SAME = 0.01
"""Of a teacher state's length: a student state that is nearer is the same but for rounding."""


def centred_products(states: Tensor) -> Tensor:
    """Each layer's products between examples, U-centred (Székely and Rizzo 2014): (layers, examples²).

    `states` (examples, layers, width). NaN for a layer that does not vary, and for all below
    `LEAST_EXAMPLES` examples.
    """
    examples = len(states)
    if examples < LEAST_EXAMPLES:
        return states.new_full((states.shape[1], examples**2), torch.nan, dtype=torch.float64)
    layers = states.double().transpose(0, 1)
    energy = layers.square().sum(dim=(1, 2), keepdim=True)
    layers = layers - layers.mean(dim=1, keepdim=True)
    scale = layers.square().sum(dim=(1, 2), keepdim=True)
    # What is left of a constant layer is rounding.
    constant = scale <= 1e-20 * energy
    products = layers @ layers.transpose(1, 2) / scale.masked_fill(constant, torch.nan)
    diagonal = torch.eye(examples, dtype=torch.bool)
    products = products.masked_fill(diagonal, 0.0)
    means = products.sum(dim=2) / (examples - 2)
    means = means - means.sum(dim=1, keepdim=True) / (2 * (examples - 1))
    centred = products - means[:, :, None] - means[:, None, :]
    return centred.masked_fill(diagonal, 0.0).flatten(1)


def linear_cka(students: Tensor, teachers: Tensor) -> Tensor:
    """Debiased linear centred kernel alignment of every student layer with every teacher layer.

    HSIC by its unbiased estimate, as in Nguyen, Raghu and Kornblith 2021 (arXiv 2010.15327): the plain
    one (Kornblith et al. 2019) is near 1 for any two wide layers seen on few examples. At most 1; around
    0, and so at times below, for layers that have nothing in common.

    Args:
        students: `centred_products` of m layers.
        teachers: those of n layers on the same examples; the widths need not agree.

    Returns:
        (m, n), float64; NaN where one is.
    """
    return (students @ teachers.T) / torch.outer(students.norm(dim=1), teachers.norm(dim=1))


def mean_cosines(students: Tensor, teachers: Tensor) -> Tensor:
    """The cosine of a student layer's and a teacher layer's state, mean over examples (m, n), float64.

    `students` (examples, m, width), `teachers` (examples, n, width).
    """
    ours, theirs = (F.normalize(states.double(), dim=-1) for states in (students, teachers))
    return torch.einsum("bmd,bnd->mn", ours, theirs) / len(ours)


def teacher_angles(students: Tensor, teachers: Tensor) -> Tensor:
    """The angle between two teacher layers as a student layer sees them, in degrees.

    At student layer j, between the directions t_i − s_j and t_k − s_j; mean over examples. Yu et al.
    (arXiv 2502.04499) offer it as the reason why the choice of layers matters little: where all are
    acute, whichever layer is matched, the student moves towards the others too.

    Args:
        students: states (examples, m, width).
        teachers: states (examples, n, width).

    Returns:
        (m, n, n), float64, with zeros on the diagonal. Examples whose s_j is t_i or t_k but for rounding
        (`SAME`) have no direction and are left out; NaN where all are.
    """
    theirs = teachers.double()
    least = SAME * theirs.norm(dim=-1)
    found = []
    for own in students.double().unbind(1):
        ways = theirs - own[:, None]
        same = ways.norm(dim=-1) <= least
        ways = F.normalize(ways, dim=-1).masked_fill(same[..., None], torch.nan)
        cosines = (ways @ ways.transpose(1, 2)).clamp(-1.0, 1.0)
        found.append(torch.rad2deg(cosines.arccos()).nanmean(0).fill_diagonal_(0.0))
    return torch.stack(found)


def principal_plane(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first two principal components of vectors (vectors, width), width 2 or more, in float64.

    Returns:
        Their mean (width,), the components (width, 2), each with its largest entry positive, and the
        shares of variance that they explain (2,); NaN where there is no variance.
    """
    mean = states.double().mean(0)
    centred = states.double() - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    plane = vectors[:, [-1, -2]]
    largest = plane.gather(0, plane.abs().argmax(0, keepdim=True))
    return mean, plane * largest.sign(), values[[-1, -2]] / values.sum()
