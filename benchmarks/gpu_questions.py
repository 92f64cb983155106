"""Questions that only a real GPU can answer, one function for each.

Each takes a kind of backend and returns its measurements, with "holds": whether they are as the package expects (None
where it expects nothing, and there is only a figure). Those in ANYWHERE work with every kind of backend, so that a test
can run them without a GPU; those in IN_16_BITS with every kind that has a precision; those in ON_A_GPU use CuPy itself.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np

from xpnet import Backend, Model, losses, nn, optim, probe
from xpnet.backend import PRECISIONS
from xpnet.backend.precision import to_bfloat16, widened
from xpnet.backend.random import HostPhilox
from xpnet.optim import loss_scale
from xpnet.train import train_step

BackendFactory = Callable[..., Backend]  # takes dtype, seed and, if the device supports it, precision
Answer = dict[str, Any]
GROWTH = 4 << 20  # bytes, a few blocks of a pool: 10,000 replays that lose CuPy's smallest, of 512 bytes, lose more
LIMIT = 1e-6  # of a float32 product, |error| <= limit * |row| * |column|; TF32 is off by 2e-5 and more


class Training:
    """A network with dropout, its optimizer and a batch; `step` is what is captured."""

    def __init__(self, backend: Backend, sizes: tuple[int, ...] = (784, 128, 64, 10), batch: int = 64):
        rng = np.random.default_rng(0)
        self.model = Model(nn.mlp(sizes, dropout=0.1), (sizes[0],), backend)
        self.optimizer, self.loss = optim.Adam(self.model), losses.SoftmaxCrossEntropy()
        self.x = backend.asarray(rng.standard_normal((batch, sizes[0])))
        self.target = backend.asarray(rng.integers(0, sizes[-1], batch))

    def step(self, x: Any, target: Any) -> Any:
        return train_step(self.model, self.loss, self.optimizer, x, target)[0]

    def losses(self, step: Callable, steps: int) -> list[float]:
        backend = self.model.backend
        with backend.mode(training=True):
            return [float(backend.to_host(step(self.x, self.target))) for _ in range(steps)]

    def weights(self) -> np.ndarray:
        return np.array(self.model.backend.to_host(self.model.data))


@contextmanager
def products_as_captured(backend: Backend) -> Iterator[None]:
    """Inside the block, an eager step multiplies as a captured step does; on the CPU there is nothing to do."""
    if not hasattr(backend, "products_by"):
        yield
        return
    import cupy as cp

    from xpnet.backend.gemm import CublasGemm

    stream = cp.cuda.Stream(non_blocking=True)
    backend.synchronize()  # the new stream does not wait for the work that makes the arrays
    with stream, backend.products_by(CublasGemm(stream)):
        yield
        stream.synchronize()


# For any kind of backend ------------------------------------------------------------------------------------------


def replays_equal_eager_steps(kind: BackendFactory, steps: int = 100) -> Answer:
    """The same steps, replayed and run eagerly with the same products, give the same bits, and the loss falls."""
    eager, replayed, plain = (Training(kind("float32", 0)) for _ in range(3))
    with products_as_captured(eager.model.backend):
        one_by_one = eager.losses(eager.step, steps)
    captured = replayed.losses(replayed.model.backend.capture(replayed.step), steps)
    with_cupys_products = plain.losses(plain.step, steps)
    same = one_by_one == captured and np.array_equal(eager.weights(), replayed.weights())
    return {
        "holds": bool(same and captured[-1] < captured[0]),
        "same_bits": bool(same),
        "first_loss": captured[0],
        "last_loss": captured[-1],
        "largest_gap": max(abs(a - b) for a, b in zip(one_by_one, captured, strict=True)),
        "largest_gap_to_other_products": max(abs(a - b) for a, b in zip(with_cupys_products, captured, strict=True)),
    }


def a_second_graph_leaves_the_first_alone(kind: BackendFactory, rounds: int = 20) -> Answer:
    """Two batch sizes in turn (two graphs of one step), and another network's graph between them."""
    eager, replayed, other = (Training(kind("float32", 0), (64, 32, 10)) for _ in range(3))
    captured = replayed.model.backend.capture(replayed.step)
    between = other.model.backend.capture(other.step)
    for one in (eager, replayed, other):
        one.model.backend.training = True

    def alternate(one: Training, step: Callable, beside: Callable) -> list[float]:
        found = []
        for i in range(rounds):
            n = 64 if i % 2 else 40
            found.append(float(one.model.backend.to_host(step(one.x[:n], one.target[:n]))))
            beside()
        return found

    with products_as_captured(eager.model.backend):
        want = alternate(eager, eager.step, lambda: None)
    got = alternate(replayed, captured, lambda: between(other.x, other.target))
    return {"holds": want == got, "largest_gap": max(abs(a - b) for a, b in zip(want, got, strict=True))}


