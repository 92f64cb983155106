"""One model, three engines: the time of a sample in pure Python, NumPy and CuPy, as a Markdown table.

    python benchmarks/three_engines.py

The time is of forward, softmax cross-entropy and backward in float64, for one sample and for a batch of 64 (divided by
64). It is the shortest of many, without the effects of other programs and of Python's garbage collector.

The gradients of all engines must agree to 1e-12, or the program stops. The scalar engine has no batches. The images are
random, which does not change the times.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from time import perf_counter

import numpy as np

from xpnet import Backend, BackendError, losses, nn, select
from xpnet.scalar import BasicNet, Value, cross_entropy, to_model

NETWORKS = ([784, 10, 10], [784, 128, 64, 32, 10])
BATCH = 64
SECONDS = 2.0  # how long each entry is measured, at least


def scalar_pass(net: BasicNet, pixels: list[float], label: int) -> None:
    for parameter in net.get_parameters():
        parameter.grad = 0.0
    cross_entropy(net.feed([Value(x) for x in pixels]), label).backward()


def model_pass(model: nn.Model, x, labels) -> None:
    model.zero_grad()
    y, backward = model.forward(x)
    _, dy = losses.SoftmaxCrossEntropy()(y, labels, model.backend)
    backward(dy)
    model.backend.synchronize()


def agree(net: BasicNet, model: nn.Model) -> None:
    """Raise AssertionError unless the gradients that both have now are the same."""
    for i, layer in enumerate(net.layers):
        linear = model.network.layers[2 * i]  # there is a ReLU between two Linear layers
        by_net = np.array([[w.grad for w in neuron.weights] for neuron in layer.neurons])
        by_model = model.backend.to_host(linear.W.grad).T
        np.testing.assert_allclose(by_model, by_net, rtol=1e-12, atol=1e-12)


def shortest(call: Callable[[], None]) -> float:
    call()  # warm
    times, until = [], perf_counter() + SECONDS
    while perf_counter() < until or len(times) < 5:
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def scalar_seconds(net: BasicNet, x: np.ndarray, labels: np.ndarray) -> float:
    pixels, label = x[0].tolist(), int(labels[0])
    return shortest(lambda: scalar_pass(net, pixels, label))


def model_seconds(net: BasicNet, backend: Backend, x: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Seconds for one sample, and per sample of a batch; `net` has the gradients of the first sample."""
    model = to_model(net, backend)
    batch, targets = backend.asarray(x), backend.asarray(labels)
    with backend.threads_for(len(x) * model.n_parameters):
        alone = shortest(lambda: model_pass(model, batch[:1], targets[:1]))
        agree(net, model)
        return alone, shortest(lambda: model_pass(model, batch, targets)) / len(x)


def engines() -> dict[str, Backend]:
    found = {"NumPy": select("cpu", "float64")}
    try:
        found["CuPy"] = select("cuda", "float64")
    except BackendError as error:
        print(f"without CuPy: {error}\n")
    return found


def main() -> None:
    backends = engines()
    devices = ", ".join(f"{name} on {backend.device}" for name, backend in backends.items())
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}; {devices}\n")
    print("| network | engine | one sample | a sample of a batch of 64 |\n|---|---|---:|---:|")
    rng = np.random.default_rng(0)
    x, labels = rng.random((BATCH, 784)), rng.integers(0, 10, BATCH)
    for sizes in NETWORKS:
        net, name = BasicNet.random(sizes), "-".join(map(str, sizes))
        alone = milliseconds(scalar_seconds(net, x, labels))
        print(f"| {name} | scalar (pure Python) | {alone} | {alone} |", flush=True)
        for engine, backend in backends.items():
            alone, of_many = map(milliseconds, model_seconds(net, backend, x, labels))
            print(f"| {name} | {engine} | {alone} | {of_many} |", flush=True)


if __name__ == "__main__":
    main()
