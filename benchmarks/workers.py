"""What a second process gains for the tutorial's MLP, 784-128-64-32-10, and what summing gradients costs.

    python benchmarks/workers.py [--rounds 5]

Every contender is started anew in each round, in turn, and times single steps of gradient descent over 20,000 images.
Two quantiles are given: the median, and the 10 % quantile, which on a busy machine is the time of an undisturbed step.
Then the sums of gradients in two processes are timed, and from the 10 % quantiles the times for more processes are
estimated. One BLAS thread each.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import subprocess
import sys
import time

import numpy as np

SIZES, SAMPLES = (784, 128, 64, 32, 10), 20_000
GRADIENTS = {"MLP": 111_146, "CNN": 421_642, "large": 1_200_000}
PROCESSES = (1, 2, 4, 8, 16, 32, 64)
NETWORK = (30e-6, 1.1e9)  # seconds of latency, bytes a second: 10 Gbit/s Ethernet, assumed and not measured


def quantiles(seconds: list[float]) -> str:
    return f"{np.median(seconds)},{np.quantile(seconds, 0.1)}"


def step_seconds(batch: int) -> list[float]:
    """The seconds of the steps of a run, in the group that this process is part of."""
    from xpnet import data, losses, nn, optim, parallel, select, train
    from xpnet.backend.base import blas_threads

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (SAMPLES, 784), np.uint8), rng.integers(0, 10, SAMPLES)
    model = nn.Model(nn.Sequential(nn.Standardize(33.3, 78.6), *nn.mlp(SIZES).layers), (784,), select("cpu"))
    samples, loss = data.Dataset(x, y), losses.SoftmaxCrossEntropy()
    optimizer, group = optim.SGD(model, 0.01), parallel.join()
    run = train.Run(model, loss, optimizer, samples, batch, group=group)
    seconds = []
    with blas_threads(1), model.backend.mode(training=True), optimizer.shared_by(group):
        for _ in range(min(len(run.slices), 600)):
            begun = time.perf_counter()
            run.step()
            seconds.append(time.perf_counter() - begun)
    return seconds[20:] if len(seconds) > 40 else seconds[2:]


def sum_seconds(size: int) -> dict[str, list[float]]:
    """The seconds of the ways to add up `size` float32 gradients, and of the parts of a sum, in the process's group."""
    from xpnet import parallel

    group, elsewhere = parallel.join(), np.ones(size, np.float32)
    window, values, number = group.window(np.empty(size, np.float32)), np.ones(size, np.float32), np.ones(1, np.float32)

    def update() -> None:
        """What a process does in a step of gradient descent besides its own forward and backward pass."""
        window.sum_gradients(window.grad, 1)
        values[window.own] -= window.grad[window.own]
        window.exchange(values)

    ways = {
        "meeting": window.meet,
        "one number": lambda: group.sum(number),
        "shared update": update,
        "Allreduce": lambda: group.sum_gradients(elsewhere, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(300):
        for name, way in ways.items():
            window.grad.fill(1)
            elsewhere.fill(1)
            group._everyone.Barrier()
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def measured(workers: int, what: str) -> str:
    """The output of one measurement, in `workers` fresh processes."""
    from xpnet.cli.workers import mpiexec

    command = [sys.executable, __file__, "--measure", what]
    command = [mpiexec(), "-n", str(workers), *command] if workers > 1 else command
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def measure(what: str) -> None:
    from xpnet import parallel

    kind, number = what.split("=")
    times = {"step": step_seconds(int(number))} if kind == "step" else sum_seconds(int(number))
    if parallel.join().rank == 0:
        print(*(f"{name}={quantiles(seconds)}" for name, seconds in times.items()), sep="\n")


def table(rounds: int, workers: int, what: str) -> dict[str, tuple[float, float]]:
    """By name, the medians over the rounds of the two quantiles, 50 % and 10 %, in seconds."""
    seconds: dict[str, list[list[float]]] = {}
    for _ in range(rounds):
        for line in measured(workers, what).splitlines():
            name, values = line.split("=")
            seconds.setdefault(name, []).append([float(value) for value in values.split(",")])
    return {name: tuple(np.median(times, axis=0).tolist()) for name, times in seconds.items()}


def steps(rounds: int, batch: int) -> None:
    seconds: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, times in seconds.items():
            times.append(table(1, workers, f"step={batch}")["step"])
    of = {workers: np.median(times, axis=0) for workers, times in seconds.items()}
    for workers in seconds:
        half, tenth = (of[workers] * 1e6).round().astype(int).tolist()
        ratios = " | ".join(f"{ratio:.2f}" for ratio in of[workers] / of[1])
        print(f"| {batch} | {workers} | {half} | {tenth} | {ratios} |")


def on_paper(alone: dict[int, float], sums: dict[str, float], batch: int) -> None:
    """Estimate a step of `batch` samples by N processes on one machine, and with four on each of N / 4 machines.

    A process takes the measured time of a step of batch / N samples, and the time of the shared update. That is as long
    as with two processes, except for its two meetings, which take log2(N) rounds each. Between M machines, a ring moves
    2 (M - 1) / M of the gradients in 2 (M - 1) messages, and then the machines meet, which takes 2 log2(M) messages.
    """
    latency, bandwidth = NETWORK
    for n in PROCESSES:
        here = sums["shared update"] + 2 * sums["meeting"] * (math.log2(n) - 1) if n > 1 else 0.0
        one = alone[batch // n] + here
        machines = max(n // 4, 1)
        ring = 2 * (machines - 1) * latency + 2 * (machines - 1) / machines * 4 * GRADIENTS["MLP"] / bandwidth
        many = one + ring + 2 * latency * math.log2(machines) if machines > 1 else one
        print(f"| {n} | {one * 1e6:.0f} | {alone[batch] / one:.1f} | {many * 1e6:.0f} | {alone[batch] / many:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {load}; NumPy {np.__version__}\n")
    print("| batch | workers | us, median | us, fastest tenth | ratio to one | the same |\n|---|---|---|---|---|---|")
    for batch in (64, 512):
        steps(arguments.rounds, batch)
    print("\n| us, two processes | meeting | one number | shared update | Allreduce |\n|---|---|---|---|---|")
    sums = {}
    for name, size in GRADIENTS.items():
        times = {key: tenth for key, (_, tenth) in table(arguments.rounds, 2, f"sum={size}").items()}
        shown = " | ".join(f"{times[key] * 1e6:.1f}" for key in ("meeting", "one number", "shared update", "Allreduce"))
        print(f"| {name}, {size:,} | {shown} |")
        sums[name] = times
    sizes = [512 // n for n in PROCESSES]
    alone = {size: table(arguments.rounds, 1, f"step={size}")["step"][1] for size in sizes}
    print("\n| N, batch 512 | us on one machine | gain | us on N / 4 machines | gain |\n|---|---|---|---|---|")
    on_paper(alone, sums["MLP"], 512)
    print(f"\nload {', '.join(f'{value:.1f}' for value in os.getloadavg())}")


if __name__ == "__main__":
    main()
