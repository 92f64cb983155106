"""Compile every CUDA kernel of the package for several GPUs, without a GPU: prints a line for each that compiles.

python compile_kernels.py sm_75 sm_80 sm_90

The source is the very one that CuPy would launch. CuPy's public way to it asks the driver for the GPU, so this goes
through private parts of CuPy 14.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import cupy
import numpy as np
from cupy._core import _carray, _kernel, core
from cupy._core._scalar import CScalar
from cupy.cuda import compiler

from xpnet.backend import kernels

ARRAY, INDEXER, SCALAR = 1, 2, 3  # CuPy's numbers for kinds of arguments
NUMBERS = {"n", "steps"}  # parameters of kernels that are given plain numbers


def all_kernels() -> Iterator[Any]:
    """Each kernel of `kernels.py`, for each dtype."""
    for _, make in inspect.getmembers(kernels, lambda member: hasattr(member, "cache_info")):
        takes_dtype = bool(inspect.signature(make).parameters)
        yield from (make(np.dtype(t)) for t in ("float32", "float64")) if takes_dtype else (make(),)


def source(kernel: Any, small: bool) -> str:
    """What CuPy would compile for contiguous arrays; `small`: of less than 2^31 elements."""
    arguments = [
        _kernel._ArgInfo(INDEXER, _carray.Indexer, None, 1, True, small)
        if parameter.name == "_ind"
        else _kernel._ArgInfo(SCALAR, CScalar, parameter.dtype, 0, True, True)
        if parameter.name in NUMBERS
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
