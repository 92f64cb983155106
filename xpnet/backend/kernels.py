"""The package's hand-written CUDA; each piece has a reference that is written in array operations."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from xpnet.backend.fusion import FusedChain
from xpnet.backend.random import MULTIPLIER, ROUNDS, WEYL

# The reference is `random.philox_blocks`; `st` is its state: two words of key, four of counter.
PHILOX = f"""
__device__ inline void philox_count(const unsigned long long* st, unsigned long long steps,
                                    unsigned long long c[4]) {{
  c[0] = st[2] + steps; c[1] = st[3]; c[2] = st[4]; c[3] = st[5];
  if (c[0] < steps && ++c[1] == 0 && ++c[2] == 0) ++c[3];
}}
__device__ inline void philox_block(const unsigned long long* st, unsigned long long steps,
                                    unsigned long long c[4]) {{
  unsigned long long k0 = st[0], k1 = st[1];
  philox_count(st, steps, c);
  #pragma unroll
  for (int round = 0; round < {ROUNDS}; ++round) {{
    if (round) {{ k0 += {WEYL[0]:#x}ULL; k1 += {WEYL[1]:#x}ULL; }}
    unsigned long long h0 = __umul64hi({MULTIPLIER[0]:#x}ULL, c[0]), l0 = {MULTIPLIER[0]:#x}ULL * c[0];
    unsigned long long h1 = __umul64hi({MULTIPLIER[1]:#x}ULL, c[2]), l1 = {MULTIPLIER[1]:#x}ULL * c[2];
    c[0] = h1 ^ c[1] ^ k0; c[1] = l1; c[2] = h0 ^ c[3] ^ k1; c[3] = l0;
  }}
}}
"""

UNIFORM32 = """
unsigned long long word[4];
philox_block(&state[0], (unsigned long long)i + 1, word);
for (int j = 0; j < 8; ++j) {
  unsigned int half = (unsigned int)(word[j >> 1] >> (32 * (j & 1)));
  long long at = 8 * (long long)i + j;
  if (at < n) u[at] = (float)(half >> 8) * (1.0f / 16777216.0f);
}
"""

UNIFORM64 = """
unsigned long long word[4];
philox_block(&state[0], (unsigned long long)i + 1, word);
for (int j = 0; j < 4; ++j) {
  long long at = 4 * (long long)i + j;
  if (at < n) u[at] = (double)(word[j] >> 11) * (1.0 / 9007199254740992.0);
}
"""

SKIP = """
unsigned long long c[4];
philox_count(&state[0], steps, c);
for (int j = 0; j < 4; ++j) state[2 + j] = c[j];
"""

# The reference is `precision.to_bfloat16`.
BFLOAT16 = """
unsigned int bits = __float_as_uint(x);
y = (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
"""


@cache
def philox_uniform(dtype: np.dtype) -> Any:
    """kernel(state, n, u, size=blocks): thread i draws block i, n uniform numbers in all."""
    import cupy as cp

    single = dtype == np.float32
    return cp.ElementwiseKernel(
        "raw uint64 state, int64 n",
        f"raw {'float32' if single else 'float64'} u",
        UNIFORM32 if single else UNIFORM64,
        f"xpnet_philox_{dtype}",
        preamble=PHILOX,
    )


@cache
def philox_skip() -> Any:
    """kernel(steps, state, size=1): the counter in `state` moves on by `steps` blocks."""
    import cupy as cp

    return cp.ElementwiseKernel("uint64 steps", "raw uint64 state", SKIP, "xpnet_philox_skip", preamble=PHILOX)


@cache
def bfloat16() -> Any:
    """kernel(x, y): the bits of x rounded to bfloat16."""
    import cupy as cp

    return cp.ElementwiseKernel("float32 x", "uint16 y", BFLOAT16, "xpnet_bfloat16")


@cache
def elementwise(inputs: str, outputs: str, source: str) -> Any:
    """kernel(*inputs, *outputs) of a chain (`fusion.py`), whose reference is the function that it was traced from."""
    import cupy as cp

    return cp.ElementwiseKernel(inputs, outputs, source, "xpnet_fused")


def launch(chain: FusedChain) -> list[Any]:
    """Compute the chain in one launch; return its new arrays."""
    import cupy as cp

    made = [cp.empty(chain.shape, chain.lines[line].dtype) for line in chain.made]
    inputs, outputs = chain.parameters()
    read, written = ([chain.arrays[place] for place in places] for places in chain.read_and_written)
    elementwise(inputs, outputs, chain.source())(*read, *chain.numbers, *written, *made)
    return made
