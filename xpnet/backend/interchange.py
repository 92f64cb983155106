"""Arrays of other libraries, taken as they lie: PyTorch's, JAX's, Arrow's, and whatever else speaks their protocols.

`__array__` is NumPy's own protocol, `__dlpack__` that of the Python array API standard (DLPack), and
`__cuda_array_interface__` that of Numba and CuPy. The other way needs no code: arrays of NumPy and of CuPy, which is
what every array here is, speak DLPack themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

HOST = (1, 3)  # DLPack's numbers for memory of the CPU: plain, and pinned for transfers
CUDA = 2


def to_numpy(values: Any) -> np.ndarray:
    """`values` as an array of the host, without a copy where they are one: an array of any library, or what NumPy
    makes an array of.

    Raises ValueError for a list of arrays of different shapes; TypeError for an array on another device, for one that
    its library does not give away, and for one of NumPy's in which values are masked.
    """
    if type(values) is np.ndarray:
        return values
    if isinstance(values, np.ndarray) and np.any(getattr(values, "mask", False)):
        raise TypeError("values of this array are masked: fill them in, and let them count for nothing by weights of 0")
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
    """DLPack's numbers of the kind and of the ordinal of the device, for an array that speaks it."""
    ask = getattr(values, "__dlpack_device__", None)
    return None if ask is None else tuple(int(number) for number in ask())  # type: ignore[return-value]
