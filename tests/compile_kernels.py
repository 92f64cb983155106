"""Compile every CUDA kernel of the package for several GPUs, without a GPU: prints a line for each that compiles.

python compile_kernels.py sm_75 sm_80 sm_90

The source is the very one that CuPy would launch. CuPy's public way to it asks the driver for the GPU, so this goes
through private parts of CuPy 14.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import cupy
import numpy as np
from cupy._core import _carray, _kernel, core
from cupy._core._scalar import CScalar
from cupy.cuda import compiler

from xpnet.backend import fusion, kernels, tracing

ARRAY, INDEXER, SCALAR = 1, 2, 3  # CuPy's numbers for kinds of arguments
NUMBERS = re.compile(r"n\d*|steps")  # parameters of kernels that are given plain numbers


def all_kernels() -> Iterator[Any]:
    """Each kernel of `kernels.py`, for each dtype."""
    for name, make in inspect.getmembers(kernels, lambda member: hasattr(member, "cache_info")):
        for dtype in ("float32", "float64"):
            if name == "elementwise":
                yield make(*everything(dtype).parameters(), everything(dtype).source())
            elif inspect.signature(make).parameters:
                yield make(np.dtype(dtype))
            elif dtype == "float32":
                yield make()


def everything(dtype: str) -> fusion.FusedChain:
    """A chain of all functions, by the operators and functions of CuPy itself: the one that NumPy's give."""
    kinds = {"x": (9, dtype), "rate": (1, dtype), "pixels": (9, "uint8"), "kept": (9, dtype)}

    def chain(xp: Any, **arrays: Any) -> fusion.FusedChain:
        kept = arrays.pop("kept")

        def f(x: Any, rate: Any, pixels: Any) -> Any:
            y = x.astype(dtype)
            for name in sorted(fusion.FUNCTIONS):
                function = getattr(xp, name)
                y += function(y) if function.nin == 1 else y * function(y, kept) * function(kept, y)
            y += kept * y - (1 - rate) / x + rate * (kept > x) - (pixels / 255 <= y) + (x == kept) + -abs(y)
            xp.multiply(y, 0.5, out=x)
            x *= rate
            return y, y > x, x != y

        return tracing.trace(f, xp.ndarray, tuple(arrays.values()), {})[0]

    of_cupy = chain(cupy, **{name: nowhere(*kind) for name, kind in kinds.items()})
    of_numpy = chain(np, **{name: np.empty(*kind) for name, kind in kinds.items()})
    if of_cupy.source() != of_numpy.source() or of_cupy.parameters() != of_numpy.parameters():
        raise AssertionError(f"CuPy's operators make another chain than NumPy's:\n{of_cupy.source()}")
    return of_cupy


def nowhere(size: int, dtype: str) -> cupy.ndarray:
    """An array without memory."""
    memory = cupy.cuda.UnownedMemory(1, 8 * size, None, 0)
    return cupy.ndarray((size,), dtype, cupy.cuda.MemoryPointer(memory, 0))


def source(kernel: Any, small: bool) -> str:
    """What CuPy would compile for contiguous arrays; `small`: of less than 2^31 elements."""
    arguments = [
        _kernel._ArgInfo(INDEXER, _carray.Indexer, None, 1, True, small)
        if parameter.name == "_ind"
        else _kernel._ArgInfo(SCALAR, CScalar, parameter.dtype, 0, True, True)
        if NUMBERS.fullmatch(parameter.name)
        else _kernel._ArgInfo(ARRAY, cupy.ndarray, parameter.dtype, 1, True, small)
        for parameter in kernel.params
    ]
    n_in = len(kernel.in_params)
    inputs, outputs = (tuple(p.dtype for p in part) for part in (kernel.params[:n_in], kernel.params[n_in:-1]))
    *_, types = kernel._decide_params_type(inputs, outputs)
    parts = (tuple(arguments), types, kernel.params, kernel.operation, kernel.name, kernel.preamble)
    code = _kernel._get_elementwise_kernel_code(*parts, **kernel.kwargs)
    return "".join(f"#include <{header}>\n" for header in core._cupy_header_list) + code


def binary(code: str, architecture: str) -> bytes:
    """The machine code for one kind of GPU; raises CuPy's CompileException, which holds the compiler's words."""
    fixed = ("-ftz=true", "--device-as-default-execution-space", f"-arch={architecture}")
    options = core.assemble_cupy_compiler_options(()) + fixed
    program = compiler._NVRTCProgram(code, "kernel.cu", name_expressions=None, method="cubin")
    return program.compile(options)[0]


if __name__ == "__main__":
    for kernel in all_kernels():
        for small in (True, False):
            for architecture in sys.argv[1:]:
                size = len(binary(source(kernel, small), architecture))
                sys.stdout.write(f"{kernel.name} {architecture} {'small' if small else 'large'} {size}\n")
