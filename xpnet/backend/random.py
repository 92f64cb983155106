"""The random stream that gives every device the same numbers: Philox4x64-10, counter-based.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Word w of the stream is a
function of (key, counter + 1 + w // 4) alone, so any number of threads can compute any part of it in any order.
It is bit for bit `numpy.random.Philox`: on the CPU it *is* NumPy's; other devices use the array operations below or
a kernel (`kernels.py`), which are tested to give the same bits.

Every call of `random` starts at a new block of four words and leaves the counter after the last block used. So
a draw depends on the seed and on the sizes of the draws before it, and on nothing else.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np

MULTIPLIER = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10


def host_generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """A generator for draws on the host, independent for every (seed, purpose, index)."""
    entropy = [seed, zlib.crc32(purpose.encode()), index]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def numbers_per_block(dtype: np.dtype) -> int:
    """How many uniform numbers a block of four 64-bit words gives: eight of float32, four of float64."""
    return 8 if np.dtype(dtype) == np.float32 else 4


class Philox:
    """The interface of a backend's `rng`."""

    state: Any  # uint64[6] on the host: key (2 words), counter (4 words, low first)

    @property
    def xp(self) -> Any:
        return np

    def random(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Uniform numbers in [0, 1): float32 multiples of 2^-24, float64 multiples of 2^-53."""
        raise NotImplementedError(f"{type(self).__name__} draws no numbers")

    def standard_normal(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Normal numbers of mean 0 and standard deviation 1: sqrt(-2 ln(1 - u)) cos(2 pi v) of uniform u and v (Box
        and Muller, 1958). Up to rounding the same on every device; at most 5.8 from 0 in float32, 8.6 in float64."""
        xp, uv = self.xp, self.random((2, *shape), dtype)
        return xp.sqrt(-2 * xp.log1p(-uv[0])) * xp.cos(2 * math.pi * uv[1])


class HostPhilox(Philox):
    """The stream on the CPU, drawn by NumPy itself."""

    def __init__(self, seed: int):
        self._bits = np.random.Philox(seed)
        self._generator = np.random.Generator(self._bits)

    def random(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        numbers = self._generator.random(shape, dtype=np.dtype(dtype).type)
        self._bits.advance(0)  # drop what is left of the last block
        return numbers

    @property
    def state(self) -> np.ndarray:
        state: Any = self._bits.state["state"]
        return np.concatenate([state["key"], state["counter"]])

    @state.setter
    def state(self, words: np.ndarray) -> None:
        words = np.asarray(words, np.uint64)
        state: Any = np.random.Philox(key=words[:2], counter=words[2:]).state
        self._bits.state = state


class DevicePhilox(Philox):
    """The stream computed by array operations of any `xp`.

    Its state is an array on the device, updated in place, so that a step that is captured and replayed draws new
    numbers each time.
    """

    def __init__(self, seed: int, backend: Any):
        self._backend = backend
        self._state = backend._upload(HostPhilox(seed).state)

    @property
    def xp(self) -> Any:
        return self._backend.xp

    @property
    def state(self) -> np.ndarray:
        return self._backend.to_host(self._state).copy()

    @state.setter
    def state(self, words: np.ndarray) -> None:
        self._state[...] = self._backend._upload(np.asarray(words, np.uint64))

    def random(self, shape: tuple[int, ...], dtype: Any) -> Any:
        dtype, size = np.dtype(dtype), math.prod(shape)
        if dtype not in (np.float32, np.float64):  # NumPy raises these errors on the CPU
            raise TypeError(f"random numbers are float32 or float64, not {dtype}")
        if min(shape, default=0) < 0:
            raise ValueError(f"negative dimensions are not allowed: {shape}")
        n_blocks = -(-size // numbers_per_block(dtype))
        numbers = self._uniform(size, n_blocks, dtype) if size else self.xp.empty(0, dtype)
        self._skip(n_blocks)
        return numbers.reshape(shape)

    def _uniform(self, size: int, n_blocks: int, dtype: np.dtype) -> Any:
        xp = self.xp
        words = philox_blocks(xp, self._state, n_blocks)
        if dtype == np.float32:  # NumPy uses the low half of a word first, and of a half its upper 24 bits
            halves = xp.stack([words & 0xFFFFFFFF, words >> 32], axis=-1).reshape(-1)[:size]
            return (halves >> 8).astype(np.float32) * 2.0**-24
        return (words[:size] >> 11).astype(np.float64) * 2.0**-53

    def _skip(self, n_blocks: int) -> None:
        self._state[2:] = self.xp.concatenate(counters_after(self._state, n_blocks))


def counters_after(state: Any, steps: Any) -> tuple[Any, Any, Any, Any]:
    """The four words of the stream's 256-bit counter, `steps` further on (a number, or an array of them)."""
    c0 = state[2:3] + steps
    carry = c0 < steps
    c1 = state[3:4] + carry
    carry = carry & (c1 == 0)
    c2 = state[4:5] + carry
    carry = carry & (c2 == 0)
    return c0, c1, c2, state[5:6] + carry


def philox_blocks(xp: Any, state: Any, n_blocks: int) -> Any:
    """The words of the next `n_blocks` blocks, uint64 of shape (4 n_blocks,). Like NumPy it counts before it draws."""
    index = xp.arange(1, n_blocks + 1, dtype=np.uint64)
    c0, c1, c2, c3 = counters_after(state, index)
    k0, k1 = state[0:1], state[1:2]
    for round_ in range(ROUNDS):
        if round_:
            k0, k1 = k0 + WEYL[0], k1 + WEYL[1]
        high0, low0 = multiply_wide(c0, MULTIPLIER[0])
        high1, low1 = multiply_wide(c2, MULTIPLIER[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return xp.stack([c0, c1, c2, c3], axis=-1).reshape(-1)


def multiply_wide(a: Any, b: int) -> tuple[Any, Any]:
    """The high and the low 64 bits of a * b, from 32-bit halves: a = a1 2^32 + a0, b = b1 2^32 + b0."""
    a0, a1, b0, b1 = a & 0xFFFFFFFF, a >> 32, b & 0xFFFFFFFF, b >> 32
    middle = a1 * b0 + ((a0 * b0) >> 32)  # below 2^64: (2^32-1)^2 + 2^32 - 1
    lower = a0 * b1 + (middle & 0xFFFFFFFF)
    return a1 * b1 + (middle >> 32) + (lower >> 32), a * b
