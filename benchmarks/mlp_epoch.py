"""Time of an epoch of the tutorial's MLP, 784-128-64-32-10 at batch 64, plain gradient descent: xpnet and PyTorch.

    python benchmarks/mlp_epoch.py [--rounds 5]

Each contender is a process of its own with the same data, batch size and rate. They take turns for some rounds; every
round is one whole epoch over 60,000 images, gathering batches included. Prints medians, and ratios to the faster
PyTorch, which runs eagerly with one thread and with two. Uses MNIST if it can be found, otherwise random images (the
times are the same).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np

BATCH, RATE = 64, 0.1
SIZES = (784, 128, 64, 32, 10)


def images() -> tuple[np.ndarray, np.ndarray]:
    from xpnet import data

    try:
        train = data.load("mnist").train
        return train.x.reshape(-1, 784), train.y
    except OSError:
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (60000, 784), np.uint8), rng.integers(0, 10, 60000)


def xpnet_epoch():
    from xpnet import data, losses, nn, optim, select, train

    x, y = images()
    model = nn.Model(nn.Sequential(nn.Standardize(33.3, 78.6), *nn.mlp(SIZES).layers), (784,), select("cpu"))
    optimizer, loss = optim.SGD(model, RATE), losses.SoftmaxCrossEntropy()
    digits = data.Dataset(x, y, tuple("0123456789"))

    def epoch() -> float:
        result = train.fit(model, loss, optimizer, digits, epochs=1, batch_size=BATCH, quiet=True)
        return result.history[0]["train_loss"]

    return epoch


def torch_epoch(threads: int):
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    x, y = images()
    x, y = torch.from_numpy((x.astype(np.float32) - 33.3) / 78.6), torch.from_numpy(y)
    layers = [[nn.Linear(a, b), nn.ReLU()] for a, b in pairwise(SIZES)]
    model = nn.Sequential(*[part for pair in layers for part in pair][:-1])
    optimizer, loss = torch.optim.SGD(model.parameters(), RATE), nn.CrossEntropyLoss()

    def epoch() -> float:
        total = 0.0
        for rows in torch.randperm(len(x)).split(BATCH):
            value = loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.detach() * len(rows)
        return float(total) / len(x)

    return epoch


CONTENDERS = {
    "xpnet": xpnet_epoch,
    "torch, 1 thread": lambda: torch_epoch(1),
    "torch, 2 threads": lambda: torch_epoch(2),
}


def serve(name: str) -> None:
    epoch = CONTENDERS[name]()
    epoch()  # warm
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        value = epoch()
        print(time.perf_counter() - start, value, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = {n: subprocess.Popen([sys.executable, __file__, "--serve", n], **pipes) for n in CONTENDERS}
    for name, process in processes.items():
        if process.stdout.readline().strip() != "ready":
            sys.exit(f"{name} did not start")
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(arguments.rounds):
        for name, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            seconds[name].append(float(process.stdout.readline().split()[0]))
    for process in processes.values():
        process.communicate()
    median = {name: statistics.median(times) for name, times in seconds.items()}
    rival = min(value for name, value in median.items() if name != "xpnet")
    for name, value in median.items():
        spread = f"{min(seconds[name]):.3f} to {max(seconds[name]):.3f}"
        print(f"{name:17} {value:.3f} s an epoch ({spread})  {value / rival:.2f} x the faster torch")


if __name__ == "__main__":
    main()
