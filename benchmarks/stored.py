"""Training on data four times as large as the memory allowed: `data.open_npy` under a limit of the operating system.

    python benchmarks/stored.py [--megabytes 512]

A file of 28 x 28 images is written, and the tutorial's MLP is trained on it for an epoch (batch 64), each time in a
process of its own: from the file, with a quarter of its size as the limit on private memory (RLIMIT_DATA); with all of
it in memory, under the same limit, which must fail; and with all of it in memory, without a limit, for comparison.
Linux.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def write(folder: Path, megabytes: int) -> int:
    n = megabytes * 2**20 // 784
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, (n, 28, 28))
    y = np.random.default_rng(1).integers(0, 10, n)
    for begin in range(0, n, 10_000):
        part = slice(begin, min(begin + 10_000, n))
        x[part] = np.random.default_rng(begin).integers(0, 200, x[part].shape, np.uint8)
        x[part, :3] += y[part, None, None].astype(np.uint8) * 5  # something to learn
    np.save(folder / "y.npy", y)
    return n


def train(folder: Path, how: str, limit: int) -> None:
    from xpnet import data, losses, nn, optim, select, train

    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if how == "file":
        source = data.open_npy(folder / "x.npy", folder / "y.npy", classes=tuple("0123456789"))
    else:
        source = data.Dataset(np.load(folder / "x.npy"), np.load(folder / "y.npy"))
    layers = [nn.Standardize(100, 60), nn.Flatten(), *nn.mlp((784, 128, 64, 32, 10)).layers]
    model = nn.Model(nn.Sequential(*layers), (28, 28), select("cpu"))
    begun = time.perf_counter()
    result = train.fit(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.05), source, epochs=1, quiet=True)
    seconds = time.perf_counter() - begun
    accuracy, peak = result.history[0]["train_accuracy"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(f"{seconds:.1f} s, {len(source) / seconds:,.0f} images a second, training accuracy {accuracy:.2%};", end=" ")
    print(f"{int(status['RssAnon'].split()[0]) >> 10} MB private at the end, {peak} MB at most with the file's pages")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        folder, how, limit = arguments.train
        train(Path(folder), how, int(limit))
        return
    with tempfile.TemporaryDirectory() as folder:
        n, allowed = write(Path(folder), arguments.megabytes), arguments.megabytes // 4
        print(f"{n:,} images, {arguments.megabytes} MB; load {os.getloadavg()[0]:.1f}")
        for how, limit in (("file", allowed), ("memory", allowed), ("memory", 0)):
            command = [sys.executable, __file__, "--train", folder, how, str(limit << 20)]
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            said = done.stdout.strip() or done.stderr.strip().splitlines()[-1]
            print(f"from {how:6}, {f'{limit} MB allowed' if limit else 'no limit':14}: {said}")


if __name__ == "__main__":
    main()
