"""`Backend`: where and how a pass runs. This file is for the CPU; `cuda.py` overrides what differs on a GPU."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from xpnet.arguments import switch, whole
from xpnet.backend.interchange import to_numpy
from xpnet.backend.memory import Memory, of_process
from xpnet.backend.observer import Observer
from xpnet.backend.precision import check_precision, to_bfloat16
from xpnet.backend.random import HostPhilox, Philox, host_generator
from xpnet.backend.threads import Team, blas_threads

Array = Any  # a numpy.ndarray, or its counterpart on another device (cupy.ndarray)
DTYPES = ("float32", "float64")
SMALL_STEP = 50_000_000  # multiplications below which a second BLAS thread is a risk (see `threads_for`)


class Backend:
    """The CPU: NumPy as array module, and everything else that a pass needs.

    Layers, losses and optimizers use `xp`, `dtype`, `training`, `rng`, `matmul`, `full_matmul`, `sum_rows`, `take`,
    `fuse`, `ones`, `constant`, `scratch`, `chunks` and `team`. None asks for the name of the device; a few look at the
    values of NumPy arrays, which costs nothing on the host. A backend has state (mode, random stream, working memory),
    so only one thread may use it at a time: give each thread its own.

    Attributes: `xp` the array module; `device` the device's name ("cpu", "cuda:0"); `dtype` of all floating point work;
    `rng` the random stream on the device; `training` the mode of the pass; `why` one sentence that says why this
    device was chosen; `threads` the number of threads that was asked for, or None;
    `precision` what the operands of products are rounded to ("float16", "bfloat16"; see `precision.py`), or None;
    `observer` the object that is told of every pass, or None (see `observed_by`); `trusting` is set by a model for a
    pass in which layers need not check what they return; `max_memory` the limit in bytes that was asked for, or None.
    """

    xp: Any = np
    array_type: Any = np.ndarray
    precisions: tuple[str, ...] = ()  # that this kind of device offers
    observer: Observer | None = None
    trusting: bool = False
    max_memory: int | None = None

    def __init__(
        self,
        dtype: str = "float32",
        seed: int = 0,
        device: str = "cpu",
        why: str = "asked for",
        threads: int | None = None,
        precision: str | None = None,
    ):
        if str(dtype) not in DTYPES:
            hint = "; for products of 16 bits see precision" if "16" in str(dtype) else ""
            raise ValueError(f"unknown dtype {str(dtype)!r}: choose one of {', '.join(DTYPES)}{hint}")
        self.seed = whole("seed", seed, least=0)
        self.device, self.threads = device, None if threads is None else whole("threads", threads, least=1)
        self.dtype = np.dtype(str(dtype))
        if precision is not None:
            check_precision(precision, self.dtype, self.precisions, device)
        self.precision, self.why, self.training = precision, why, False
        self.training_lock = threading.Lock()
        self.rng: Philox = self._stream(seed)
        self.kept: dict[Any, Array] = {}  # the memory of `scratch` and `ones`
        self._constants: dict[tuple[float, ...] | bytes, Array] = {}

    def __repr__(self) -> str:
        products = f", products in {self.precision}" if self.precision else ""
        return f"<Backend {self.device} {self.dtype}{products}: {self.why}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        from xpnet import html

        shown = {
            "device": self.device, "dtype": self.dtype, "products in": self.precision or self.dtype,
            "seed": self.seed, "BLAS threads": self.threads or "as the step needs", "why": self.why,
        }  # fmt: skip
        return html.table((), [(name, str(value)) for name, value in shown.items()], left=2)

    # Between host and device ------------------------------------------------------------------------------

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """`values` on this device: floating point in `dtype` (default: the backend's), integers and booleans unchanged.

        Arrays of any library are accepted, and not copied if they are on this device in that dtype already. Raises
        TypeError for anything but an array of real numbers, and for an array that is neither here nor on the host.
        """
        self.use()
        adopted = self._adopted(values)
        array = to_numpy(values) if adopted is None else adopted
        if array.dtype.kind not in "biuf":
            raise TypeError(f"cannot put an array of {array.dtype} on {self.device}: only real numbers")
        if array.dtype.kind == "f":
            array = array.astype(dtype or self.dtype, copy=False)
        return self._upload(array) if adopted is None else array

    def as_it_lies(self, values: Any) -> Array:
        """`values` as an array without a copy, where they are: on this device or on the host."""
        adopted = self._adopted(values)
        return to_numpy(values) if adopted is None else adopted

    def to_host(self, array: Array) -> np.ndarray:
        """A NumPy array of the same values. On a GPU this waits for the device: never call it inside a step."""
        self._travels("to_host")
        return self._download(array)

    def synchronize(self) -> None:
        """Wait until the device has finished all its work (for timings)."""
        self._travels("synchronize")
        self._wait()

    def _upload(self, host: np.ndarray) -> Array:
        self._travels("_upload")
        return self._sent(host)

    def _travels(self, what: str) -> None:
        if self.observer is not None:
            self.observer.transfer(what)

    # What other devices override, for these methods and for products:
    def _adopted(self, values: Any) -> Array | None:
        """An array of any library that is on this device, as one of `array_type`; None for anything else."""
        return values if type(values) is self.array_type else None

    def _sent(self, host: np.ndarray) -> Array:
        return host

    def _download(self, array: Array) -> np.ndarray:
        return array

    def _wait(self) -> None:
        pass

    def _product(self, a: Array, b: Array, out: Array | None) -> Array:
        if b.ndim == 2 < a.ndim and out is None and a.size and a.flags.c_contiguous:  # one tall product, not many small
            return self._product(a.reshape(-1, a.shape[-1]), b, None).reshape(*a.shape[:-1], b.shape[-1])
        product = self.xp.matmul if self.team is None else self.team.product
        return product(a, b, out=out)

    def _rounded(self, a: Array) -> Array:
        return a.astype(self.xp.float16) if self.precision == "float16" else to_bfloat16(a, self.xp)

    def _stream(self, seed: int) -> Philox:
        return HostPhilox(seed)

    def host_rng(self, purpose: str) -> np.random.Generator:
        """NumPy's generator for draws made on the host (weights, splits, order): the same on every device."""
        return host_generator(self.seed, purpose)

    def use(self) -> None:
        """Make this device the thread's current one; `asarray`, `xp`, `mode`, a forward and a captured step call it."""

    # What layers, losses and optimizers use ---------------------------------------------------------------

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """The only entry point for matrix products, a @ b (batched over leading axes, as in NumPy). With a `precision`,
        the operands are first rounded to it."""
        if self.precision is not None:
            if not a.dtype == b.dtype == self.dtype:
                raise TypeError(f"a product in {self.precision} takes {self.dtype}, not {a.dtype} and {b.dtype}")
            a, b = self._rounded(a), self._rounded(b)
        return self._product(a, b, out)

    def full_matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """a @ b without rounding the operands: for sums that are written as products, and for optimizers."""
        # OpenBLAS's matrix-vector kernel reads past the end of short rows. The numbers there are not used, but a NaN
        # among them sets the invalid flag.
        with np.errstate(invalid="ignore"):
            return self._product(a, b, out)

    def take(self, a: Array, indices: Array) -> Array:
        """Rows of `a`: out[i] = a[indices[i]]. The indices must be in range (checked where data enter)."""
        return a.take(indices, axis=0, mode="clip")  # "clip" is NumPy's only mode without a second pass

    def fuse(self, f: Callable) -> Callable:
        """f, a chain of elementwise operations on arrays, as one kernel on a GPU (`tracing.py`); f itself here."""
        return f

    def sum_rows(self, a: Array, out: Array | None = None) -> Array:
        """Sum over the first axis of a 2-D array, as a product with ones: fastest, and always in the same order."""
        return self.full_matmul(self.ones(a.shape[0], a.dtype), a, out)

    def ones(self, n: int, dtype: Any) -> Array:
        """A vector of n ones, a view of the longest that was asked for so far: never change it."""
        key = np.dtype(dtype)
        if key not in self.kept or self.kept[key].size < n:
            self.kept[key] = self.xp.ones(n, dtype)
        return self.kept[key][:n]

    def constant(self, values: tuple[float, ...] | bytes) -> Array:
        """These numbers (bytes hold float64) as a 1-D array in the backend's dtype, uploaded once: never change it."""
        if values not in self._constants:
            numbers = np.array(np.frombuffer(values) if isinstance(values, bytes) else values, self.dtype)
            with self.observed_by(None):  # one transfer in a run is not worth a warning
                self._constants[values] = self.asarray(numbers)
        return self._constants[values]

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """Uninitialised working memory, in the backend's dtype if none is named.

        The next call with this name and dtype gets the same memory: never keep or return it.
        """
        key, size = (name, np.dtype(dtype or self.dtype)), math.prod(shape)
        if key not in self.kept or self.kept[key].size < size:
            self.kept[key] = self.xp.empty(size, key[1])
        return self.kept[key][:size].reshape(shape)

    @contextmanager
    def own_memory(self, memory: dict[Any, Array]) -> Iterator[None]:
        """Inside the block, `scratch` and `ones` use `memory`. A captured step has its own: eager code that needs a
        larger array would replace the shared one, and so free what the graph uses."""
        before, self.kept = self.kept, memory
        try:
            yield
        finally:
            self.kept = before

    def memory(self) -> Memory:
        """The bytes in use now, those kept for future arrays, and the most that there were."""
        return of_process(sum(array.nbytes for memory in self._scratch_memory() for array in memory.values()))

    def free_memory(self) -> None:
        """Free the memory that is kept for future arrays. Do not call it inside a step."""
        for memory in self._scratch_memory():
            memory.clear()

    def _scratch_memory(self) -> list[dict[Any, Array]]:
        return [self.kept, *(backend.kept for backend in (self.team.backends if self.team else ()))]

    def limit_memory(self, size: int) -> None:
        """Use at most `size` bytes: on a GPU this limits CuPy's pool, and so all its users in this process; on the CPU
        `fit` refuses a step that would need more. Raises ValueError for a size below 1."""
        self.max_memory = whole("max_memory (bytes)", size, least=1)

    def available_memory(self) -> int | None:
        """How many bytes a step and the model that it trains may take together; None if there is no limit."""
        return self.max_memory

    def chunks(self, size: int, numbers: int = 1) -> Iterator[slice]:
        """Slices that cover `size` items of so many numbers each: pieces that fit a CPU's cache; on a GPU one slice."""
        step = max(65536 // numbers, 1)
        for start in range(0, size, step):
            yield slice(start, min(start + step, size))

    def capture(self, step: Callable) -> Callable:
        """Called like `step`, a function of device arrays: on a GPU it replays a CUDA graph; here it is the step."""
        return step

    @cached_property
    def team(self) -> Team | None:
        """The threads that share a batch (`nn.Blocked`) or a large update; None unless more than one was asked for."""
        return Team(self, self.threads) if self.threads is not None and self.threads > 1 else None

    @contextmanager
    def threads_for(self, multiplications: int) -> Iterator[None]:
        """Inside the block, BLAS uses the number of threads that was asked for (`select(threads=...)`). By default it
        uses one if the step has fewer than 50 million multiplications, else the number that is already set.

        On two idle cores a second thread makes an MLP's step (111,146 weights, batch 64) take 0.75 to 1.35 times as
        long, depending on the machine. If other work runs on them, the two wait for each other, and it takes over ten
        times as long. A number set before, as by OPENBLAS_NUM_THREADS, is never exceeded. Only the same number of
        threads gives the same sums, so the rule must not depend on timings. Once a `team` runs, BLAS has one thread.
        """
        if self.threads is None and multiplications >= SMALL_STEP:
            yield
            return
        with blas_threads(self.threads or 1), self.team.instead_of_blas() if self.team else nullcontext():
            yield

    # The mode ---------------------------------------------------------------------------------------------

    @contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """Inside `with backend.mode(training=True):` dropout is active and batch statistics are used; default: off."""
        self.use()
        before, self.training = self.training, switch("training", training)
        try:
            yield
        finally:
            self.training = before

    @contextmanager
    def observed_by(self, observer: Observer | None) -> Iterator[None]:
        """Inside the block, `observer` is told of every pass on this backend, and any previous observer is not."""
        before = vars(self).get("observer", self)  # self means: it had no observer of its own
        self.observer = observer
        try:
            yield
        finally:
            if before is self:
                del self.observer
            else:
                self.observer = before
