"""Kernels of chains without a GPU: a C++ compiler takes the part of CuPy's, NumPy's arrays that of its arrays."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest

from xpnet.backend import kernels
from xpnet.backend.fusion import TYPES

CPP = '#include <cmath>\nusing namespace std;\nextern "C" void kernel(long long size, {arguments}) {{\n{loop}\n}}\n'


class HostKernel:
    """What `cupy.ElementwiseKernel` does with a source, by a C++ compiler. Without fused multiply-adds, so that
    arithmetic is NumPy's bit for bit."""

    def __init__(self, inputs, outputs, operation, name):
        self.inputs, self.outputs = ([tuple(p.split()) for p in ps.split(", ") if p] for ps in (inputs, outputs))
        params = [*self.inputs, *self.outputs]
        arguments = ", ".join(f"{TYPES[kind]}* _{name}" for kind, name in params)
        given = "".join(f"const {TYPES[kind]}& {name} = _{name}[i];\n" for kind, name in self.inputs)
        given += "".join(f"{TYPES[kind]}& {name} = _{name}[i];\n" for kind, name in self.outputs)
        loop = f"for (long long i = 0; i < size; ++i) {{\n{given}{operation}\n}}"
        self.function = ctypes.CDLL(compiled(CPP.format(arguments=arguments, loop=loop))).kernel

    def __call__(self, *args):
        outputs = args[len(self.inputs) :]
        shape = np.broadcast_shapes(*(np.shape(a) for a in args))
        assert {a.shape for a in outputs} == {shape}
        for (kind, _), array in zip(self.outputs, outputs, strict=True):
            assert array.dtype == kind
        copies = [
            np.array(np.broadcast_to(np.asarray(a, kind), shape), order="C")
            for (kind, _), a in zip([*self.inputs, *self.outputs], args, strict=True)
        ]
        self.function(ctypes.c_longlong(copies[0].size), *(ctypes.c_void_p(c.ctypes.data) for c in copies))
        for array, values in zip(outputs, copies[len(self.inputs) :], strict=True):
            array[...] = values


FOLDER = TemporaryDirectory(prefix="fused")  # removed when the process ends


@cache
def compiled(source: str) -> str:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is neither g++ nor clang++")
    path = Path(FOLDER.name) / f"{abs(hash(source))}.cpp"
    path.write_text(source)
    command = [compiler, "-O1", "-ffp-contract=off", "-shared", "-fPIC", path, "-o", path.with_suffix(".so")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return str(path.with_suffix(".so"))


@pytest.fixture
def compiler(monkeypatch):
    """`kernels.launch` compiles for the host."""

    def poisoned(shape, dtype):
        return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 1, dtype)

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ElementwiseKernel=HostKernel, empty=poisoned))
    kernels.elementwise.cache_clear()
    yield
    kernels.elementwise.cache_clear()


def numbers(*shape: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    return (3 * np.random.default_rng(seed).normal(size=shape)).astype(dtype)
