"""The same command twice gives the same bits.

On the CPU for one number of BLAS threads, one version of NumPy and one kind of processor: its BLAS cuts a product
into as many parts as it has threads, and picks its kernels by the processor. On a GPU by default, for one model of
GPU and one version of the CUDA libraries: there are no atomic additions in the package. Between devices the random
numbers, initial values and batches are the same bits, and the rest agrees within rounding (see `xpnet parity`).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from xpnet import Backend, Model, data, losses, nn, optim, schedules, train

TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from test_determinism import fingerprint, trained
print(fingerprint(trained("Backend", int(sys.argv[2]))))
"""


def trained(kind: str, seed: int = 3):
    """A run with everything that is random in it: weights, order, dropout, augmentation."""
    if kind == "CudaBackend":
        from xpnet.backend.cuda import CudaBackend

        backend: Backend = CudaBackend("float32", seed)
    else:
        backend = Backend("float32", seed)
    digits = data.load("digits").train[:500]
    network = nn.Sequential(
        nn.Standardize(4.9, 6.0), nn.Flatten(), nn.Linear(200), nn.GELU(), nn.Dropout(0.3), nn.Linear(10)
    )
    model = Model(network, (8, 8), backend)
    optimizer = optim.AdamW(model, 0.003)
    result = train.fit(
        model, losses.SoftmaxCrossEntropy(0.1), optimizer, digits, data.load("digits").test, epochs=2, batch_size=64,
        schedule=schedules.Cosine(0.003, 14), clip=1.0, augment=data.Augment(shift=0.1, rotate=10), quiet=True,
    )  # fmt: skip
    return model, result


def fingerprint(run) -> str:
    """Of all values, and of the losses."""
    model, result = run
    tensors = model.tensors()
    curve = [(row["train_loss"], row["validation_loss"], row["validation_accuracy"]) for row in result.history]
    assert np.isfinite(curve).all()
    return hashlib.sha256(b"".join(t.tobytes() for t in tensors.values()) + repr(curve).encode()).hexdigest()


def python(*arguments: str, threads: int, hash_seed: int) -> str:
    """What a fresh interpreter prints."""
    environment = {
        **os.environ, "OPENBLAS_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(hash_seed), "XPNET_DEVICE": "cpu",
    }  # fmt: skip
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("threads", [1, 2])
def test_two_processes_train_to_the_same_bits(threads):
    here = os.path.dirname(__file__)
    runs = [python("-c", TRAIN, here, "3", threads=threads, hash_seed=i) for i in (1, 2)]
    assert runs[0] == runs[1]
    if threads == 1:
        assert python("-c", TRAIN, here, "4", threads=1, hash_seed=1) != runs[0]


def test_two_runs_in_one_process_are_the_same_bits():
    assert fingerprint(trained("Backend")) == fingerprint(trained("Backend"))


def test_the_command_twice_writes_the_same_model(tmp_path):
    files = []
    for i in (1, 2):
        out = tmp_path / str(i)
        arguments = ("--epochs", "2", "--hidden", "32", "--dropout", "0.2", "--seed", "5", "--device", "cpu", "--quiet")
        python("-m", "xpnet", "train", *arguments, "--out", str(out), threads=1, hash_seed=i)
        files.append((out / "model.safetensors").read_bytes())
    assert files[0] == files[1]


@pytest.mark.gpu
def test_a_gpu_trains_to_the_same_bits():
    assert fingerprint(trained("CudaBackend")) == fingerprint(trained("CudaBackend"))


@pytest.mark.gpu
def test_a_captured_step_on_a_gpu_gives_the_same_bits_each_time():
    from xpnet.backend.cuda import CudaBackend

    def weights() -> bytes:
        backend = CudaBackend("float32", 1)
        model = Model(nn.mlp([64, 48, 10], nn.Tanh, dropout=0.2), (64,), backend)
        optimizer, loss = optim.Adam(model), losses.SoftmaxCrossEntropy()
        step = backend.capture(lambda x, target: train.train_step(model, loss, optimizer, x, target)[0])
        digits = data.load("digits").train[:64]
        x, target = backend.asarray(digits.x.reshape(64, 64).astype(np.float32)), backend.asarray(digits.y)
        with backend.mode(training=True):
            for _ in range(20):
                step(x, target)
        return backend.to_host(model.data).tobytes()

    assert weights() == weights()
