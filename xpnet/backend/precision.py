"""Mixed precision: matrix products of 16-bit numbers, and everything else in float32.

A backend with a `precision` rounds both operands of `matmul` to 16 bits, adds their products up in float32 and gives
a float32 result. Parameters, gradients, optimizer state, activations, reductions, softmax, norms and losses stay
float32, and layers need no code for it. Micikevicius et al., "Mixed precision training" (2018).

Why activations are not 16 bits too: most of the time goes into products, and rounding their operands costs little in
comparison. By the data sheet of an H200 (990 TFLOP/s in 16 bits, 67 in float32, 4.8 TB/s of memory) a product of two
4096 x 4096 matrices takes 2.1 ms in float32 and 0.14 ms in 16 bits; rounding its operands (4 bytes read, 2 written)
takes 0.04 ms. Activations of 16 bits would save those 0.04 ms and half of the activations' memory, but each layer would
have to say which of its steps need float32. So mixed precision makes large products faster here. It saves no memory,
and small networks, whose time goes into kernel launches, gain nothing. None of this has been measured on a GPU yet.

float16 has 11 significant bits, and its largest number is 65,504. Small gradients become 0 in it, so it is used with a
loss scale (`optim/loss_scale.py`). bfloat16 has the range of float32 and 8 significant bits; it needs no loss scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PRECISIONS = ("float16", "bfloat16")


def check_precision(precision: str, dtype: np.dtype, offered: tuple[str, ...], device: str) -> None:
    """Raise ValueError unless `precision` is among those that the device has (`offered`) and `dtype` is float32."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}, or leave it out")
    if precision not in offered:
        raise ValueError(
            f"precision {precision!r} is for a GPU: NumPy has no fast products of 16 bits, in float32 the {device} is "
            "faster and right to more digits. Leave the precision out, or name the device cuda. To see its effect on a "
            f'network on any machine, use xpnet.verify.strict.StrictBackend(precision="{precision}")'
        )
    if dtype != np.float32:
        raise ValueError(f"precision {precision!r} rounds float32: it does not go with dtype {dtype}")


def to_bfloat16(a: Any, xp: Any) -> Any:
    """The bits (uint16) of a float32 array rounded to bfloat16, to nearest, ties to even.

    bfloat16 is the upper half of float32. Adding 0x7fff, and 1 more if the upper half is odd, carries into that half
    exactly where it must be rounded up; the largest numbers become infinity in this way. The carry would turn some NaNs
    into 0, so all NaNs are replaced by one fixed NaN.
    """
    bits = a.view(xp.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return xp.where(xp.isnan(a), 0x7FC0, rounded).astype(xp.uint16)


def widened(a: np.ndarray) -> np.ndarray:
    """16-bit numbers on the host (float16, or bfloat16 as uint16 bits) as float32, which holds them exactly."""
    return (a.astype(np.uint32) << 16).view(np.float32) if a.dtype == np.uint16 else a.astype(np.float32)
