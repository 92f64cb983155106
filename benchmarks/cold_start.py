"""Time from the start of a process to 98 % on MNIST's test images: xpnet and an equal PyTorch script.

    XPNET_DATA=... python -m benchmarks.cold_start [--rounds 5]

Both read the same four files, standardise, and train 784-256-10 with AdamW and a one-cycle rate for three epochs at
batch 128. The processes run in turn, and each is timed from outside, imports included. One that ends below 98 % counts
as failed. xpnet runs with its default, one BLAS thread in training, and with two; PyTorch with one and with two.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

import numpy as np

HIDDEN, BATCH, EPOCHS, RATE, DECAY, GOAL = 256, 128, 3, 0.006, 0.1, 0.98
CONTENDERS = ("xpnet", "xpnet, 2 threads", "PyTorch, 1 thread", "PyTorch, 2 threads")


def ours(seed: int, threads: int | None) -> float:
    from xpnet import data, losses, nn, optim, schedules, select, train

    mnist = data.load("mnist")
    first = nn.Standardize(*data.mean_std(mnist.train.x))
    network = nn.Sequential(first, nn.Flatten(), *nn.mlp([784, HIDDEN, 10]).layers)
    model = nn.Model(network, (28, 28), select("cpu", seed=seed, threads=threads), mnist.train.classes)
    loss, steps = losses.SoftmaxCrossEntropy(), EPOCHS * len(data.batch_slices(len(mnist.train), BATCH))
    train.fit(
        model, loss, optim.AdamW(model, RATE, weight_decay=DECAY), mnist.train, epochs=EPOCHS, batch_size=BATCH,
        schedule=schedules.OneCycle(RATE, steps), quiet=True,
    )  # fmt: skip
    return train.evaluate(model, loss, mnist.test).accuracy


def pytorchs(seed: int, threads: int) -> float:
    import gzip

    import torch
    from torch import nn
    from torch.nn import functional as F

    def read(name: str, header: int) -> np.ndarray:
        folder = Path(os.environ["XPNET_DATA"]) / "mnist"
        packed = folder / f"{name}.gz"
        content = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
        return np.frombuffer(content, np.uint8, offset=header)

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    images, tests = (read(f"{part}-images-idx3-ubyte", 16).reshape(-1, 784) for part in ("train", "t10k"))
    labels, answers = (read(f"{part}-labels-idx1-ubyte", 8).astype(np.int64) for part in ("train", "t10k"))
    mean, std = images.mean(), images.std()
    x, test = (torch.from_numpy(((a - mean) / std).astype(np.float32)) for a in (images, tests))
    y = torch.from_numpy(labels)
    model = nn.Sequential(nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY, fused=True)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, cycle_momentum=False)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float((model(test).argmax(1).numpy() == answers).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        name, seed = arguments.only
        whose, _, threads = name.partition(", ")
        run, number = ours if whose == "xpnet" else pytorchs, int(threads.split()[0]) if threads else None
        print(run(int(seed), number))
        return
    from benchmarks.processes import timed

    timed(["-c", "from xpnet import data, train"])  # Python compiles files that pip would have compiled at installation
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    accuracies: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for seed in range(arguments.rounds):
        for name in CONTENDERS:
            done, (wall, _) = timed(["-m", "benchmarks.cold_start", "--only", name, str(seed)])
            done.check_returncode()
            seconds[name].append(wall)
            accuracies[name].append(float(done.stdout))
    best = min(statistics.median(seconds[name]) for name in CONTENDERS if not name.startswith("xpnet"))
    for name in CONTENDERS:
        median, got = statistics.median(seconds[name]), accuracies[name]
        failed = sum(accuracy < GOAL for accuracy in got)
        print(
            f"{name:19} {median:.2f} s ({min(seconds[name]):.2f} to {max(seconds[name]):.2f}), "
            f"{min(got):.2%} to {max(got):.2%}, {failed} of {len(got)} below {GOAL:.0%}, {median / best:.2f} x PyTorch"
        )


if __name__ == "__main__":
    main()
