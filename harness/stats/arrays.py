"""Arrays as the tests need them: of a known shape, and finite."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def check_shape(array: npt.NDArray[Any], name: str, *axes: str) -> None:
    """Raise ValueError unless an array has those axes, and something in it."""
    if array.ndim != len(axes) or array.size == 0:
        shape = f"({axes[0]},)" if len(axes) == 1 else f"({', '.join(axes)})"
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}")


def finite(values: npt.ArrayLike, name: str, *axes: str, each: str = "every score") -> Floats:
    """The values as an array with those axes.

    Raises ValueError if the shape is another one or empty, or a value is NaN or infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    check_shape(array, name, *axes)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = tuple(bad[0].tolist())
        raise ValueError(f"{name}{list(where)} is {array[where]}; {each} must be finite")
    return array
