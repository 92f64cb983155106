"""`Backend`: where and how a pass runs. This file is the CPU's; `cuda.py` changes what differs on a GPU."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from xpnet.backend.random import HostPhilox, Philox, host_generator

Array = Any  # a numpy.ndarray, or what plays its part on another device (cupy.ndarray)

DTYPES = ("float32", "float64")


class Backend:
    """The CPU: NumPy as array module, and everything else that a pass needs.

    Layers, losses and optimizers are handed one of these and use `xp`, `matmul`, `take`, `rng`, `scratch` and
    `training`; they never ask which device it is. Mode, random stream and working memory are its state, so a backend
    belongs to one thread at a time: give each thread its own.

    Attributes: `xp` the array module; `device` its name ("cpu", "cuda:0"); `dtype` of all floating point work;
    `rng` the random stream that lives on the device; `training` the mode of the pass; `why` one sentence that
    says how this device came to be chosen.
    """

    xp: Any = np
    array_type: Any = np.ndarray

    def __init__(self, dtype: str = "float32", seed: int = 0, device: str = "cpu", why: str = "asked for"):
        if str(dtype) not in DTYPES:
            raise ValueError(f"unknown dtype {str(dtype)!r}: choose one of {', '.join(DTYPES)}")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed must be a whole number >= 0, not {seed!r}")
        self.device = device
        self.dtype = np.dtype(str(dtype))
        self.seed = int(seed)
        self.why = why
        self.training = False
        self.training_lock = threading.Lock()
        self.rng: Philox = self._stream(seed)
        self._scratch: dict[str, Array] = {}
        self._ones: dict[int, Array] = {}
        self._constants: dict[tuple[float, ...], Array] = {}

    def __repr__(self) -> str:
        return f"<Backend {self.device} {self.dtype}: {self.why}>"

    # Between host and device ------------------------------------------------------------------------------

    def asarray(self, values: Any) -> Array:
        """`values` on this device: floating point in this backend's dtype, whole numbers and booleans as they are."""
        here = isinstance(values, self.array_type)
        array = values if here else np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"cannot put an array of {array.dtype} on {self.device}: only real numbers")
        array = array.astype(self.dtype, copy=False) if array.dtype.kind == "f" else array
        return array if here else self._upload(array)

    def to_host(self, array: Array) -> np.ndarray:
        """A NumPy array of the same values. On a GPU this waits: never call it inside a step."""
        return array

    def _upload(self, host: np.ndarray) -> Array:
        return host

    def _stream(self, seed: int) -> Philox:
        return HostPhilox(seed)

    def host_rng(self, purpose: str) -> np.random.Generator:
        """NumPy's generator for draws made on the host (weights, splits, order): the same on every device."""
        return host_generator(self.seed, purpose)

    def use(self) -> None:
        """Make this device the calling thread's own: each thread of a process starts with the first GPU."""

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it (for timings)."""

    # What layers, losses and optimizers use ---------------------------------------------------------------

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """The one entry for matrix products, a @ b (batched over leading axes, as NumPy's)."""
        return self.xp.matmul(a, b, out=out)

    def take(self, a: Array, indices: Array) -> Array:
        """Rows of `a`: out[i] = a[indices[i]]. The indices must be in range (checked where data enter)."""
        return a.take(indices, axis=0, mode="clip")  # "clip" is NumPy's only mode without a second pass

    def sum_rows(self, a: Array) -> Array:
        """Sum over the first axis of a 2-D array, as a product with a vector of ones: the fastest, always
        in the same order."""
        n = a.shape[0]
        if n not in self._ones:
            self._ones[n] = self.xp.ones(n, a.dtype)
        return self.matmul(self._ones[n], a)

    def constant(self, values: tuple[float, ...]) -> Array:
        """These numbers as a 1-D array in the backend's dtype, uploaded once and kept: never change it."""
        if values not in self._constants:
            self._constants[values] = self.asarray(np.array(values, self.dtype))
        return self._constants[values]

    def scratch(self, name: str, shape: tuple[int, ...]) -> Array:
        """Uninitialised working memory that is reused by the next call with this name: never keep or return it."""
        size = math.prod(shape)
        if name not in self._scratch or self._scratch[name].size < size:
            self._scratch[name] = self.xp.empty(size, self.dtype)
        return self._scratch[name][:size].reshape(shape)

    def chunks(self, size: int) -> Iterator[slice]:
        """Slices that cover a flat buffer: pieces that stay in a CPU's cache, the whole on a GPU."""
        step = 65536
        for start in range(0, size, step):
            yield slice(start, min(start + step, size))

    def capture(self, step: Callable) -> Callable:
        """Something that is called like `step`, a function of device arrays: a replayed CUDA graph on a GPU,
        the step itself here."""
        return step

    def check_labels(self, labels: Array, n_classes: int) -> None:
        """Refuse class labels outside 0..n_classes-1, on a CPU, where looking costs nothing.

        A GPU would have to stop and wait in every step; there the labels are checked once, on the host,
        where they enter (`fit`, `evaluate`, `Dataset`).
        """
        if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
            bad = labels[(labels < 0) | (labels >= n_classes)].ravel()[0]
            raise ValueError(f"label {bad} is outside 0..{n_classes - 1}, the classes that the outputs have")

    @contextmanager
    def threads_for(self, multiplications: int) -> Iterator[None]:
        """Inside the block, no more BLAS threads than a step of that many multiplications is worth.

        Measured on two quiet cores: at 7 million (an MLP of 111,146 weights at batch 64) a step takes 0.76 of its
        time on two threads, below some 4 million a second one costs more than it gives. More than two pay from some
        50 million on. The number that was set before, by OPENBLAS_NUM_THREADS say, is never exceeded. The same
        number of threads gives the same sums, so the rule must not depend on timings.
        """
        if multiplications >= 50_000_000:
            yield
            return
        with blas_threads(1 if multiplications < 4_000_000 else 2):
            yield

    # The mode ---------------------------------------------------------------------------------------------

    @contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """`with backend.mode(training=True):` dropout drops, batch statistics are taken; off by default."""
        before, self.training = self.training, training
        try:
            yield
        finally:
            self.training = before


_blas_lock = threading.Lock()
_blas_users: list[Any] = []  # a place for each of those inside `blas_threads`, below them what the first one set


@contextmanager
def blas_threads(most: int) -> Iterator[None]:
    """At most this many BLAS threads. Their number belongs to the process: the first who comes sets it, and it holds
    until the last has left."""
    from threadpoolctl import threadpool_info, threadpool_limits

    with _blas_lock:
        if not _blas_users:
            now = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
            _blas_users.append(threadpool_limits(min([most, *now]), user_api="blas"))
        _blas_users.append(None)
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users.pop()
            if len(_blas_users) == 1:
                _blas_users.pop().restore_original_limits()
