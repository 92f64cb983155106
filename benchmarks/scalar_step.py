"""How long one training sample takes in the scalar engine: `python benchmarks/scalar_step.py`.

A 784-10-10 network with ReLU, one sample, softmax cross-entropy: the median times of forward, backward and `predict`.
"""

import platform
import random
import statistics
from time import perf_counter

from xpnet.scalar import BasicNet, Value, cross_entropy

STEPS = 101


def main() -> None:
    net = BasicNet.random([784, 10, 10], seed=0)
    rng = random.Random(1)
    pixels = [rng.random() for _ in range(net.n_inputs)]
    forward, backward, both, plain = [], [], [], []
    for _ in range(STEPS):
        t0 = perf_counter()
        error = cross_entropy(net.feed([Value(x) for x in pixels]), 3)
        t1 = perf_counter()
        error.backward()
        t2 = perf_counter()
        net.predict(pixels)
        t3 = perf_counter()
        forward.append(t1 - t0)
        backward.append(t2 - t1)
        both.append(t2 - t0)
        plain.append(t3 - t2)
    print(f"{net}, Python {platform.python_version()}, median of {STEPS} steps")
    for name, times in (("forward", forward), ("backward", backward), ("both", both), ("predict", plain)):
        print(f"{name:9} {1000 * statistics.median(times):7.2f} ms")


if __name__ == "__main__":
    main()