def random_numbers_are_numpys(kind: BackendFactory) -> Answer:
    """The device's random numbers equal NumPy's Philox: with counters that carry, and drawn by a replayed step."""
    wrong = []
    top = 2**64 - 1
    for dtype in ("float32", "float64"):
        for counter in ((0, 0, 0, 0), (top - 2, 0, 0, 0), (top - 2, top, top, 7), (top, top, top, top)):
            backend, host = kind(dtype, 0), HostPhilox(0)
            backend.rng.state = host.state = np.array([11, 12, *counter], np.uint64)
            for size in (1, 7, 8, 9, 4097, 100_003):
                got = np.array(backend.to_host(backend.rng.random((size,), dtype)))
                if not np.array_equal(got, host.random((size,), dtype)):
                    wrong.append(f"{dtype}, {size} numbers from {counter}")
    backend, host = kind("float32", 3), HostPhilox(3)
    draw = backend.capture(lambda x: x + backend.rng.random((1001,), "float32"))
    zeros = backend.xp.zeros(1001, "float32")
    for call in range(8):
        if not np.array_equal(backend.to_host(draw(zeros)), host.random((1001,), "float32")):
            wrong.append(f"call {call + 1} of a captured step")
    return {"holds": not wrong, "wrong": wrong}


REDUCTIONS: dict[str, Callable] = {
    "sum": lambda xp, x: x.sum(),
    "sum of rows": lambda xp, x: x.sum(axis=1),
    "mean": lambda xp, x: x.mean(),
    "max": lambda xp, x: x.max(axis=1, keepdims=True),
    "argmax": lambda xp, x: x.argmax(axis=1),
    "sort of integers": lambda xp, x: xp.sort((x * 1000).astype(np.int64).reshape(-1)),  # as in an embedding
}


def reductions_and_sorts_can_be_captured(kind: BackendFactory) -> Answer:
    """Each reduction or sort, in a step of its own, gives the same result replayed as eagerly."""
    found = {}
    host = np.random.default_rng(0).standard_normal((64, 1000))
    for name, function in REDUCTIONS.items():
        backend = kind("float32", 0)
        x = backend.asarray(host)
        want = np.array(backend.to_host(function(backend.xp, x)))
        try:
            captured = backend.capture(lambda x, f=function, b=backend: f(b.xp, x))
            results = [np.array(backend.to_host(captured(x))) for _ in range(5)]
            found[name] = "ok" if all(np.array_equal(want, r) for r in results) else "other values"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return {"holds": all(v == "ok" for v in found.values()), **found}


def products_are_float32(kind: BackendFactory) -> Answer:
    """The error of float32 products as a fraction of |row| |column|, eager and captured, by length of the sum."""
    errors = {}
    for k in (256, 1024, 4096):
        rng, backend = np.random.default_rng(k), kind("float32", 0)
        a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((128, k), (k, 96)))
        right = a.astype(np.float64) @ b.astype(np.float64)
        scale = np.linalg.norm(a, axis=1)[:, None].astype(np.float64) * np.linalg.norm(b, axis=0)
        on_device = [backend.asarray(v) for v in (a, b)]
        captured = backend.capture(backend.matmul)
        eager = np.array(backend.to_host(backend.matmul(*on_device)))
        replayed = [np.array(backend.to_host(captured(*on_device))) for _ in range(4)][-1]
        errors[f"{k}, eager"], errors[f"{k}, replayed"] = (
            float((np.abs(c - right) / scale).max()) for c in (eager, replayed)
        )
    return {"holds": max(errors.values()) <= LIMIT, **errors, "CUPY_TF32": os.environ.get("CUPY_TF32", "not set")}


def step_times(kind: BackendFactory, repeats: int = 300) -> Answer:
    """Microseconds for a step of 784-128-64-10 at batch 64: eager, captured, and on the CPU."""
    times = {}
    for name, make, capture in (("eager", kind, False), ("captured", kind, True), ("cpu", Backend, False)):
        one = Training(make("float32", 0))
        backend = one.model.backend
        step = backend.capture(one.step) if capture else one.step
        threads = backend.threads_for(64 * one.model.n_parameters) if find_spec("threadpoolctl") else nullcontext()
        with backend.mode(training=True), threads:
            times[f"{name}_us"] = microseconds(lambda s=step, o=one: s(o.x, o.target), backend, repeats)
    return {"holds": None, **times}


