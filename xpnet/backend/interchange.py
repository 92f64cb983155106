"""Arrays of other libraries without a copy: PyTorch's, JAX's, Arrow's, and all others that support their protocols.

`__array__` is NumPy's own protocol, `__dlpack__` that of the Python array API standard (DLPack), and
`__cuda_array_interface__` that of Numba and CuPy. The other direction needs no code: every array here is one of NumPy
or CuPy, and these support DLPack themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

HOST = (1, 3)  # DLPack's device types for memory of the host: ordinary, and pinned for transfers
CUDA = 2


def to_numpy(values: Any) -> np.ndarray:
    """`values` as a NumPy array, without a copy if they are an array on the host already.

    `values` is an array of any library, or anything that NumPy can convert to an array. Raises ValueError for a list of
    arrays of different shapes; TypeError for an array on another device, for one that its library refuses to export,
    and for a NumPy array with masked values.
    """
    if type(values) is np.ndarray:
        return values
    if isinstance(values, np.ndarray) and np.any(getattr(values, "mask", False)):
        raise TypeError("values of this array are masked: fill them in, and leave them out by weights of 0")
    name = f"{type(values).__module__}.{type(values).__name__}"
    where = dlpack_device(values)
    if (where and where[0] not in HOST) or (where is None and hasattr(values, "__cuda_array_interface__")):
        raise TypeError(f"this {name} is not in the memory of the host: bring it there first, by its .cpu() or .get()")
    try:
        if where and not hasattr(values, "__array__"):
            return np.from_dlpack(values)
        return np.asarray(values)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(
            "arrays of different shapes make no one array: bring sequences to one length, with a mask for what was "
            "added; several inputs are a tuple"
        ) from error
    except (TypeError, RuntimeError, BufferError) as error:
        if where is None:
            raise
        raise TypeError(f"this {name} cannot become an array of NumPy: {error}") from None


def dlpack_device(values: Any) -> tuple[int, int] | None:
    """DLPack's (device type, device number) of an array that supports it; None for anything else."""
    ask = getattr(values, "__dlpack_device__", None)
    return None if ask is None else tuple(int(number) for number in ask())  # type: ignore[return-value]
