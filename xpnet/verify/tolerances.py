"""Every tolerance of the package, each with its reason. No other file may define one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]

STEPS = (1e-6, 1e-7, 1e-8)
"""How far a gradient check moves its inputs. The error of a central difference is step^2 from what it cuts off and
2^-53 / step from rounding: both are small with the first. The others are for right gradients near kinks."""

GRADIENT = 1e-7
"""A gradient check against the sum of the sizes of all its terms: some thousand times its usual error, and far below
what a single wrong term does, as every term is of the size of all others."""

FLOAT64 = 1e-12
"""Two float64 computations of the same formula, against the largest number of the tensor: a hundred roundings of 2^-53
at most pile up in sums as short as the cases have."""

FLOAT32 = 1e-6
"""Sixteen roundings of float32 (2^-24 each). `rounding` says against what."""

SETTLED = 1e-2
"""Outputs in evaluation against those in training, once running statistics have settled on one batch, against the
largest of them. Whether a variance is divided by n or n - 1 makes 0.2 % there; a forgotten factor makes much more."""

LOSS_CURVE = 1e-4
"""The relative gap of two loss curves from the same seed, over the first 50 steps or so. Rounding grows with each step:
between float32 and float64 it came to 1e-6 in small networks. A gradient that is wrong by a tenth comes to 1e-2 after
ten steps of SGD."""

SURE = 1e-2
"""A cross-entropy below this is compared as a fraction of this: in float32 it is the logarithm of a sum near 1, or the
difference of numbers of the size of the logits, and so off by some 2^-24 times these, however small it is."""

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The machine epsilon of what the operands of products are rounded to: of each, by half of that at most."""

SUM = 0.42 * 2.0**-24
"""What float32 does to a number by rounding it once, as a fraction of it: 2^-24 at most, 0.42 of that in the root mean
square (the error is anywhere within half a last place, the number anywhere between two powers of 2)."""

DEVIATIONS = 5
"""How many standard deviations of such errors are rounding: of a million sums, less than one is off by more."""

LONG = 64
"""Sums of so few terms, added up in any order, are right to FLOAT32 of their terms: nothing is measured for them."""

DRAWS = 6  # random perturbations in `rounding` and `product_rounding`
SUM_DRAWS = 16  # random perturbations in `summing`


def rounding(run: Callable[[Arrays], Arrays], values: Arrays, result: Arrays) -> Arrays:
    """How far each number of a float32 `run(values)` may be from the float64 `result`.

    A relative error is meaningless where large terms cancel: 1 - 0.9999999 has no correct digit in float32. The measure
    is therefore how much each number of the result changes when every input is perturbed by a relative 1e-6, up or down
    at random (the root mean square over a few such perturbations). For a product of matrices this is
    1e-6 sqrt(2 sum (a b)^2), and so at most 1.5e-6 |row| |column|; for an elementwise function it is 1e-6 |x f'(x)|.
    1e-6 times the largest number of the tensor is added, for the rounding of intermediate results.

    Some sums cancel for any input: the gradient of a bias before a BatchNorm is 0. Perturbed inputs do not show how
    large the terms of such a sum are, so `run` may perturb the terms too (`passes.MovedSums`). How large the partial
    sums of a long sum are is not measured here, but in `summing`.
    """
    rng = np.random.default_rng(0)
    square = {name: np.zeros(r.shape) for name, r in result.items()}
    for _ in range(DRAWS):
        changed = {name: moved(v, FLOAT32, rng) for name, v in values.items() if _real(v)}
        for name, r in run({**values, **changed}).items():
            square[name] += (r - result[name]) ** 2
    return {name: np.sqrt(s / DRAWS) + scaled(FLOAT32, result[name]) for name, s in square.items()}


def summing(run: Callable[[int], Arrays], result: Arrays) -> Arrays:
    """How far each number of a float32 pass may be from the float64 `result` because partial sums are rounded.

    `run(draw)` gives the same pass in float64, with every sum of products perturbed, up or down at random, by the
    standard deviation of its error (`passes.MovedTotals`), or {} if no sum is long. The perturbations are as small as
    the errors of a real pass: larger ones would flip the sign of more ReLU inputs. The measure is DEVIATIONS times the
    square root of two parts: the mean square change of the number itself, and that of all numbers of its tensor, as few
    draws may miss a single number.
    """
    square = {name: np.zeros(r.shape) for name, r in result.items()}
    for draw in range(SUM_DRAWS):
        changed = run(draw)
        if not changed:
            break
        for name, r in changed.items():
            square[name] += (r - result[name]) ** 2 / SUM_DRAWS
    return {name: DEVIATIONS * np.sqrt(s + s.sum() / max(s.size, 1)) for name, s in square.items()}


def product_rounding(run: Callable[[int], Arrays], result: Arrays) -> Arrays:
    """How far each number may be from `result` because the operands of products are rounded to 16 bits.

    `run(draw)` gives the same pass in float64, with every operand of every product perturbed by the machine epsilon, up
    or down at random. That is twice the maximum rounding error and about four times its average. The measure is the
    largest change of the number in a few such runs (where a ReLU input changes its sign, few numbers change much). The
    largest change of any number of the tensor is added, as six draws may miss a number. Results that depend on no
    product do not change: they must be correct to float32.
    """
    change = {name: np.zeros(r.shape) for name, r in result.items()}
    for draw in range(DRAWS):
        for name, r in run(draw).items():
            np.maximum(change[name], np.abs(r - result[name]), out=change[name])
    return {name: c + scaled(1.0, c) for name, c in change.items()}


def moved(values: np.ndarray, epsilon: float, chance: np.random.Generator) -> np.ndarray:
    """Each number changed by `epsilon` times itself, up or down at random."""
    return values * (1 + epsilon * chance.choice([-1, 1], values.shape))


def scaled(tolerance: float, tensor: np.ndarray) -> np.ndarray:
    """`tolerance` times the largest absolute value in the tensor, as an array of its shape."""
    return np.full(tensor.shape, tolerance * np.abs(tensor).max(initial=0.0))


def _real(values: np.ndarray) -> bool:
    return values.dtype.kind == "f"
