"""The hand-written CUDA, without a GPU: NVRTC compiles it for several, and as C++ it computes NumPy's numbers."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cupy_wheel import run_with_cupy

import xpnet
from xpnet.backend import kernels
from xpnet.backend.precision import to_bfloat16
from xpnet.backend.random import numbers_per_block

ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
MAX = 2**64 - 1
LONGEST = 4099

AS_CPP = f"""
#include <cstring>
#define __device__
static inline unsigned int __float_as_uint(float x) {{
  unsigned int bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {{
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}}
{kernels.PHILOX}
extern "C" void uniform32(unsigned long long* state, long long n, float* u, long long size) {{
  for (long long i = 0; i < size; ++i) {{ {kernels.UNIFORM32} }}
}}
extern "C" void uniform64(unsigned long long* state, long long n, double* u, long long size) {{
  for (long long i = 0; i < size; ++i) {{ {kernels.UNIFORM64} }}
}}
extern "C" void skip(unsigned long long steps, unsigned long long* state) {{ {kernels.SKIP} }}
extern "C" void bfloat16(const float* from, unsigned short* to, long long size) {{
  for (long long i = 0; i < size; ++i) {{ float x = from[i]; unsigned short y; {kernels.BFLOAT16} to[i] = y; }}
}}
"""


def test_every_kernel_compiles_for_every_gpu():
    done = run_with_cupy(Path(__file__).with_name("compile_kernels.py"), *ARCHITECTURES)
    if "DynamicLibNotFoundError" in done.stderr:
        pytest.skip("NVRTC is not installed (pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12)")
    assert done.returncode == 0, done.stderr
    compiled = [line.split() for line in done.stdout.splitlines()]
    names = Counter(name for name, *_ in compiled)
    each = 2 * len(ARCHITECTURES)
    once = ["xpnet_philox_float32", "xpnet_philox_float64", "xpnet_philox_skip", "xpnet_bfloat16"]
    assert names == {**dict.fromkeys(once, each), "xpnet_fused": 2 * each}  # of each dtype
    assert all(int(size) > 1000 for *_, size in compiled)


def test_all_cuda_is_in_one_file():
    package = Path(xpnet.__file__).parent
    made_of_source = ("ElementwiseKernel(", "ReductionKernel(", "RawKernel(", "RawModule(", "__global__")
    with_cuda = [p.name for p in package.rglob("*.py") if any(word in p.read_text("utf-8") for word in made_of_source)]
    assert with_cuda == ["kernels.py"]  # what is elsewhere, compile_kernels.py does not compile


@pytest.fixture(scope="module")
def device_code(tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is neither g++ nor clang++")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "kernels.cpp").write_text(AS_CPP)
    command = [compiler, "-O1", "-w", "-shared", "-fPIC", "kernels.cpp", "-o", "kernels.so"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return ctypes.CDLL(str(folder / "kernels.so"))


def uniform(code: ctypes.CDLL, state: np.ndarray, n: int, dtype: type) -> np.ndarray:
    """What the kernel writes for n numbers, with eight more places behind them."""
    numbers = np.full(n + 8, -1, dtype)
    function = code.uniform32 if dtype is np.float32 else code.uniform64
    blocks = -(-n // numbers_per_block(np.dtype(dtype)))
    pointer = ctypes.c_void_p
    function(pointer(state.ctypes.data), ctypes.c_longlong(n), pointer(numbers.ctypes.data), ctypes.c_longlong(blocks))
    return numbers


def numpys(state: np.ndarray, n: int, dtype: type) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=state[:2], counter=state[2:])).random(n, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_length_is_numpys_and_nothing_is_written_behind_it(device_code, dtype):
    state = np.array([0x0123456789ABCDEF, 0xFEDCBA9876543210, MAX - 200, MAX, MAX, 6], np.uint64)
    expected = np.append(numpys(state, LONGEST, dtype), np.full(8, -1, dtype))
    for n in range(1, LONGEST + 1):
        numbers = uniform(device_code, state, n, dtype)
        assert np.array_equal(numbers[:n], expected[:n]), f"length {n}"
        assert (numbers[n:] == -1).all(), f"length {n}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "counter", [(0, 0, 0, 0), (MAX, 0, 0, 0), (MAX - 1, MAX, 0, 0), (MAX, MAX, MAX, 0), (MAX - 2, MAX, MAX, MAX)]
)
def test_counters_that_carry(device_code, counter, dtype):
    state = np.array([3, MAX, *counter], np.uint64)
    assert np.array_equal(uniform(device_code, state, 101, dtype)[:101], numpys(state, 101, dtype))


@pytest.mark.parametrize("steps", [0, 1, 2, 2**63, MAX])
@pytest.mark.parametrize("counter", [(0, 0, 0, 0), (MAX, 4, 5, 6), (MAX, MAX, 5, 6), (MAX, MAX, MAX, MAX)])
def test_the_counter_moves_on(device_code, counter, steps):
    state = np.array([8, 9, *counter], np.uint64)
    device_code.skip(ctypes.c_ulonglong(steps), ctypes.c_void_p(state.ctypes.data))
    expected = (sum(word << (64 * i) for i, word in enumerate(counter)) + steps) % 2**256
    assert [int(word) for word in state] == [8, 9, *((expected >> (64 * i)) & MAX for i in range(4))]


def test_bfloat16_is_rounded_as_the_reference_does(device_code):
    """All upper halves, each with lower halves around the middle: NaNs, infinities and denormals among them."""
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    x = ((np.arange(2**16, dtype=np.uint32) << 16)[:, None] | lower).ravel().view(np.float32)
    y = np.full(x.size, 12345, np.uint16)
    pointer = ctypes.c_void_p
    device_code.bfloat16(pointer(x.ctypes.data), pointer(y.ctypes.data), ctypes.c_longlong(x.size))
    np.testing.assert_array_equal(y, to_bfloat16(x, np))