def fusing_changes_rounding_alone(kind: BackendFactory, steps: int = 30, repeats: int = 300) -> Answer:
    """Steps with and without chains of operations fused into a kernel: the losses, and the time of a captured step."""
    losses_of, times = {}, {}
    for name, fuses in (("fused", True), ("not_fused", False)):
        one = Training(kind("float32", 0))
        backend = one.model.backend
        if not fuses:
            backend.fuse = lambda f: f  # type: ignore[method-assign]
        step = backend.capture(one.step)
        losses_of[name] = np.array(one.losses(step, steps))
        with backend.mode(training=True):
            times[f"{name}_us"] = microseconds(lambda s=step, o=one: s(o.x, o.target), backend, repeats)
    gap = float((np.abs(losses_of["fused"] / losses_of["not_fused"] - 1)).max())
    return {"holds": gap < 1e-4, "largest_relative_gap": gap, **times}


def microseconds(call: Callable, backend: Backend, repeats: int, together: int = 10) -> float:
    """The median time of a call in microseconds; the device is synchronised once for `together` calls."""
    samples = []
    for _ in range(max(repeats // together, 1) + 2):
        start = time.perf_counter()
        for _ in range(together):
            call()
        backend.synchronize()
        samples.append((time.perf_counter() - start) / together)
    return statistics.median(samples[2:]) * 1e6  # the first ones compile, warm up and capture


# For kinds that have products of 16 bits ------------------------------------------------------------------------------


def products_round_their_operands_alone(kind: BackendFactory) -> Answer:
    """The error of products of 16 bits as a fraction of |row| |column|, against rounded operands in float64."""
    errors = {}
    for precision in PRECISIONS:
        rng, backend = np.random.default_rng(0), kind("float32", 0, precision=precision)
        a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((128, 4096), (4096, 96)))
        rounded_a, rounded_b = (
            widened(v.astype(np.float16) if precision == "float16" else to_bfloat16(v, np)).astype(np.float64)
            for v in (a, b)
        )
        right = rounded_a @ rounded_b
        scale = np.linalg.norm(a, axis=1)[:, None].astype(np.float64) * np.linalg.norm(b, axis=0)
        captured, transposed = backend.capture(backend.matmul), backend.asarray(b.T.copy()).T
        products = {
            "eager": backend.matmul(backend.asarray(a), backend.asarray(b)),
            "transposed": backend.matmul(backend.asarray(a), transposed),
            "batched": backend.matmul(backend.asarray(a[None]), backend.asarray(b[None]))[0],
            "replayed": [captured(backend.asarray(a), backend.asarray(b)) for _ in range(4)][-1],
        }
        for name, product in products.items():
            errors[f"{precision}, {name}"] = float((np.abs(backend.to_host(product) - right) / scale).max())
    return {"holds": max(errors.values()) <= LIMIT, **errors}


def replays_skip_steps_as_eager_ones_do(kind: BackendFactory, steps: int = 40) -> Answer:
    """float16 with a loss scale that is too high at first: replayed steps are skipped exactly as eager ones are."""
    eager, replayed = (Training(kind("float32", 0, precision="float16"), (64, 32, 10)) for _ in range(2))
    for one in (eager, replayed):
        scale = one.optimizer.loss_scale
        assert scale is not None
        scale.state[:1] = loss_scale.HIGHEST
    with products_as_captured(eager.model.backend):
        want = eager.losses(eager.step, steps)
    got = replayed.losses(replayed.model.backend.capture(replayed.step), steps)
    figures = [one.optimizer.loss_scale.figures for one in (eager, replayed)]  # type: ignore[union-attr]
    same = want == got and np.array_equal(eager.weights(), replayed.weights()) and figures[0] == figures[1]
    return {"holds": bool(same and figures[0]["skipped_steps"] > 0 and got[-1] < got[0]), **figures[1]}


def speed_of_products(kind: BackendFactory, sizes: tuple[int, ...] = (256, 1024, 4096), repeats: int = 100) -> Answer:
    """Tera-operations per second of a product of two square matrices, the rounding of the operands included."""
    speeds = {}
    for precision in (None, *PRECISIONS):
        backend = kind("float32", 0, precision=precision)
        for n in sizes:
            a, b = (backend.asarray(np.random.default_rng(i).standard_normal((n, n))) for i in range(2))
            time_us = microseconds(lambda a=a, b=b, backend=backend: backend.matmul(a, b), backend, repeats)
            speeds[f"{precision or 'float32'}, {n}"] = 2 * n**3 / time_us / 1e6
    return {"holds": None, **speeds}


# For CuPy ---------------------------------------------------------------------------------------------------------


def the_probe_says_ok(kind: BackendFactory) -> Answer:
    """What `xpnet doctor` says about this GPU."""
    diagnosis = probe.cuda(0)
    return {"holds": diagnosis.ok, "detail": diagnosis.detail}


def memory_stays_flat(kind: BackendFactory, replays: int = 10_000) -> Answer:
    """Free memory on the GPU before and after many replays: it shrinks by a few blocks of a pool at most."""
    import cupy as cp

    one = Training(kind("float32", 0))
    captured = one.model.backend.capture(one.step)
    for _ in range(100):
        captured(one.x, one.target)
    one.model.backend.synchronize()
    before, total = cp.cuda.runtime.memGetInfo()
    for _ in range(replays):
        captured(one.x, one.target)
    one.model.backend.synchronize()
    after, _ = cp.cuda.runtime.memGetInfo()
    return {"holds": before - after <= GROWTH, "replays": replays, "grown_bytes": before - after, "total_bytes": total}


def the_graph_allocates_nothing(kind: BackendFactory) -> Answer:
    """The nodes of a captured step, from CUDA's own description of the graph."""
    one = Training(kind("float32", 0))
    captured: Any = one.model.backend.capture(one.step)
    for _ in range(4):
        captured(one.x, one.target)
    (recording,) = captured._recordings.values()
    text = recording._graph.debug_dot_str()
    allocations = re.findall(r"mem_?(?:alloc|free)\w*", text, re.IGNORECASE)
    nodes = len(re.findall(r"^\s*\"?graph_\d+_node_\d+\"?\s*\[", text, re.MULTILINE))
    return {"holds": not allocations, "allocations": len(allocations), "nodes": nodes}


def a_pinned_copy_reads_again(kind: BackendFactory) -> Answer:
    """A copy from pinned host memory inside a graph: each replay reads the memory's content at that time."""
    import cupy as cp
    import cupyx

    host = cupyx.empty_pinned((256,), np.float32)
    device = cp.zeros(256, np.float32)
    result = cp.zeros(256, np.float32)
    stream = cp.cuda.Stream(non_blocking=True)
    cp.cuda.Device().synchronize()
    host[...] = -1
    with stream:
        cp.add(device, 1, out=result)  # compile before the capture
        stream.synchronize()
        stream.begin_capture()
        try:
            runtime = cp.cuda.runtime
            runtime.memcpyAsync(device.data.ptr, host.ctypes.data, host.nbytes, runtime.memcpyHostToDevice, stream.ptr)
            cp.add(device, 1, out=result)
        finally:
            graph = stream.end_capture()
        seen = []
        for value in (3, 5, 8):
            host[...] = value
            graph.launch(stream)
            stream.synchronize()
            seen.append(float(result[0]))
    return {"holds": seen == [4, 6, 9], "seen": seen}


def launch_costs(kind: BackendFactory, repeats: int = 2000) -> Answer:
    """Microseconds that one call costs the host, with arrays so small that the GPU has next to nothing to do."""
    import cupy as cp

    backend = kind("float32", 0)
    x, y, w = (cp.ones(shape, np.float32) for shape in ((64, 32), (64, 32), (32, 32)))
    kernel = cp.ElementwiseKernel("float32 a, float32 b", "float32 c", "c = a * b + a", "xpnet_launch_cost")
    graph = backend.capture(lambda x: x + 1)
    calls: dict[str, Callable] = {
        "x + y": lambda: x + y,
        "add(out=)": lambda: cp.add(x, y, out=y),
        "x.sum()": lambda: x.sum(),
        "x.max(1)": lambda: x.max(axis=1),
        "matmul": lambda: cp.matmul(x, w),
        "ElementwiseKernel": lambda: kernel(x, y),
        "random numbers": lambda: backend.rng.random((64, 32), np.float32),
        "a graph of one kernel": lambda: graph(x),
    }
    return {"holds": None, **{name: microseconds(call, backend, repeats, 100) for name, call in calls.items()}}


ANYWHERE: tuple[Callable[..., Answer], ...] = (
    replays_equal_eager_steps,
    a_second_graph_leaves_the_first_alone,
    random_numbers_are_numpys,
    reductions_and_sorts_can_be_captured,
    products_are_float32,
    fusing_changes_rounding_alone,
    step_times,
)
IN_16_BITS: tuple[Callable[..., Answer], ...] = (
    products_round_their_operands_alone,
    replays_skip_steps_as_eager_ones_do,
    speed_of_products,
)
ON_A_GPU: tuple[Callable[..., Answer], ...] = (
    the_probe_says_ok,
    memory_stays_flat,
    the_graph_allocates_nothing,
    a_pinned_copy_reads_again,
    launch_costs,
)
