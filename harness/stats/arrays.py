"""Checks of arrays: their shape, and that every value is finite."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def check_shape(array: npt.NDArray[Any], name: str, *axes: str) -> None:
    """Raise ValueError unless the array has those axes and is not empty."""
    if array.ndim != len(axes) or array.size == 0:
        shape = f"({axes[0]},)" if len(axes) == 1 else f"({', '.join(axes)})"
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}")


def finite_array(values: npt.ArrayLike, name: str, *axes: str, item: str = "every score") -> Floats:
    """The values as an array with those axes.

    Raises ValueError if the shape differs or is empty, or a value is NaN or infinite; the message
    calls a value `item`.
    """
    array = np.asarray(values, dtype=np.float64)
    check_shape(array, name, *axes)
    positions = np.argwhere(~np.isfinite(array))
    if len(positions):
        position = tuple(positions[0].tolist())
        raise ValueError(f"{name}{list(position)} is {array[position]}; {item} must be finite")
    return array
